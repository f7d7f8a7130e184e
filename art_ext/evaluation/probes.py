"""Small attacks and measurements of the indicators."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import OBJECTIVES
from art_ext.attacks.pgd import input_gradient
from art_ext.threat import ThreatModel


def pgd_values(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 20,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """One run of PGD on the margin: its values and its errors on the way.

    Returns:
        The margin and whether the example is misclassified, of each iterate from the start on, (steps, N) both.

    Example:
        >>> values, wrong = pgd_values(nn.Linear(4, 3), torch.rand(2, 4), torch.tensor([0, 1]),
        ...                            threat=ThreatModel("linf", 0.1), steps=3)
        >>> values.shape, wrong.dtype
        (torch.Size([3, 2]), torch.bool)
    """
    bounds, size = threat.bounds(x), 2.5 * threat.radius(x) / steps
    x_adv, values, wrong = threat.random_start(x, generator), [], []
    for _ in range(steps):
        grad, value, logits = input_gradient(model, x_adv, y, OBJECTIVES["margin"])
        values.append(value)
        wrong.append(logits.argmax(1) != y)
        x_adv = threat.project_(threat.steepest(grad).mul_(size).add_(x_adv), x, bounds)
    return torch.stack(values), torch.stack(wrong)


def smoothed_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 10,
    copies: int = 4,
    generator: torch.Generator | None = None,
) -> Tensor:
    """PGD on the margin whose gradient is the mean over noisy copies of the iterate; the best iterate comes back.

    The noise is uniform (ℓ∞) or normal (ℓ2) of the size of half the ball, so the surface is smoothed at the scale at
    which the attack moves.

    Example:
        >>> x = torch.rand(2, 4)
        >>> smoothed_pgd(nn.Linear(4, 3), x, torch.tensor([0, 1]), threat=ThreatModel("linf", 0.1)).shape
        torch.Size([2, 4])
    """
    goal, best, found = OBJECTIVES["margin"], torch.full_like(y, -torch.inf, dtype=x.dtype), x.clone()
    noisy = threat.with_eps(torch.as_tensor(threat.eps) / 2)
    bounds, size = threat.bounds(x), 2.5 * threat.radius(x) / steps
    x_adv = threat.random_start(x, generator)
    for _ in range(steps):
        grads = [input_gradient(model, noisy.random_start(x_adv, generator), y, goal)[0] for _ in range(copies)]
        x_adv = threat.project_(threat.steepest(torch.stack(grads).mean(0)).mul_(size).add_(x_adv), x, bounds)
        with torch.no_grad():
            value = goal(model(x_adv), y)
        better = value > best
        found[better], best[better] = x_adv[better], value[better]
    return found


def autograd_calls(model: nn.Module, x: Tensor) -> int:
    """How often ``model`` asks autograd for a gradient in one forward pass."""
    with _watched_autograd() as calls, torch.enable_grad():
        model(x)
    return len(calls)


@contextmanager
def _watched_autograd() -> Iterator[list[str]]:
    """Note each call of `torch.autograd.grad` and of ``backward``; the functions are put back on the way out."""
    calls: list[str] = []
    places: tuple[tuple[Any, str], ...] = (
        (torch.autograd, "grad"),
        (torch.autograd, "backward"),
        (torch.Tensor, "backward"),
    )
    before = [(place, name, getattr(place, name)) for place, name in places]
    try:
        for place, name, function in before:
            setattr(place, name, _noting(calls, name, function))
        yield calls
    finally:
        for place, name, function in before:
            setattr(place, name, function)


def _noting(calls: list[str], name: str, function: Any) -> Any:
    def noting(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        return function(*args, **kwargs)

    return noting
