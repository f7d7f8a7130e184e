"""The random choices of a defense: whether they can be listed, and whether several fit into one pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from art_ext.nn.randomness import FiniteRandomness, choose, choosing, outcomes_of, release

__all__ = ["MOST_OUTCOMES", "FiniteRandomness", "choosing", "enumerating", "independent", "outcomes_of"]

MOST_OUTCOMES = 64  # of all parts together that are listed, our decision: beyond, draws are cheaper
_COPIES, _EXAMPLES = 16, 4
_INDEPENDENT = 0.5  # variance within a pass over that between passes, from which on draws count as independent


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
            choose(module, passes)
            passes += 1
        else:
            release(module)

    handle = model.register_forward_pre_hook(before)
    try:
        yield
    finally:
        handle.remove()
        release(model)


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
