"""The discriminator that judges patches."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from art_ext.nn.ranges import check_count


class PatchDiscriminator(nn.Module):
    """Tells images from what a purifier made, patch by patch; spectrally normalised (Miyato et al. 2018).

    Input channels: image and mask (4 for colour), as in the authors' code; its layers are our decision.

    Args:
        in_chans: channels of the images.
        width: channels of the first layer; each further one has twice as many.
        layers: how often the image is halved.

    Raises:
        ValueError: a count below 1.

    Example:
        >>> PatchDiscriminator(3, width=8)(torch.rand(2, 3, 32, 32), torch.ones(2, 1, 32, 32)).shape
        torch.Size([2, 1, 4, 4])
    """

    def __init__(self, in_chans: int, *, width: int = 32, layers: int = 3) -> None:
        super().__init__()
        check_count(1, in_chans=in_chans, width=width, layers=layers)
        widths = [in_chans + 1, *(width * 2**layer for layer in range(layers))]
        steps: list[nn.Module] = []
        for inp, out in pairwise(widths):
            steps += [spectral_norm(nn.Conv2d(inp, out, 4, 2, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*steps, spectral_norm(nn.Conv2d(widths[-1], 1, 3, 1, 1)))

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Scores (N, 1, H', W') of images (N, C, H, W) in [0, 1] with the masks (N, 1, H, W); high: an original."""
        scores: Tensor = self.layers(torch.cat((2 * image - 1, mask), 1))
        return scores

    def judging(self, image: Tensor, mask: Tensor) -> Tensor:
        """As `forward`; the gradient reaches the images, and no weight of the discriminator."""
        weights: Mapping[str, Tensor] = {name: weight.detach() for name, weight in self.named_parameters()}
        scores: Tensor = functional_call(self, dict(weights), (image, mask))
        return scores
