"""What a purifier is, and the registry that it enters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from inspect import signature
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from art_ext.naming import lookup
from art_ext.nn.ranges import check_count


class Purifier(nn.Module):
    """A network from an image with holes to a whole one.

    A subclass builds its layers, and says in `_complete` what they make of channels on the scale [−1, 1]. Images are in
    [0, 1] on both sides, so that what a purifier returns is what a classifier reads.

    Args:
        in_chans: channels of the images.
    """

    name: ClassVar[str] = ""
    description: ClassVar[str] = ""

    def __init__(self, in_chans: int) -> None:
        super().__init__()
        check_count(1, in_chans=in_chans)
        self.in_chans = int(in_chans)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """A whole image (N, C, H, W) in [0, 1] of one (N, C, H, W) in [0, 1] and its mask (N, 1, H, W), 1 = seen."""
        logits = self._complete((2 * image - 1) * mask, mask)
        return logits.to(image.dtype).sigmoid()  # outside autocast's 8 bits: they would show in flat areas

    @abstractmethod
    def _complete(self, image: Tensor, mask: Tensor) -> Tensor:
        """Logits (N, C, H, W) of the pixels, of an image in [−1, 1] that is 0 in its holes."""


PURIFIERS: dict[str, type[Purifier]] = {}
P = TypeVar("P", bound=type[Purifier])


def register(name: str, description: str) -> Callable[[P], P]:
    """Class decorator: put a purifier into the registry."""

    def enter(cls: P) -> P:
        if name in PURIFIERS:
            raise ValueError(f"a purifier named {name!r} is registered already: {PURIFIERS[name].__name__}")
        cls.name, cls.description = name, description
        PURIFIERS[name] = cls
        return cls

    return enter


def make_purifier(name: str, in_chans: int, **options: Any) -> Purifier:
    """The purifier of that name.

    Args:
        name: ``"unet"``, ``"inpainting"``, ``"autoencoder"`` or ``"diffusers"``.
        in_chans: channels of the images.
        **options: of its class.

    Raises:
        ValueError: unknown name (the nearest is proposed), an option out of its range.
        TypeError: unknown option.

    Example:
        >>> import torch
        >>> purifier = make_purifier("unet", 3, width=8)
        >>> purifier(torch.rand(2, 3, 28, 28), torch.ones(2, 1, 28, 28)).shape
        torch.Size([2, 3, 28, 28])
    """
    cls = lookup(PURIFIERS, name, what="purifier")
    known = [key for key in signature(cls).parameters if key != "in_chans"]
    if unknown := sorted(set(options) - set(known)):
        raise TypeError(f"purifier {name!r} takes {', '.join(known) or 'no options'}; got {', '.join(unknown)}")
    return cls(in_chans, **options)
