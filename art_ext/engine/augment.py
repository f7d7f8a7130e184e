"""Per-sample augmentation of a batch of images, vectorised on its device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.naming import lookup
from art_ext.processes import drawn

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def crop_flip(x: Tensor, generator: torch.Generator, *, padding: int = 4, flip: bool = True) -> Tensor:
    """Zero-pad, crop back at a random place and mirror with probability ½, independently for each image.

    Args:
        x: images (N, C, H, W).
        generator: on ``x``'s device.
        padding: pixels on each side; 4 as usual on CIFAR.
        flip: mirror at all.

    Example:
        >>> crop_flip(torch.rand(5, 3, 8, 8), torch.Generator()).shape
        torch.Size([5, 3, 8, 8])
    """
    n, _, height, width = x.shape
    rows = _window(n, height, padding, generator, x.device)
    columns = _window(n, width, padding, generator, x.device)
    if flip:
        chance = drawn(lambda m: torch.rand(m, 1, generator=generator, device=x.device), n, generator)
        mirrored = chance < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    padded = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1)
    images = torch.arange(n, device=x.device)[:, None, None]
    return padded[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _window(n: int, size: int, padding: int, generator: torch.Generator, device: torch.device) -> Tensor:
    offsets = partial(torch.randint, 0, 2 * padding + 1, generator=generator, device=device)
    offset = drawn(lambda m: offsets((m, 1)), n, generator)
    return offset + torch.arange(size, device=device)


def crop(x: Tensor, generator: torch.Generator) -> Tensor:
    """`crop_flip` without the mirror, for digits and other images that have a left and a right."""
    return crop_flip(x, generator, flip=False)


def flip(x: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror with probability ½, for each image."""
    return crop_flip(x, generator, padding=0)


AUGMENTATIONS: dict[str, Augmentation] = {"crop-flip": crop_flip, "crop": crop, "flip": flip}


def get_augmentation(augment: str | Augmentation | None) -> Augmentation | None:
    """The augmentation of that name, a function (x, generator) -> x as it is, or None.

    Raises:
        ValueError: unknown name.
    """
    return lookup(AUGMENTATIONS, augment, what="augmentation") if isinstance(augment, str) else augment
