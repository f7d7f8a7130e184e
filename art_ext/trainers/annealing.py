"""From soft to sharp: the temperature of soft quantizers in the course of a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from art_ext.losses.base import LossOutput
from art_ext.losses.input_gradient import NoisyCE
from art_ext.nn.quantization import SoftQuantizer
from art_ext.nn.ranges import check_temperature
from art_ext.nn.thresholds import annealed

SHARP_FROM = 0.75  # share of the epochs after which the temperature is the layer's own, our decision
Anneal = float | Callable[[float], float] | None


def quantizers_of(model: nn.Module) -> list[SoftQuantizer]:
    """The soft quantizers among the parts of ``model``."""
    return [part for part in model.modules() if isinstance(part, SoftQuantizer)]


def temperature_at(progress: float, *, anneal: Anneal, sharp: float) -> float:
    """The temperature of a layer whose own is ``sharp``, after a share ``progress`` of the epochs.

    Args:
        progress: in [0, 1).
        anneal: the temperature of the first epoch, from which a geometric line leads to ``sharp``, reached after three
            quarters of the epochs; or a function of ``progress``; or None for ``sharp`` throughout.
        sharp: in deployment.

    Raises:
        ValueError: a function's temperature is not in (0, 100].

    Example:
        >>> [round(temperature_at(p, anneal=1.0, sharp=0.01), 3) for p in (0, 0.375, 0.75, 0.9)]
        [1.0, 0.1, 0.01, 0.01]
    """
    if anneal is None:
        return sharp
    if callable(anneal):
        temperature = float(anneal(progress))
        check_temperature(**{"the temperature of anneal": temperature})
        return temperature
    return annealed(min(1.0, progress / SHARP_FROM), soft=max(anneal, sharp), sharp=sharp)


@contextmanager
def softened(model: nn.Module, progress: float, anneal: Anneal) -> Iterator[float | None]:
    """Inside, the quantizers of ``model`` are soft, at the temperature of the training; gives that of the first."""
    parts = quantizers_of(model)
    before = [(part.temperature, part.hard) for part in parts]
    try:
        for part in parts:
            part.temperature = temperature_at(progress, anneal=anneal, sharp=part.temperature)
            part.hard = False
        yield parts[0].temperature if parts else None
    finally:
        for part, (temperature, hard) in zip(parts, before, strict=True):
            part.temperature, part.hard = temperature, hard


@dataclass(frozen=True, kw_only=True)
class AnnealedCE(NoisyCE):
    """`NoisyCE` of a network whose soft quantizers grow sharp in the course of the training.

    The temperature is set for each forward and put back: validation, attacks and checkpoints see that of deployment.

    Args:
        anneal: see `temperature_at`.
    """

    anneal: Any = None

    def compute(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> LossOutput:
        """As `NoisyCE`; the temperature is among the figures."""
        with softened(model, progress, self.anneal) as temperature:
            out = super().compute(model, x, x_adv, y, progress=progress)
        if temperature is None:
            return out
        return out._replace(figures={**out.figures, "temperature": out.value.new_tensor(temperature)})
