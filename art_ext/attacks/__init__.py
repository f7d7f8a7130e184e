"""Attacks on tensors: the PGD loop, FGSM and the objectives they maximise."""

from art_ext.attacks.objectives import OBJECTIVES, Objective, get_objective
from art_ext.attacks.pgd import fgsm, input_gradient, pgd

__all__ = ["OBJECTIVES", "Objective", "fgsm", "get_objective", "input_gradient", "pgd"]
