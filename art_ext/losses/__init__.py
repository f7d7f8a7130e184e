"""Training losses: pure functions of tensors, and the registry of losses the trainers know by name."""

from art_ext.losses.alp import ALP, alp
from art_ext.losses.base import LOSSES, FunctionLoss, Loss, LossOutput, get_loss, register
from art_ext.losses.cfa import CFA, CFAAT, cfa
from art_ext.losses.mail import MAIL, MAILMART, MAILTRADES, mail
from art_ext.losses.mart import MART, mart
from art_ext.losses.nmse import NMSE, nmse
from art_ext.losses.pgd_at import PGDAT
from art_ext.losses.rat import RAT, rat
from art_ext.losses.trades import TRADES, trades

__all__ = [
    "ALP",
    "CFA",
    "CFAAT",
    "LOSSES",
    "MAIL",
    "MAILMART",
    "MAILTRADES",
    "MART",
    "NMSE",
    "PGDAT",
    "RAT",
    "TRADES",
    "FunctionLoss",
    "Loss",
    "LossOutput",
    "alp",
    "cfa",
    "get_loss",
    "mail",
    "mart",
    "nmse",
    "rat",
    "register",
    "trades",
]
