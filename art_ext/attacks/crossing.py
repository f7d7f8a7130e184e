"""Threshold crossing: moves pixels just over the steps of a quantizer, which is all that a quantizer lets through."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from art_ext.attacks.hunt import Hunt
from art_ext.attacks.objectives import Objective, get_objective
from art_ext.attacks.pgd import check_steps, input_gradient
from art_ext.model import evaluating, frozen
from art_ext.threat import ThreatModel, per_example

MOMENTUM = 0.75
LEAST = 0.05  # share of the pixels that the last steps still move


def crossing(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    thresholds: Tensor,
    beyond: float = 1e-3,
    steps: int = 20,
    objective: str | Objective | Callable[[Tensor, Tensor], Tensor] = "ce",
    eot: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """In each step, pixels jump over the next threshold in the direction of the gradient (our design).

    All pixels for which that pays do so in the first step, ever fewer later, those with the largest gradient first. In
    ℓ2 the budget goes to the pixels that gain most for their distance. An example is left alone once it is fooled; the
    best point comes back.

    Args:
        model: from inputs to logits, with a gradient that reaches through the quantizer (its BPDA surrogate).
        x: images (N, C, H, W) within ``threat.clip``; not modified.
        y: labels (N,).
        threat: norm, ε and valid range.
        thresholds: of the quantizer, (L − 1,) or (C, L − 1).
        beyond: how far behind a threshold a pixel goes, where the ball allows; some temperatures for a soft quantizer.
        steps: at least 1.
        objective: as in `art_ext.attacks.pgd`.
        eot: draws whose gradients are averaged; above 1 nothing stops early.
        generator: not used; attacks of a suite all take one.

    Returns:
        Adversarial images inside the threat model.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> x, y = torch.full((2, 1, 2, 2), 0.48), torch.tensor([0, 1])
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x_adv = crossing(net, x, y, threat=ThreatModel("linf", 0.1), thresholds=torch.tensor([0.5]), beyond=0.01)
        >>> bool((((x_adv - 0.51).abs() < 1e-6) | (x_adv == x)).all())
        True
    """
    check_steps(steps=steps, eot=eot)
    goal, hunt = get_objective(objective), Hunt(model, x, y)
    now, pull = x.detach().clone(), torch.zeros_like(x)
    with evaluating(model), frozen(model):
        for step in range(steps + 1):
            i = hunt.open
            if not len(i):
                break
            grad, value, logits = input_gradient(model, now[i], y[i], goal, eot)
            hunt.settle(i, now[i], value, ask=False)
            if eot == 1:
                hunt.drop(i[hunt.confirm(i, now[i], logits.argmax(1) != y[i])])
            if step < steps:
                pull[i] = MOMENTUM * pull[i] + grad / per_example(grad.flatten(1).abs().mean(1).clamp(min=1e-30), grad)
                share = max(1 - step / steps, LEAST)
                now[i] = _jump(x[i], now[i], pull[i], thresholds, beyond, threat.select(i), share)
    return hunt.found


def _jump(
    x: Tensor, now: Tensor, pull: Tensor, thresholds: Tensor, beyond: float, threat: ThreatModel, share: float
) -> Tensor:
    """The pixels with the strongest pull, moved over their next threshold as far as the threat model allows."""
    above, below = _next(now, thresholds.to(now))
    low, high = threat.bounds(x) or (torch.full_like(x, -torch.inf), torch.full_like(x, torch.inf))
    up = torch.minimum(above + beyond, high)
    down = torch.maximum(below - beyond, low)
    rises, falls = (pull > 0) & (up > above), (pull < 0) & (down < below)
    goal = torch.where(rises, up, torch.where(falls, down, now))
    gain = torch.where(rises | falls, pull.abs(), torch.zeros_like(pull))
    chosen = torch.where(_largest(gain, share), goal, now)
    return chosen if threat.norm == "linf" else _within_budget(chosen, x, pull, threat)


def _next(x: Tensor, thresholds: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest threshold above and below each pixel, ±infinity where there is none."""
    above, below = torch.full_like(x, torch.inf), torch.full_like(x, -torch.inf)
    for threshold in thresholds.unbind(-1):
        t = (threshold.view(-1, 1, 1) if threshold.ndim else threshold).expand_as(x)
        above = torch.where((t >= x) & (t < above), t, above)
        below = torch.where((t < x) & (t > below), t, below)
    return above, below


def _largest(gain: Tensor, share: float) -> Tensor:
    """The share of each example's elements above zero that are largest."""
    rows = gain.flatten(1)
    rank = rows.argsort(1, descending=True).argsort(1)
    count = (share * (rows > 0).sum(1, keepdim=True)).ceil()
    return ((rank < count) & (rows > 0)).view_as(gain)


def _within_budget(goal: Tensor, x: Tensor, pull: Tensor, threat: ThreatModel) -> Tensor:
    """The changes that gain most for their squared distance, as many as fit into the ℓ2 ball."""
    delta = (goal - x).flatten(1)
    cost = delta.square()
    worth = (delta * pull.flatten(1)) / cost.clamp(min=1e-12)
    order = worth.argsort(1, descending=True)
    spent = cost.gather(1, order).cumsum(1)
    budget = torch.as_tensor(threat.radius(x), device=x.device).reshape(-1, 1) ** 2
    fits = torch.zeros_like(delta, dtype=torch.bool).scatter(1, order, spent <= budget)
    return torch.where(fits & (worth > 0), delta, torch.zeros_like(delta)).view_as(x) + x
