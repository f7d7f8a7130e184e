"""The inpainting generator of gated convolutions, coarse and refined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.nn.purifiers.base import Purifier, register
from art_ext.nn.ranges import check_count


class GatedConv(nn.Conv2d):
    """A convolution whose every output is gated by another one (Yu et al., https://arxiv.org/abs/1806.03589).

    Args:
        inp: channels in.
        out: channels out.
        kernel: odd size of the filters.
        stride: of the filters.
        dilation: of the filters.

    Example:
        >>> GatedConv(5, 8, 3, stride=2)(torch.zeros(1, 5, 9, 9)).shape
        torch.Size([1, 8, 5, 5])
    """

    def __init__(self, inp: int, out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(inp, 2 * out, kernel, stride, dilation * (kernel - 1) // 2, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, inp, H, W) → (N, out, H / stride, W / stride)."""
        features, gate = super().forward(x).chunk(2, 1)
        return F.elu(features) * gate.sigmoid()


class _Stage(nn.Module):
    """Down to a quarter of the size, dilated convolutions, up again."""

    def __init__(self, inp: int, out: int, width: int, dilations: Sequence[int]) -> None:
        super().__init__()
        self.down = nn.Sequential(
            GatedConv(inp, width, 5),
            GatedConv(width, 2 * width, stride=2),
            GatedConv(2 * width, 2 * width),
            GatedConv(2 * width, 4 * width, stride=2),
            GatedConv(4 * width, 4 * width),
            *(GatedConv(4 * width, 4 * width, dilation=dilation) for dilation in dilations),
            GatedConv(4 * width, 4 * width),
        )
        self.middle = nn.Sequential(GatedConv(4 * width, 2 * width), GatedConv(2 * width, 2 * width))
        self.whole = nn.Sequential(GatedConv(2 * width, width), nn.Conv2d(width, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        half = self.middle(F.interpolate(self.down(x), size=((height + 1) // 2, (width + 1) // 2)))
        out: Tensor = self.whole(F.interpolate(half, size=(height, width)))
        return out


@register("inpainting", "the authors' inpainting generator of gated convolutions, coarse and refined")
class GatedInpainting(Purifier):
    """Gated convolutions in two stages: the first fills the holes coarsely, the second sees that and refines it.

    Input channels: image, ones, mask (5 for colour), as in the authors' code; the second stage sees the image with the
    first one's filling in its holes. Width and dilations are our decision, and that there is no contextual attention.

    Args:
        in_chans: channels of the images.
        width: channels at full size; twice as many at half, four times at a quarter.
        dilations: of the convolutions at a quarter.

    Raises:
        ValueError: a count below 1.

    Example:
        >>> GatedInpainting(3, width=4)(torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
    """

    def __init__(self, in_chans: int, *, width: int = 24, dilations: Sequence[int] = (2, 4, 8, 16)) -> None:
        super().__init__(in_chans)
        check_count(1, width=width, **{f"dilations[{i}]": dilation for i, dilation in enumerate(dilations)})
        self.coarse = _Stage(self.in_chans + 2, self.in_chans, width, dilations)
        self.fine = _Stage(self.in_chans + 2, self.in_chans, width, dilations)

    def _complete(self, image: Tensor, mask: Tensor) -> Tensor:
        extra = (torch.ones_like(mask), mask)
        first = self.coarse(torch.cat((image, *extra), 1))
        filled = image * mask + first.tanh() * (1 - mask)
        out: Tensor = self.fine(torch.cat((filled, *extra), 1))
        return out
