"""Carlini and Wagner's ℓ2 attack: the smallest perturbation that fools, by Adam in a space without edges."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.attacks.pgd import check_steps
from art_ext.model import evaluating, frozen, judge_of
from art_ext.scores import margin
from art_ext.threat import ThreatModel, per_example

INSIDE = 0.999999  # of the way to the edges, where atanh would be infinite (authors' code)
GROWTH = 10.0  # of c while no success has bounded it from above (authors' code)


def cw(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel | None = None,
    steps: int = 100,
    learning_rate: float = 0.01,
    confidence: float = 0.0,
    const: float = 1.0,
    searches: int = 5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Carlini & Wagner 2017 (https://arxiv.org/abs/1608.04644), ℓ2: Adam on ‖x' − x‖² + c · max(−margin, −κ).

    x' is written as a tanh, so that every point is a valid image. c is looked for by bisection, for each example: down
    after a success, up after a failure. The nearest point of all that fooled with a margin above κ comes back. It ends
    at the boundary itself, where a faster model of lower precision errs, so it takes its gradients from the exact one.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...) within ``threat.clip``; not modified.
        y: labels (N,), int64.
        threat: its valid range, and an ℓ2 ball: what is found outside counts as a failure. None: all of [0, 1].
        steps: of Adam for each c, at least 1 (authors' code: 10000).
        learning_rate: of Adam, in the space of the tanh (authors' code: 0.01).
        confidence: κ, in logits; 0 for the nearest point.
        const: the first c (authors' code: 0.001, with nine searches).
        searches: values of c that are tried, at least 1 (authors' code: 9; default ours).
        generator: not used; attacks of a suite all take one.

    Returns:
        Adversarial inputs, shaped like ``x``; the clean input where the attack failed, or was not needed.

    Raises:
        ValueError: an argument out of its range, a threat model that is not ℓ2 or has no valid range.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 3
        >>> x_adv = cw(net, x, y, steps=20, learning_rate=0.1)
        >>> moved = (x_adv != x).any(1)
        >>> bool((net(x_adv).argmax(1) != y)[moved].all())
        True
    """
    threat = ThreatModel("l2", 1e6) if threat is None else threat
    _check(threat, steps, searches, learning_rate=learning_rate, confidence=confidence, const=const)
    model = judge_of(model)
    hunt = _Nearest(x.detach().clone(), x.new_full((len(x),), torch.inf))
    c = _Bisection.starting(x.new_full((len(x),), const))
    with evaluating(model), frozen(model):
        for _ in range(searches):
            c = c.next(_descend(model, x.detach(), y, c.value, hunt, threat, steps, learning_rate, confidence))
    too_far = hunt.distance > torch.as_tensor(threat.eps).to(x)
    return torch.where(per_example(too_far, x), x, hunt.x)


def _check(threat: ThreatModel, steps: int, searches: int, **positive: float) -> None:
    check_steps(steps=steps, searches=searches)
    for name, value in positive.items():
        if not (value > 0 or (name == "confidence" and value == 0)):
            raise ValueError(f"{name} must be {'at least 0' if name == 'confidence' else '> 0'}; got {value!r}")
    if threat.norm != "l2" or threat.clip is None:
        raise ValueError(f"this attack is an ℓ2 attack on inputs of a valid range; the threat model is {threat}")


@dataclass
class _Nearest:
    """The nearest adversarial point of each example so far; infinitely far where there is none."""

    x: Tensor
    distance: Tensor

    def update(self, x_adv: Tensor, distance: Tensor, fooled: Tensor) -> None:
        nearer = fooled & (distance < self.distance)
        self.x[nearer], self.distance[nearer] = x_adv[nearer], distance[nearer]


@dataclass(frozen=True)
class _Bisection:
    """c of each example, between what was too small and what was large enough."""

    value: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def starting(cls, value: Tensor) -> _Bisection:
        return cls(value, torch.zeros_like(value), torch.full_like(value, torch.inf))

    def next(self, succeeded: Tensor) -> _Bisection:
        high, low = torch.where(succeeded, self.value, self.high), torch.where(succeeded, self.low, self.value)
        return _Bisection(torch.where(high.isinf(), GROWTH * self.value, (low + high) / 2), low, high)


def _descend(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    c: Tensor,
    nearest: _Nearest,
    threat: ThreatModel,
    steps: int,
    learning_rate: float,
    confidence: float,
) -> Tensor:
    """Adam for one c of each example; which of them it fooled on the way, (N,) bool."""
    assert threat.clip is not None
    low, high = threat.clip
    middle, half = (low + high) / 2, (high - low) / 2
    free = ((x - middle) / half * INSIDE).atanh().requires_grad_(True)
    adam, succeeded = torch.optim.Adam([free], lr=learning_rate), torch.zeros_like(y, dtype=torch.bool)
    for step in range(steps + 1):
        with torch.enable_grad():
            x_adv = free.tanh() * half + middle
            gain, squared = margin(model(x_adv), y), (x_adv - x).flatten(1).square().sum(1)
            loss = (squared + c * (-gain).clamp(min=-confidence)).sum()
        with torch.no_grad():
            fooled = gain > confidence
            succeeded |= fooled
            nearest.update(x_adv.detach(), squared.detach().sqrt(), fooled)
        if step < steps:
            (free.grad,) = torch.autograd.grad(loss, free)
            adam.step()
    return succeeded
