"""Noise in front of a classifier."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from art_ext.nn.noise import Noise
from art_ext.preprocessors.base import ModulePreprocessor, register


@register(
    "noise-injection",
    "fresh Gaussian, uniform or Laplace noise, or signs of one size, on every input",
    paper="https://arxiv.org/abs/1902.01148",
)
class NoiseInjection(ModulePreprocessor):
    """Noise on the input at inference, drawn anew each time, and in training too if asked for.

    For a vote over several draws put the network into a `art_ext.nn.soft_vote.SoftVote` with
    `art_ext.nn.noise.Noise` as its transform.

    | Paper link: https://arxiv.org/abs/1902.01148
    | A random input defends little against an attacker who averages over its draws; `art_ext.evaluate` does.

    Args:
        scale: on the [0, 1] scale, > 0: standard deviation (gaussian), half width (uniform), scale (laplace), size
            (signs).
        distribution: ``"gaussian"``, ``"uniform"``, ``"laplace"`` or ``"signs"``.
        clip: the range that noisy images are cut to; None: not at all.
        apply_fit: the same noise while a classifier is trained; ART's own ``fit`` draws only once for all epochs.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> noisy, _ = NoiseInjection(scale=0.25, distribution="signs")(np.full((1, 1, 8, 8), 0.5, np.float32))
        >>> np.unique(noisy)
        array([0.25, 0.75], dtype=float32)
    """

    options: ClassVar[tuple[str, ...]] = ("scale", "distribution", "clip")

    def __init__(
        self,
        *,
        scale: float,
        distribution: str = "gaussian",
        clip: tuple[float, float] | None = (0.0, 1.0),
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(apply_fit=apply_fit, apply_predict=apply_predict, device_type=device_type)
        self.scale, self.distribution, self.clip = scale, distribution, clip
        self._check_params()

    def _build(self) -> nn.Module:
        return Noise(self.scale, distribution=self.distribution, clip=self.clip)
