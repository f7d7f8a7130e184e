"""Attacks on tensors: the PGD loop, FGSM, the objectives they maximise, and the parts of AutoAttack."""

from art_ext.attacks.apgd import apgd
from art_ext.attacks.cw import cw
from art_ext.attacks.fab import fab
from art_ext.attacks.inner import InnerPGD
from art_ext.attacks.objectives import OBJECTIVES, Objective, get_objective
from art_ext.attacks.pgd import fgsm, input_gradient, pgd
from art_ext.attacks.spatial import spatial
from art_ext.attacks.square import square

__all__ = [
    "OBJECTIVES",
    "InnerPGD",
    "Objective",
    "apgd",
    "cw",
    "fab",
    "fgsm",
    "get_objective",
    "input_gradient",
    "pgd",
    "spatial",
    "square",
]
