"""A U-Net of the library diffusers as a purifier."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from art_ext.nn.purifiers.base import Purifier, register


@register("diffusers", "a UNet2DModel of the library diffusers, with weights of yours if you like")
class DiffusersPurifier(Purifier):
    """``diffusers.UNet2DModel``, asked once at one point of its time; needs the extra ``[diffusers]``.

    A model with C + 1 input channels sees the mask too, one with C the image alone, as pre-trained ones do. Images are
    padded to what its halvings can divide.

    Args:
        in_chans: channels of the images.
        model: a ``UNet2DModel``, or a folder or name that its ``from_pretrained`` knows; None for a new one.
        timestep: at which it is asked.
        width: channels of the first of three levels of a new one.

    Raises:
        ImportError: diffusers is not installed.
        ValueError: a model for images with other channels.
    """

    def __init__(self, in_chans: int, *, model: Any = None, timestep: int = 0, width: int = 32) -> None:
        super().__init__(in_chans)
        self.timestep = timestep
        self.model = _made(model, self.in_chans, width)
        reads, writes = self.model.config.in_channels, self.model.config.out_channels
        if reads not in (self.in_chans, self.in_chans + 1) or writes != self.in_chans:
            raise ValueError(
                f"model must read {self.in_chans} or {self.in_chans + 1} channels and write {self.in_chans}; "
                f"it reads {reads} and writes {writes}"
            )
        self.sees_mask = reads > self.in_chans
        self.divisor = 2 ** (len(self.model.config.block_out_channels) - 1)

    def _complete(self, image: Tensor, mask: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        x = torch.cat((image, mask), 1) if self.sees_mask else image
        padded = F.pad(x, (0, -width % self.divisor, 0, -height % self.divisor), mode="replicate")
        out: Tensor = self.model(padded, self.timestep).sample[..., :height, :width]
        # such models answer on the scale [−1, 1]: as logits, so that the common sigmoid gives that back
        return ((out.float().clamp(-0.999, 0.999) + 1) / 2).logit()


def _made(model: Any, channels: int, width: int) -> Any:
    try:
        from diffusers import UNet2DModel
    except ImportError as error:
        raise ImportError("purifier 'diffusers' needs the library: pip install 'art_ext[diffusers]'") from error
    if isinstance(model, str):
        return UNet2DModel.from_pretrained(model)
    if model is not None:
        return model
    widths = (width, 2 * width, 4 * width)
    blocks = {"down_block_types": ("DownBlock2D",) * 3, "up_block_types": ("UpBlock2D",) * 3}
    return UNet2DModel(
        in_channels=channels + 1, out_channels=channels, block_out_channels=widths, norm_num_groups=8, **blocks
    )
