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

from art_ext.attacks import make_inner_attack
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
    steps: int | None,
    step_size: float | None,
) -> InnerAttack:
    """PGD as the loss wants it, or the user's own attack, as a function (model, x, y, generator) -> x_adv.

    Raises:
        TypeError: ``attack`` is neither None, a name, a function nor an ART `EvasionAttack`.
        ValueError: steps < 1, a step size ≤ 0, an unknown name, or one that takes neither; a targeted ART attack; an
            attack for another range of inputs.
    """
    if steps is not None:
        check_steps(steps=steps)
    if step_size is not None and not step_size > 0:
        raise ValueError(f"step_size must be > 0 (on the scale of the inputs, e.g. 2/255); got {step_size!r}")
    if attack is None or isinstance(attack, str):
        given: dict[str, Any] = {"threat": threat, "objective": loss.objective, "start": loss.start}
        named: InnerAttack = make_inner_attack(
            "pgd" if attack is None else attack, steps=steps, step_size=step_size, **given
        )
        return named
    if forward_only(attack):
        native: InnerAttack = attack
        if (clip := getattr(attack, "clip", threat.clip)) != threat.clip:
            raise ValueError(f"the inputs of the trainer's threat are in {threat.clip}, those of its attack in {clip}")
        return native
    if isinstance(attack, EvasionAttack):
        if getattr(attack, "targeted", False):
            raise ValueError(f"{type(attack).__name__} is targeted; adversarial training needs an untargeted attack")
        return partial(_art, attack=attack, classes=classifier.nb_classes)
    if callable(attack):
        return partial(_function, attack=attack)
    raise TypeError(f"attack must be None, a name, a function or an ART EvasionAttack; got {type(attack).__name__}")


def forward_only(attack: Any) -> bool:
    """Whether an attack, as the user gave it, calls its model and nothing else, as None (PGD) and all by name do."""
    return attack is None or isinstance(attack, str) or bool(getattr(attack, "forward_only", False))


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
