"""A light U-Net."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.nn.purifiers.base import Purifier, register
from art_ext.nn.ranges import check_count


def _block(inp: int, out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inp, out):
        layers += [nn.Conv2d(channels, out, 3, padding=1), nn.GroupNorm(1, out), nn.SiLU()]
    return nn.Sequential(*layers)


@register("unet", "a light U-Net, for 28 to 64 pixels and CPUs")
class UNet(Purifier):
    """A light U-Net (Ronneberger et al. 2015) with group normalisation, for images of any size; ours.

    Args:
        in_chans: channels of the images.
        width: channels of the first level; each further one has twice as many.
        levels: how often the image is halved, and doubled again.

    Raises:
        ValueError: a count below 1.

    Example:
        >>> sum(p.numel() for p in UNet(1, width=16).parameters())
        118769
    """

    def __init__(self, in_chans: int, *, width: int = 32, levels: int = 2) -> None:
        super().__init__(in_chans)
        check_count(1, width=width, levels=levels)
        widths = [width * 2**level for level in range(levels + 1)]
        self.down = nn.ModuleList(map(_block, [self.in_chans + 1, *widths], widths))
        self.up = nn.ModuleList(_block(3 * out, out) for out in widths[-2::-1])
        self.head = nn.Conv2d(width, self.in_chans, 1)

    def _complete(self, image: Tensor, mask: Tensor) -> Tensor:
        x, kept = torch.cat((image, mask), 1), []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            kept.append(x)
        kept.pop()
        for block in self.up:
            skip = kept.pop()
            x = block(torch.cat((F.interpolate(x, size=skip.shape[-2:]), skip), 1))
        out: Tensor = self.head(x)
        return out
