"""Soft quantization in front of a classifier."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from art_ext.nn.quantization import SoftQuantizer, Surrogate, Thresholds
from art_ext.nn.thresholds import learn_thresholds
from art_ext.preprocessors.base import ModulePreprocessor, register
from art_ext.validation import Images, check_images


@register(
    "soft-quantization",
    "a staircase of sigmoids on every pixel, soft in training, soft or hard in use",
    paper="https://arxiv.org/abs/1810.05665",
)
class SoftQuantization(ModulePreprocessor):
    """Soft quantization: pixels are rounded to a few levels, with steps that have a gradient.

    | Paper link: https://arxiv.org/abs/1810.05665
    | The sharper the steps, the smaller the gradients that plain attacks see. `art_ext.evaluate` replaces them.

    Args:
        levels: at least 2 (our decision: 2 on grey images such as MNIST's, 4 to 8 on colour).
        temperature: width of a step on the [0, 1] scale, in (0, 100]; `art_ext.NoisyTrainer` anneals it.
        thresholds: (L − 1,) or (C, L − 1), ascending in (0, 1); None: even ones. `fit` learns them.
        per_channel: `fit` learns thresholds for each channel.
        hard: exact steps, for use after training; the gradient is then that of ``surrogate``.
        surrogate: ``"identity"`` or a temperature.
        apply_fit: act while a classifier is trained.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> quantize = SoftQuantization(levels=3, hard=True)
        >>> quantize(np.full((1, 1, 2, 2), 0.6, np.float32))[0].ravel()
        array([0.5, 0.5, 0.5, 0.5], dtype=float32)
    """

    options: ClassVar[tuple[str, ...]] = ("levels", "temperature", "thresholds", "per_channel", "hard", "surrogate")

    def __init__(
        self,
        *,
        levels: int = 2,
        temperature: float = 0.1,
        thresholds: Thresholds | None = None,
        per_channel: bool = False,
        hard: bool = False,
        surrogate: Surrogate = "identity",
        apply_fit: bool = True,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(apply_fit=apply_fit, apply_predict=apply_predict, device_type=device_type)
        self.levels, self.temperature, self.thresholds = levels, temperature, thresholds
        self.per_channel, self.hard, self.surrogate = per_channel, hard, surrogate
        self._check_params()

    def fit(self, x: Images, y: Any = None, **kwargs: Any) -> None:
        """Learn the thresholds: quantiles of the pixels, see `art_ext.nn.thresholds.learn_thresholds`.

        Args:
            x: images (N, C, H, W) in [0, 1].
            y: not used.
            **kwargs: not used; ART's signature.

        Raises:
            ValueError: images of another shape or range, too few different values.
        """
        images = check_images(x, input_shape=None, clip=(0.0, 1.0))
        self.set_params(thresholds=learn_thresholds(images, self.levels, per_channel=self.per_channel))

    def _build(self) -> nn.Module:
        return SoftQuantizer(
            levels=self.levels,
            temperature=self.temperature,
            thresholds=self.thresholds,
            hard=self.hard,
            surrogate=self.surrogate,
        )
