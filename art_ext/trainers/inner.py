"""The inner attack of adversarial training, from whatever the user gave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from art.attacks import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import InnerPGD
from art_ext.attacks.pgd import check_steps
from art_ext.engine.loop import InnerAttack
from art_ext.losses import Loss
from art_ext.model import evaluating, frozen
from art_ext.scores import hard
from art_ext.threat import ThreatModel


def inner_attack(
    attack: Any,
    classifier: PyTorchClassifier,
    loss: Loss,
    threat: ThreatModel,
    steps: int,
    step_size: float | None,
) -> InnerAttack:
    """PGD as the loss wants it, or the user's own attack, as a function (model, x, y, generator) -> x_adv.

    Raises:
        TypeError: ``attack`` is neither None, a function nor an ART `EvasionAttack`.
        ValueError: steps < 1, a step size ≤ 0, or a targeted ART attack.
    """
    check_steps(steps=steps)
    if step_size is not None and not step_size > 0:
        raise ValueError(f"step_size must be > 0 (on the scale of the inputs, e.g. 2/255); got {step_size!r}")
    if attack is None:
        return InnerPGD(threat, steps, step_size, loss.objective, loss.start)
    if forward_only(attack):
        native: InnerAttack = attack
        return native
    if isinstance(attack, EvasionAttack):
        if getattr(attack, "targeted", False):
            raise ValueError(f"{type(attack).__name__} is targeted; adversarial training needs an untargeted attack")
        return partial(_art, attack=attack, classes=classifier.nb_classes)
    if callable(attack):
        return partial(_function, attack=attack)
    raise TypeError(f"attack must be None, a function or an ART EvasionAttack; got {type(attack).__name__}")


def forward_only(attack: Any) -> bool:
    """Whether an attack, as the user gave it, calls its model and nothing else; None is PGD."""
    return attack is None or bool(getattr(attack, "forward_only", False))


def _function(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    *,
    attack: Callable[[nn.Module, Tensor, Tensor], Tensor],
) -> Tensor:
    with evaluating(model), frozen(model):
        return attack(model, x, y).detach()


def _art(
    model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator, *, attack: EvasionAttack, classes: int
) -> Tensor:
    one_hot = np.eye(classes, dtype=np.float32)[hard(y).cpu().numpy()]
    with evaluating(model), frozen(model):  # ART's own backwards would go through the weights too
        x_adv = attack.generate(x.cpu().contiguous().numpy(), one_hot)
    return torch.from_numpy(x_adv).to(x)
