"""A purifier in front of a classifier."""

from __future__ import annotations

from inspect import signature
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from art_ext.isolation import keeping_random
from art_ext.model import evaluating
from art_ext.nn.masking import Masking
from art_ext.nn.purification import Purification
from art_ext.preprocessors.base import ModulePreprocessor, register
from art_ext.validation import Images

Transform = Masking | str | None


@register(
    "purifier",
    "a network that fills what a random transform has left, in front of a classifier that stays as it is (AToP)",
    paper="https://arxiv.org/abs/2401.16352",
)
class PurifierPreprocessor(ModulePreprocessor):
    """A random transform and a purifier: what a classifier reads is made anew from what the transform has left.

    `art_ext.AToPTrainer` trains a purifier for a given classifier and returns the two together. Gradients pass through
    both, so attacks through ART see the whole; `art_ext.evaluate` averages over draws.

    | Paper link: https://arxiv.org/abs/2401.16352

    Args:
        purifier: a module (image, mask) → image with images (N, C, H, W) in [0, 1], such as
            `art_ext.nn.purifiers.UNet`; it is put into eval mode.
        transform: ``"rt1"``, ``"rt2"``, ``"rt3"``, an `art_ext.nn.masking.Masking`, or None for none.
        steps: how often in a row the image is transformed and purified.
        vote: draws whose purified images are averaged.
        apply_fit: act while a classifier is trained.
        apply_predict: act at prediction, and so in attacks.
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.

    Raises:
        TypeError: no module, or a transform of another kind.
        ValueError: a count below 1, an unknown transform.

    Example:
        >>> import numpy as np
        >>> from art_ext.nn.purifiers import UNet
        >>> defense = PurifierPreprocessor(purifier=UNet(1, width=8), transform="rt2")
        >>> x, _ = defense(np.zeros((4, 1, 28, 28), np.float32))
        >>> x.shape
        (4, 1, 28, 28)
    """

    by_trainer: ClassVar[str | None] = "atop"
    options: ClassVar[tuple[str, ...]] = ("purifier", "transform", "steps", "vote")

    def __init__(
        self,
        *,
        purifier: nn.Module,
        transform: Transform = "rt2",
        steps: int = 1,
        vote: int = 1,
        apply_fit: bool = False,
        apply_predict: bool = True,
        device_type: str = "gpu",
    ) -> None:
        super().__init__(apply_fit=apply_fit, apply_predict=apply_predict, device_type=device_type)
        self.purifier, self.transform, self.steps, self.vote = purifier, transform, steps, vote
        self._check_params()

    def __call__(self, x: Images, y: Any = None) -> tuple[Images, Any]:
        """As `ModulePreprocessor.__call__`.

        Raises:
            ValueError: the purifier leaves [0, 1], too.
        """
        made, y = super().__call__(x, y)
        if not (np.min(made) >= 0 and np.max(made) <= 1):
            raise ValueError(f"the purifier must return images in [0, 1]; got {np.min(made):.3g} to {np.max(made):.3g}")
        return made, y

    def _build(self) -> nn.Module:
        if not isinstance(self.purifier, nn.Module):
            raise TypeError(f"purifier must be a torch.nn.Module; got {type(self.purifier).__name__}")
        transform = as_masking(self.transform)
        return Purification(self.purifier, transform, steps=self.steps, vote=self.vote).eval()


def as_masking(transform: Transform, **options: Any) -> Masking | None:
    """The transform of that name, with options of its own; one that is there as it is.

    Raises:
        TypeError: something else; an unknown option.
        ValueError: an unknown name, an option out of its range, options without a name.
    """
    if isinstance(transform, str):
        known = [key for key in signature(Masking).parameters if key != "kind"]
        if unknown := sorted(set(options) - set(known)):
            raise TypeError(f"transform {transform!r} takes {', '.join(known)}; got {', '.join(unknown)}")
        return Masking(transform, **options)
    if transform is not None and not isinstance(transform, Masking):
        raise TypeError(f"transform must be 'rt1', 'rt2', 'rt3', a Masking or None; got {type(transform).__name__}")
    if options:
        raise ValueError(f"options {options} go with a transform given by name; got {transform}")
    return transform


def check_purifier(purifier: nn.Module, shape: tuple[int, ...]) -> None:
    """Try a purifier on two images.

    Args:
        purifier: (image, mask) → image.
        shape: (C, H, W) of the images.

    Raises:
        ValueError: it changes the shape, leaves [0, 1], or cannot take such images.
    """
    weight = next(purifier.parameters(), torch.zeros(()))
    x = torch.linspace(0, 1, 2, device=weight.device).view(2, 1, 1, 1).expand(2, *shape)
    with torch.no_grad(), evaluating(purifier), keeping_random():
        try:
            made = purifier(x, torch.ones_like(x[:, :1]))
        except RuntimeError as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"the purifier cannot take images {shape}: {first}") from error
    if made.shape != x.shape:
        raise ValueError(f"the purifier makes {tuple(made.shape[1:])} of images {shape}; it must keep the shape")
    low, high = float(made.min()), float(made.max())
    if not (low >= 0 and high <= 1):
        raise ValueError(f"the purifier must return images in [0, 1]; it returned values from {low:.3g} to {high:.3g}")
