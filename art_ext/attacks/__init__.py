"""Attacks on tensors: the PGD loop, FGSM, the objectives they maximise, and the parts of AutoAttack."""

from art_ext.attacks.apgd import apgd
from art_ext.attacks.cw import cw
from art_ext.attacks.fab import fab
from art_ext.attacks.fgsm_rs import FGSMRS
from art_ext.attacks.inner import InnerPGD
from art_ext.attacks.mixed import MixedAdversaries, equal_volume_radius, mixed_pgd
from art_ext.attacks.objectives import OBJECTIVES, Objective, get_objective
from art_ext.attacks.pgd import fgsm, input_gradient, pgd
from art_ext.attacks.registry import INNER_ATTACKS, make_inner_attack
from art_ext.attacks.spatial import spatial
from art_ext.attacks.square import square

__all__ = [
    "FGSMRS",
    "INNER_ATTACKS",
    "OBJECTIVES",
    "InnerPGD",
    "MixedAdversaries",
    "Objective",
    "apgd",
    "cw",
    "equal_volume_radius",
    "fab",
    "fgsm",
    "get_objective",
    "input_gradient",
    "make_inner_attack",
    "mixed_pgd",
    "pgd",
    "spatial",
    "square",
]
