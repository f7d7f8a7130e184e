"""Normalisation as part of the network, so that everything outside works on images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalized(nn.Module):
    """``model((x - mean) / std)``: takes [0, 1] images, normalises them per channel, then runs ``model``.

    Not an `nn.Sequential`, because ART unrolls those. Mean and std are buffers: they follow the module to its device
    and are saved with its weights, as ``mean`` and ``std``; the wrapped network's keys begin with ``model.``.

    Args:
        model: a network over normalised images (N, C, H, W).
        mean: C numbers on the [0, 1] scale.
        std: C positive numbers on the [0, 1] scale.

    Raises:
        ValueError: ``mean`` and ``std`` differ in length, or a std is not positive.

    Example:
        >>> model = Normalized(nn.Flatten(), mean=[0.5], std=[0.25])
        >>> model(torch.ones(1, 1, 1, 2)).tolist()
        [[2.0, 2.0]]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise ValueError(f"mean and std must be as many numbers, and std > 0; got {tuple(mean)} and {tuple(std)}")
        self.model = model
        self.register_buffer("mean", torch.tensor(list(mean), dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(list(std), dtype=torch.float32).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """What ``model`` answers to the images ``x`` (N, C, H, W) in [0, 1]."""
        return self.model((x - self.mean) / self.std)
