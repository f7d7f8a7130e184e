"""Noise added to an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.naming import lookup
from art_ext.nn.ranges import check_positive
from art_ext.processes import drawn_like

Fill = Callable[[Tensor, torch.Generator | None], Tensor]


def _laplace(t: Tensor, generator: torch.Generator | None) -> Tensor:
    # the difference of two exponentials; unlike the inverse of the distribution it cannot hit log 0
    return t.exponential_(generator=generator) - torch.empty_like(t).exponential_(generator=generator)


DISTRIBUTIONS: dict[str, Fill] = {
    "gaussian": lambda t, generator: t.normal_(generator=generator),
    "uniform": lambda t, generator: t.uniform_(-1, 1, generator=generator),
    "laplace": _laplace,
    "signs": lambda t, generator: t.bernoulli_(0.5, generator=generator).mul_(2).sub_(1),
}


class Noise(nn.Module):
    """Fresh noise on each image in each forward, in training and at test time, from torch's global generator.

    Args:
        scale: of the noise on the [0, 1] scale, > 0; see `noise_like`.
        distribution: ``"gaussian"``, ``"uniform"``, ``"laplace"`` or ``"signs"``.
        clip: the range that noisy images are cut to; None: not at all.

    Raises:
        ValueError: a scale that is not positive, an unknown distribution (the nearest is proposed), a clip that is no
            range.

    Example:
        >>> x = torch.full((2, 1, 4, 4), 0.5)
        >>> Noise(0.1, distribution="signs")(x).unique()
        tensor([0.4000, 0.6000])
    """

    def __init__(
        self, scale: float, *, distribution: str = "gaussian", clip: tuple[float, float] | None = (0.0, 1.0)
    ) -> None:
        super().__init__()
        check_positive(scale=scale)
        lookup(DISTRIBUTIONS, distribution, what="distribution")
        if clip is not None and not _is_range(clip):
            raise ValueError(f"clip must be (low, high) with low < high, or None; got {clip!r}")
        self.scale, self.distribution, self.clip = scale, distribution, clip

    def forward(self, x: Tensor) -> Tensor:
        """Noisy ``x`` (N, ...)."""
        noisy = x + noise_like(x, self.distribution).mul_(self.scale)
        return noisy if self.clip is None else noisy.clamp(*self.clip)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{self.scale}, distribution={self.distribution!r}, clip={self.clip}"


def _is_range(clip: Any) -> bool:
    pair = isinstance(clip, Sequence) and len(clip) == 2 and all(isinstance(end, Real) for end in clip)
    return pair and bool(clip[0] < clip[1])


def noise_like(x: Tensor, distribution: str = "gaussian", *, generator: torch.Generator | None = None) -> Tensor:
    """Noise of unit scale, independent in every element, with ``x``'s shape, precision and device.

    Args:
        x: (N, ...), floating point.
        distribution: ``"gaussian"`` (standard deviation 1), ``"uniform"`` (in [−1, 1]), ``"laplace"`` (scale 1, so
            standard deviation √2), ``"signs"`` (−1 or +1).
        generator: on ``x``'s device; None for torch's global one.

    Raises:
        ValueError: an unknown distribution.

    Example:
        >>> noise_like(torch.zeros(2, 3), "signs").abs().unique()
        tensor([1.])
    """
    fill = lookup(DISTRIBUTIONS, distribution, what="distribution")
    return drawn_like(x, lambda t: fill(t, generator), generator).detach()
