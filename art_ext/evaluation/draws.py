"""The random choices of a defense: whether they can be listed, and whether several fit into one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from art_ext.bpda import parts

MOST_OUTCOMES = 64  # of all parts together that are listed, our decision: beyond, draws are cheaper
_COPIES, _EXAMPLES = 16, 4
_INDEPENDENT = 0.5  # variance within a pass over that between passes, from which on draws count as independent


@runtime_checkable
class FiniteRandomness(Protocol):
    """A part of a defense whose random choices can be listed: ``outcomes`` of them, all equally likely.

    An evaluation then averages gradients over all of them and judges by all of them, instead of by draws.

    Example:
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
def enumerating(model: nn.Module) -> Iterator[None]:
    """The k-th pass with gradients, of ``model`` or a copy that shares its hooks, takes the k-th outcome.

    So any ``outcomes_of(model)`` of them in a row are all of them, from the first outcome on in each block. Passes
    without gradients choose at random, as all do afterwards.

    Example:
        >>> class Shift(nn.Module):
        ...     outcomes, chosen = 3, None
        ...     def choose(self, outcome):
        ...         self.chosen = outcome
        ...     def forward(self, x):
        ...         return x + self.chosen
        >>> shift = Shift()
        >>> with enumerating(shift):
        ...     [shift(torch.zeros(1)).item() for _ in range(4)]
        [0.0, 1.0, 2.0, 0.0]
    """
    passes = 0

    def before(module: nn.Module, _: object) -> None:
        nonlocal passes
        if torch.is_grad_enabled():
            _choose(module, passes)
            passes += 1
        else:
            _release(module)

    handle = model.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
        _release(model)


@contextmanager
def choosing(model: nn.Module, outcome: int) -> Iterator[None]:
    """All passes inside the block take one outcome."""
    _choose(model, outcome)
    try:
        yield
    finally:
        _release(model)


@torch.no_grad()
def independent(model: nn.Module, x: Tensor, *, rows: int = 64) -> bool:
    """Whether ``model`` draws for each example by itself, so that several copies in one pass are several draws.

    The variance of the logits over copies within a pass is compared with that over passes; a choice that is made once
    for the whole batch shows in the latter only.

    Args:
        model: a randomised model in eval mode.
        x: some inputs (N, ...).
        rows: most examples in a pass; below 4 nothing can be compared, and draws do not count as independent.
    """
    few = x[: max(1, min(_EXAMPLES, rows // _COPIES))]
    copies = min(_COPIES, rows // len(few))
    if copies < 4:
        return False
    within = model(few.repeat(copies, *[1] * (few.ndim - 1))).unflatten(0, (copies, len(few))).var(0).mean()
    between = torch.stack([model(few) for _ in range(copies)]).var(0).mean()
    return bool(within > _INDEPENDENT * between)


def _finite(model: nn.Module) -> list[FiniteRandomness]:
    return [part for part in parts(model) if isinstance(part, FiniteRandomness)]


def _release(model: nn.Module) -> None:
    for part in _finite(model):
        part.choose(None)


def _choose(model: nn.Module, number: int) -> None:
    """The outcome with this number, counted with the first part as the lowest digit."""
    for part in _finite(model):
        number, outcome = divmod(number, part.outcomes)
        part.choose(outcome)
