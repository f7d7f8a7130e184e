"""Random choices that can be listed: which parts of a network have them, and how to fix them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Protocol, runtime_checkable

from torch import nn

from art_ext.bpda import parts


@runtime_checkable
class FiniteRandomness(Protocol):
    """A part of a defense whose random choices can be listed: ``outcomes`` of them, all equally likely.

    An evaluation then averages gradients over all of them and judges by all of them, instead of by draws.

    Example:
        >>> import torch
        >>> class Flipping(nn.Module):
        ...     outcomes, chosen = 2, None
        ...     def choose(self, outcome):
        ...         self.chosen = outcome
        ...     def forward(self, x):
        ...         flips = torch.rand(()) < 0.5 if self.chosen is None else self.chosen
        ...         return x.flip(-1) if flips else x
        >>> isinstance(Flipping(), FiniteRandomness)
        True
    """

    outcomes: int

    def choose(self, outcome: int | None) -> None:
        """Make this choice, in [0, outcomes), in all passes from now on; None: at random again."""


def outcomes_of(model: nn.Module) -> int:
    """How many outcomes the finite randomness of all parts has together; 1 without any."""
    return prod(part.outcomes for part in _finite(model))


@contextmanager
def choosing(model: nn.Module, outcome: int) -> Iterator[None]:
    """All passes inside the block take one outcome."""
    choose(model, outcome)
    try:
        yield
    finally:
        release(model)


def choose(model: nn.Module, number: int) -> None:
    """The outcome with this number from now on, counted with the first part as the lowest digit."""
    for part in _finite(model):
        number, outcome = divmod(number, part.outcomes)
        part.choose(outcome)


def release(model: nn.Module) -> None:
    """All parts choose at random again."""
    for part in _finite(model):
        part.choose(None)


def _finite(model: nn.Module) -> list[FiniteRandomness]:
    return [part for part in parts(model) if isinstance(part, FiniteRandomness)]
