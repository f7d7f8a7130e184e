"""The network of `art_ext.detectors`: an image, its high frequencies, and what a classifier made of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALE = 4 / 255  # residual of half strength (our decision)
KERNEL = torch.tensor([[-1.0, 2.0, -1.0], [2.0, -4.0, 2.0], [-1.0, 2.0, -1.0]]) / 4


def high_frequencies(x: Tensor, scale: float = SCALE) -> Tensor:
    """What its neighbours do not say about a pixel, r / (scale + |r|), in (−1, 1).

    r is the residual of steganalysis (Ker & Böhme 2008; the filter is theirs). Steganalysts cut it off, so that edges
    do not drown traces of a few grey levels. The fraction does the same without a gradient of zero (our decision): an
    attacker who differentiates through it is not stopped by the arithmetic.

    Args:
        x: images (N, C, H, W) in [0, 1].
        scale: residual that becomes a half, above 0.

    Example:
        >>> high_frequencies(torch.full((1, 1, 4, 4), 0.7)).abs().max().item() < 1e-4
        True
    """
    channels = x.shape[1]
    kernel = KERNEL.to(x).expand(channels, 1, 3, 3)
    residual = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels)
    return residual / (scale + residual.abs())


class ForensicNet(nn.Module):
    """Logits of families, from images and from evidence that a classifier gives about them (our design).

    Two convolutions at full resolution, where traces of perturbations live, two that halve it, mean and maximum over
    the image; beside them a layer over the evidence.

    Args:
        channels: of the images.
        evidence: numbers about each image.
        families: outputs.
        width: channels of the first convolutions.

    Example:
        >>> net = ForensicNet(channels=3, evidence=20, families=5)
        >>> net(torch.rand(2, 3, 32, 32), torch.rand(2, 20)).shape
        torch.Size([2, 5])
    """

    def __init__(self, *, channels: int, evidence: int, families: int, width: int = 16) -> None:
        super().__init__()
        self.pixels = nn.Sequential(
            *_convolution(2 * channels, width, 1),
            *_convolution(width, width, 1),
            *_convolution(width, 2 * width, 2),
            *_convolution(2 * width, 4 * width, 2),
        )
        # the evidence has any scale; what never varied in training must not explode later
        self.evidence = nn.Sequential(
            nn.BatchNorm1d(evidence, eps=1e-2, affine=False), nn.Linear(evidence, 64), nn.ReLU()
        )
        self.verdict = nn.Linear(8 * width + 64, families)

    def forward(self, x: Tensor, evidence: Tensor) -> Tensor:
        """Logits (N, families) of images (N, C, H, W) in [0, 1] and evidence (N, E)."""
        seen = self.pixels(torch.cat((x, high_frequencies(x)), 1))
        parts = (seen.mean((2, 3)), seen.amax((2, 3)), self.evidence(evidence))
        return self.verdict(torch.cat(parts, 1))


def _convolution(inp: int, out: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU()
