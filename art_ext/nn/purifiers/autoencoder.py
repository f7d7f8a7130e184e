"""A plain auto-encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.nn.purifiers.base import Purifier, register
from art_ext.nn.ranges import check_count


@register("autoencoder", "a plain auto-encoder: nothing gets past its bottleneck (the authors' second variant)")
class AutoEncoder(Purifier):
    """Convolutions down to a quarter of the size and up again, without skips; made for training without a GAN.

    The second variant of the authors' code; its layers are our decision.

    Args:
        in_chans: channels of the images.
        width: channels at full size; twice as many at half, four times at a quarter.

    Raises:
        ValueError: a count below 1.

    Example:
        >>> AutoEncoder(3, width=8)(torch.rand(2, 3, 30, 30), torch.ones(2, 1, 30, 30)).shape
        torch.Size([2, 3, 30, 30])
    """

    def __init__(self, in_chans: int, *, width: int = 32) -> None:
        super().__init__(in_chans)
        check_count(1, width=width)
        self.encoder = nn.Sequential(
            *_layer(self.in_chans + 1, width, 1), *_layer(width, 2 * width, 2), *_layer(2 * width, 4 * width, 2)
        )
        self.middle = nn.Sequential(*_layer(4 * width, 2 * width, 1))
        self.whole = nn.Sequential(*_layer(2 * width, width, 1), nn.Conv2d(width, self.in_chans, 3, padding=1))

    def _complete(self, image: Tensor, mask: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        code = self.encoder(torch.cat((image, mask), 1))
        half = self.middle(F.interpolate(code, size=((height + 1) // 2, (width + 1) // 2)))
        out: Tensor = self.whole(F.interpolate(half, size=(height, width)))
        return out


def _layer(inp: int, out: int, stride: int) -> list[nn.Module]:
    return [nn.Conv2d(inp, out, 3, stride, 1), nn.GroupNorm(1, out), nn.SiLU()]
