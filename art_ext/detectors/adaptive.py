"""An attacker who knows the detector: PGD through classifier and detector at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from art_ext.attacks.pgd import check_steps, pgd
from art_ext.detectors.module import Guarded
from art_ext.model import evaluating
from art_ext.scores import margin
from art_ext.threat import ThreatModel

Goal: TypeAlias = Callable[[Tensor, Tensor], Tensor]
CONFIDENCE = 1.0  # logits by which both constraints are met before they stop pulling (our decision)
STAGES = (0.1, 0.03, 0.01)  # step sizes as shares of ε, each for a third of the steps (our decision)


def evade(
    model: Guarded,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 150,
    restarts: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images that the classifier gets wrong while the detector says nothing, after Carlini & Wagner 2017.

    As in https://arxiv.org/abs/1705.07263, both networks are differentiated. What has to become positive is the smaller
    of two distances: to the classifier's boundary, and to the detector's threshold. PGD first raises the sum of both,
    each up to a confidence of 1, from a random start; for what is left, the smaller one, from the clean image, of which
    the detector says nothing: each step works on the constraint that is violated more (the selective form of
    https://arxiv.org/abs/2106.15023). The step falls from ε/10 to ε/100.

    Args:
        model: `AttackForensics.guarded`.
        x: images (N, C, H, W) in [0, 1]; not modified.
        y: labels (N,), int64.
        threat: norm, ε and valid range.
        steps: of each run, at least 3.
        restarts: rounds of both, all after the first from random starts; each for what is left.
        generator: of the random starts, on ``x``'s device; default: torch's global one.

    Returns:
        Images inside the threat model; where the attack failed, the best point of its last run.

    Raises:
        ValueError: a count out of its range.

    Example:
        >>> import numpy as np
        >>> from art.estimators.classification import PyTorchClassifier
        >>> from art_ext.detectors import AttackForensics
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 3, clip_values=(0, 1))
        >>> threat = ThreatModel("linf", 0.1)
        >>> detector = AttackForensics(classifier, threat=threat, families=["fgsm"], progress=False)
        >>> x, y = np.random.default_rng(0).random((100, 1, 8, 8), np.float32), np.arange(100) % 3
        >>> detector.fit(x, y, nb_epochs=1)
        >>> x_adv = evade(detector.guarded(), *map(torch.from_numpy, (x[:4], y[:4])), threat=threat, steps=3)
        >>> bool(((x_adv - torch.from_numpy(x[:4])).abs() <= 0.1 + 1e-6).all())
        True
    """
    check_counts(steps=steps, restarts=restarts)
    x = x.detach()
    found, left = x.clone(), torch.arange(len(x), device=x.device)
    for restart in range(restarts):
        for objective in (_sum, _smaller):
            if not len(left):
                return found
            ball, clean = threat.select(left), x[left]
            start = clean if objective is _smaller and not restart else ball.random_start(clean, generator)
            found[left] = _climb(_Evading(model, y[left]), clean, ball, objective, start, steps)
            left = left[~evaded(model, found[left], y[left])]
    return found


def check_counts(*, steps: int, restarts: int) -> None:
    """Refuse counts that `evade` cannot work with, by name."""
    check_steps(steps=steps, restarts=restarts)
    if steps < len(STAGES):
        raise ValueError(f"steps must be at least {len(STAGES)}, one for each step size; got {steps}")


@torch.no_grad()
def evaded(model: Guarded, x: Tensor, y: Tensor) -> Tensor:
    """Which images the classifier gets wrong while the detector says nothing, (N,) bool; in eval mode."""
    with evaluating(model):
        out = model(x)
    return (out[:, :-1].argmax(1) != y) & (out[:, -1] >= 0)


class _Evading(nn.Module):
    """Two-class logits for PGD, of which class 1 wins where the attacker does, and the objectives behind them.

    The columns are 0, the smaller of the two distances, and the sum of both, cut off at the confidence and shifted so
    that it never exceeds 0: the third column never wins.
    """

    def __init__(self, model: Guarded, y: Tensor) -> None:
        super().__init__()
        self.model, self.y = model, y

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        wrong, silent = margin(out[:, :-1], self.y), out[:, -1]
        both = wrong.clamp(max=CONFIDENCE) + silent.clamp(max=CONFIDENCE) - 2 * CONFIDENCE
        return torch.stack((torch.zeros_like(wrong), torch.minimum(wrong, silent), both), 1)


def _smaller(logits: Tensor, y: Tensor) -> Tensor:
    return logits[:, 1]


def _sum(logits: Tensor, y: Tensor) -> Tensor:
    return logits[:, 2]


def _climb(model: _Evading, x: Tensor, threat: ThreatModel, objective: Goal, start: Tensor, steps: int) -> Tensor:
    """PGD with ever smaller steps; the best point of all, one that evades before any other."""
    failed = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    for share in STAGES:
        start = pgd(
            model,
            x,
            failed,
            threat=threat,
            steps=steps // len(STAGES),
            step_size=share * threat.eps,
            objective=objective,
            random_start=False,
            start=start,
            track_best=True,
        )
    return start
