"""Detectors of attacked images, in the manner of ART's, and what an attacker who knows them leaves of them."""

from art_ext.detectors.adaptive import evade
from art_ext.detectors.confusion import ConfusionReport, confusion
from art_ext.detectors.evasion import EvasionReport, evasion
from art_ext.detectors.families import FAMILIES, Craft, attack_families
from art_ext.detectors.forensics import AttackForensics
from art_ext.detectors.unseen import unseen_attacks

__all__ = [
    "FAMILIES",
    "AttackForensics",
    "ConfusionReport",
    "Craft",
    "EvasionReport",
    "attack_families",
    "confusion",
    "evade",
    "evasion",
    "unseen_attacks",
]
