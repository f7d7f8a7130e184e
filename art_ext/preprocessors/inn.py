"""Interference in front of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import nn

from art_ext.nn.backgrounds import Source, load_backgrounds
from art_ext.nn.interference import Interference
from art_ext.preprocessors.base import ModulePreprocessor, register


@register(
    "inn",
    "a random background, white noise and salt-and-pepper noise on every input (INN)",
    paper="https://arxiv.org/abs/2310.05947",
)
class INNPreprocessor(ModulePreprocessor):
    """The input of an interference network: a background, white noise and salt-and-pepper noise, drawn anew each time.

    One draw per image and call. The whole defense trains on such images and votes over several draws and snapshots:
    `art_ext.INNTrainer`, `art_ext.nn.soft_vote.SoftVote`.

    | Paper link: https://arxiv.org/abs/2310.05947
    | A random input defends little against an attacker who averages over its draws; `art_ext.evaluate` does.

    Args:
        input_shape: (C, H, W) of the classifier.
        backgrounds: see `art_ext.nn.backgrounds.load_backgrounds`: None for two photographs that come with
            scikit-learn, a folder, arrays, or ``()`` for none.
        alpha: weight of the background, in [0, 1] (paper: 0.1).
        beta: standard deviation of the white noise, in [0, 1] (paper: 0.1).
        gamma: size of the salt and pepper, in [0, 1] (paper: 0.1).
        density: share of the pixels with a grain, in [0, 1] (our decision: 0.05).
        apply_fit: act while a classifier is trained; ART's own ``fit`` draws only once for all epochs.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.

    Raises:
        ValueError: a number out of its range, unusable backgrounds.

    Example:
        >>> import numpy as np
        >>> interference = INNPreprocessor(input_shape=(3, 8, 8), alpha=0.2)
        >>> x, _ = interference(np.zeros((4, 3, 8, 8), np.float32))
        >>> x.shape, float(x.min()) >= 0
        ((4, 3, 8, 8), True)
    """

    options: ClassVar[tuple[str, ...]] = ("backgrounds", "alpha", "beta", "gamma", "density", "input_shape")

    def __init__(
        self,
        *,
        input_shape: Sequence[int],
        backgrounds: Source = None,
        alpha: float = 0.1,
        beta: float = 0.1,
        gamma: float = 0.1,
        density: float = 0.05,
        apply_fit: bool = True,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(apply_fit=apply_fit, apply_predict=apply_predict, device_type=device_type)
        self.input_shape, self.backgrounds = input_shape, backgrounds
        self.alpha, self.beta, self.gamma, self.density = alpha, beta, gamma, density
        self._check_params()

    def _build(self) -> nn.Module:
        backgrounds = load_backgrounds(self.backgrounds, input_shape=self.input_shape)
        return Interference(backgrounds, alpha=self.alpha, beta=self.beta, gamma=self.gamma, density=self.density)
