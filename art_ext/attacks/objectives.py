"""Objectives: what an attack maximises, one number per example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from art_ext.naming import lookup
from art_ext.scores import ce, dlr, kl, margin


@dataclass(frozen=True)
class Objective:
    """A differentiable score (logits (N, C), target) -> (N,) that an attack maximises.

    ``target`` is the label vector (N,) int64, or, where ``on_reference`` is set, the logits (N, C) of the clean
    inputs, which the attack computes once with one extra forward.
    """

    name: str
    description: str
    score: Callable[[Tensor, Tensor], Tensor]
    on_reference: bool = False

    def __call__(self, logits: Tensor, target: Tensor) -> Tensor:
        """The score of each example, shape (N,)."""
        return self.score(logits, target)


OBJECTIVES = {
    o.name: o
    for o in (
        Objective("ce", "cross entropy with the label", ce),
        Objective("kl", "KL divergence from the clean prediction (TRADES)", kl, on_reference=True),
        Objective("margin", "best wrong logit minus the true one (CW)", margin),
        Objective("dlr", "margin over the spread of the top three logits (AutoAttack)", dlr),
    )
}


def get_objective(objective: str | Objective | Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """The objective of that name; an `Objective` as it is; a function (logits, y) -> (N,) wrapped.

    Raises:
        ValueError: unknown name (the nearest one is proposed).

    Example:
        >>> import torch
        >>> get_objective("margin")(torch.tensor([[2.0, 5.0, 1.0]]), torch.tensor([0]))
        tensor([3.])
    """
    if isinstance(objective, Objective):
        return objective
    if callable(objective):
        return Objective(getattr(objective, "__name__", "custom"), "given by the user", objective)
    return lookup(OBJECTIVES, objective, what="objective")
