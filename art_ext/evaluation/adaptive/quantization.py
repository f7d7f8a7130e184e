"""Attacks on quantized inputs: through another gradient than the staircase's own, and over its thresholds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks.crossing import crossing
from art_ext.model import Surrogate, judge_of
from art_ext.nn.quantization import SoftQuantizer, attacked_through
from art_ext.threat import ThreatModel

CLEARANCE = 5  # temperatures behind a threshold, where a soft step is 99 % over (our decision)
JUST_OVER = 1e-3  # behind a hard one


def through_surrogate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    generator: torch.Generator,
    attack: Callable[..., Tensor],
    surrogate: str | float,
    eot: int = 1,
    **options: Any,
) -> Tensor:
    """An attack that sees the values of the quantizers in ``model``, and the gradient of something else (BPDA).

    Args:
        model: the defense, or a `Surrogate` of it.
        x: inputs (N, ...).
        y: labels (N,).
        threat: norm, ε and valid range.
        generator: of random starts.
        attack: such as `art_ext.attacks.apgd`.
        surrogate: ``"identity"``, or a temperature.
        eot: draws whose gradients are averaged.
        **options: of the attack.
    """
    pair = with_gradient_of(model, surrogate)
    return attack(pair, x, y, threat=threat, generator=generator, eot=eot, **options)


def across_thresholds(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    generator: torch.Generator,
    eot: int = 1,
    **options: Any,
) -> Tensor:
    """`art_ext.attacks.crossing.crossing` over the thresholds of the first quantizer in ``model``, by BPDA gradients.

    Args:
        model: the defense, or a `Surrogate` of it.
        x: images (N, C, H, W).
        y: labels (N,).
        threat: norm, ε and valid range.
        generator: not used.
        eot: draws whose gradients are averaged.
        **options: of the attack.

    Raises:
        ValueError: there is no quantizer.
    """
    quantizer = next((part for part in model.modules() if isinstance(part, SoftQuantizer)), None)
    if quantizer is None:
        raise ValueError("model must have a SoftQuantizer in it: there are no thresholds to cross")
    beyond = JUST_OVER if quantizer.hard else max(CLEARANCE * quantizer.temperature, JUST_OVER)
    pair = with_gradient_of(model, "identity")
    return crossing(pair, x, y, threat=threat, thresholds=quantizer.thresholds, beyond=beyond, eot=eot, **options)


def with_gradient_of(model: nn.Module, surrogate: str | float) -> Surrogate:
    """``model`` with other gradients in its quantizers, and the exact one as its judge."""
    if isinstance(model, Surrogate):
        return Surrogate(_Through(model.fast, surrogate), model.exact, trusted=model.trusted, rows=model.rows)
    return Surrogate(_Through(model, surrogate), judge_of(model))


class _Through(nn.Module):
    """A model whose quantizers have the gradient of ``surrogate``."""

    def __init__(self, model: nn.Module, surrogate: str | float) -> None:
        super().__init__()
        self.model, self.surrogate = model, surrogate
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        with attacked_through(self.model, self.surrogate):
            logits: Tensor = self.model(x)
        return logits
