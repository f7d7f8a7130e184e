"""Random masks in front of a classifier."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from art_ext.nn.masking import Masking
from art_ext.preprocessors.base import ModulePreprocessor, register


@register(
    "random-transform",
    "a random mask of blocks on every input, with Gaussian noise under it or without (AToP's RT1 and RT2)",
    paper="https://arxiv.org/abs/2401.16352",
)
class RandomTransform(ModulePreprocessor):
    """The random transforms of adversarial training on purification, alone: masks drawn anew each time.

    Without a purifier a classifier sees holes; see `PurifierPreprocessor` for the whole. ``"rt3"`` needs one.

    | Paper link: https://arxiv.org/abs/2401.16352
    | A random input defends little against an attacker who averages over its draws; `art_ext.evaluate` does.

    Args:
        kind: ``"rt1"`` or ``"rt2"``, see `art_ext.nn.masking.Masking`.
        grid: blocks along each side (authors' code: 8).
        missing: share of the blocks that are holes, in (0, 1) (authors' code: 0.25).
        sigma: of the noise of ``"rt2"`` on the [0, 1] scale (authors' code: 0.25).
        shared: one mask for all images of a pass.
        seed: the same draw in every pass, as a control; None for fresh draws.
        apply_fit: act while a classifier is trained; ART's own ``fit`` draws only once for all epochs.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.

    Raises:
        ValueError: an argument out of its range, or ``"rt3"``.

    Example:
        >>> import numpy as np
        >>> x, _ = RandomTransform(kind="rt1")(np.ones((1, 3, 32, 32), np.float32))
        >>> float(x.mean())
        0.75
    """

    options: ClassVar[tuple[str, ...]] = ("kind", "grid", "missing", "sigma", "shared", "seed")

    def __init__(
        self,
        *,
        kind: str = "rt2",
        grid: int = 8,
        missing: float = 0.25,
        sigma: float = 0.25,
        shared: bool = False,
        seed: int | None = None,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(apply_fit=apply_fit, apply_predict=apply_predict, device_type=device_type)
        self.kind, self.grid, self.missing, self.sigma = kind, grid, missing, sigma
        self.shared, self.seed = shared, seed
        self._check_params()

    def _build(self) -> nn.Module:
        if self.kind == "rt3":
            raise ValueError("kind must be 'rt1' or 'rt2': 'rt3' fills every hole, which takes a PurifierPreprocessor")
        return Masking(
            self.kind, grid=self.grid, missing=self.missing, sigma=self.sigma, shared=self.shared, seed=self.seed
        )
