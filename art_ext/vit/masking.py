"""Perturbation random masking, PRM (Mo et al. 2022, https://arxiv.org/abs/2210.07540), as in the authors' code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import floor

import torch
from torch import Tensor, nn

from art_ext.vit.blocks import check_keep, patch_size


def mask_patches(
    x_adv: Tensor, x: Tensor, *, patch: tuple[int, int], keep: float, generator: torch.Generator | None = None
) -> Tensor:
    """``x_adv`` with the images ``x`` in ⌊N (1 − keep)⌋ of its N patches, drawn at random, the same of all images.

    Args:
        x_adv: perturbed images (N, C, H, W).
        x: the images, shaped like ``x_adv``.
        patch: height and width of a patch in pixels.
        keep: q in [0, 1].
        generator: of the places, on the CPU; default torch's global one.

    Raises:
        ValueError: not images, or patches that do not tile them.

    Example:
        >>> x = torch.zeros(1, 1, 4, 4)
        >>> mask_patches(x + 1, x, patch=(2, 2), keep=0.5).sum().item()
        8.0
    """
    check_tiling(patch, x.shape[1:])
    rows, columns = x.shape[2] // patch[0], x.shape[3] // patch[1]
    masked = floor(rows * columns * (1 - keep))
    if not masked:
        return x_adv
    chosen = torch.zeros(rows * columns, dtype=torch.bool)
    chosen[torch.randperm(rows * columns, generator=generator)[:masked]] = True
    mask = chosen.view(rows, columns).repeat_interleave(patch[0], 0).repeat_interleave(patch[1], 1)
    return torch.where(mask.to(x.device, non_blocking=True), x, x_adv)


@contextmanager
def patch_masking(
    model: nn.Module | int | tuple[int, int], *, keep: float, generator: torch.Generator | None = None
) -> Iterator[Callable[[Tensor, Tensor], Tensor]]:
    """Gives what `art_ext.attacks.pgd` takes as ``before_step``: each step starts without part of the perturbation.

    Before a step ⌊N (1 − keep)⌋ of the N patches, the same of all images, are those of the clean image; the step then
    moves all pixels.

    Args:
        model: a transformer whose patches these are, or one inside wrappers; or the pixels of a patch.
        keep: q in [0, 1].
        generator: of the places, on the CPU; default torch's global one.

    Yields:
        A function (x_adv, x) -> x_adv. Nothing is changed at the model.

    Raises:
        ValueError: a model without patches that are known, pixels that are none, ``keep`` outside [0, 1], a generator
            on a GPU; of the function: patches that do not tile the images.

    Example:
        >>> from art_ext.attacks import pgd
        >>> from art_ext.threat import ThreatModel
        >>> net, x, y = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.rand(4, 3, 4, 4), torch.arange(4) % 2
        >>> with patch_masking(2, keep=0.5) as without_patches:
        ...     x_adv = pgd(net, x, y, threat=ThreatModel("linf", 0.1), steps=2, before_step=without_patches)
        >>> x_adv.shape
        torch.Size([4, 3, 4, 4])
    """
    check_keep(keep, generator)
    patch = patch_size(model) if isinstance(model, nn.Module) else _pixels(model)

    def without_patches(x_adv: Tensor, x: Tensor) -> Tensor:
        return mask_patches(x_adv, x, patch=patch, keep=keep, generator=generator)

    yield without_patches


def check_tiling(patch: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Refuse inputs of a shape that is no image's (C, H, W), or that patches do not tile.

    Raises:
        ValueError: as said.

    Example:
        >>> check_tiling((4, 4), (3, 8, 12))
    """
    if len(shape) != 3 or shape[1] % patch[0] or shape[2] % patch[1]:
        raise ValueError(
            f"patches of {patch[0]} × {patch[1]} pixels do not tile inputs of shape {tuple(shape)}; give images whose "
            "height and width they divide, or another patch_size to the network"
        )


def _pixels(patch: int | tuple[int, int]) -> tuple[int, int]:
    sides = (patch, patch) if isinstance(patch, int) else tuple(patch)
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise ValueError(
            f"a patch is a whole number of pixels, or its height and width, each at least 1; got {patch!r}"
        )
    return sides[0], sides[1]
