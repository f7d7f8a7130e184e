"""Interference: a background, white noise and salt-and-pepper noise on top of an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.nn.ranges import check_between
from art_ext.processes import drawn, drawn_like


class Interference(nn.Module):
    """`interfere` with a fresh draw for each example in each forward, in training and at test time.

    The background is the part of the draw that can be listed (`art_ext.evaluation.FiniteRandomness`): `choose` fixes it
    for all examples. The random numbers come from torch's global generator.

    Args:
        backgrounds: (K, C, H, W) in [0, 1], K ≥ 0; see `art_ext.nn.backgrounds.load_backgrounds`.
        alpha: weight of the background, in [0, 1] (paper: 0.1).
        beta: standard deviation of the white noise, in [0, 1] (paper: 0.1).
        gamma: size of the salt and pepper, in [0, 1] (paper: 0.1).
        density: share of the pixels with a grain, in [0, 1] (our decision: 0.05).

    Raises:
        ValueError: a number out of its range, backgrounds that are no images in [0, 1].

    Example:
        >>> backgrounds = torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))
        >>> module = Interference(backgrounds, alpha=0.5, beta=0.0, gamma=0.0)
        >>> module.outcomes
        2
        >>> module.choose(1)
        >>> module(torch.zeros(3, 1, 4, 4)).unique()
        tensor([0.5000])
    """

    backgrounds: Tensor

    def __init__(
        self, backgrounds: Tensor, *, alpha: float = 0.1, beta: float = 0.1, gamma: float = 0.1, density: float = 0.05
    ) -> None:
        super().__init__()
        check_between(0, 1, alpha=alpha, beta=beta, gamma=gamma, density=density)
        _check_backgrounds(backgrounds)
        self.register_buffer("backgrounds", backgrounds.detach().clone())
        self.alpha, self.beta, self.gamma, self.density = alpha, beta, gamma, density
        self._chosen: int | None = None

    @property
    def outcomes(self) -> int:
        """How many backgrounds there are to choose from; 1 where they make no difference."""
        return max(len(self.backgrounds), 1) if self.alpha else 1

    def choose(self, outcome: int | None) -> None:
        """Give all examples this background from now on; None: one at random each."""
        self._chosen = outcome

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] under interference."""
        return interfere(
            x,
            self.backgrounds,
            self._index(x),
            alpha=self.alpha,
            beta=self.beta,
            gamma=self.gamma,
            density=self.density,
        )

    def _index(self, x: Tensor) -> Tensor | None:
        if not len(self.backgrounds) or not self.alpha:
            return None
        if self._chosen is not None:
            return torch.full((len(x),), self._chosen, device=x.device)
        return draw_index(len(x), len(self.backgrounds), device=x.device)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        k, weights = len(self.backgrounds), f"alpha={self.alpha}, beta={self.beta}, gamma={self.gamma}"
        return f"backgrounds={k}, {weights}, density={self.density}"


def interfere(
    x: Tensor,
    backgrounds: Tensor,
    index: Tensor | None,
    *,
    alpha: float,
    beta: float,
    gamma: float,
    density: float = 0.05,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Images under interference: clip(x + α·b + β·n + γ·s, 0, 1) (https://arxiv.org/abs/2310.05947).

    White noise n is normal in every element; salt-and-pepper noise s is the same −1, 0 or +1 in all channels of a
    pixel. The form of s and the clipping are our reading of the paper.

    Args:
        x: images (N, C, H, W) in [0, 1]; not modified.
        backgrounds: (K, C, H, W) in [0, 1].
        index: which background each image gets, (N,), in [0, K); None for none.
        alpha: weight of the background.
        beta: standard deviation of the white noise.
        gamma: size of the salt and pepper.
        density: share of the pixels with a grain, half of them salt.
        generator: of the noise, on ``x``'s device; None for torch's global one.

    Returns:
        (N, C, H, W) in [0, 1], differentiable in ``x``.

    Raises:
        ValueError: backgrounds of another shape than the images.

    Example:
        >>> x, backgrounds = torch.zeros(2, 1, 4, 4), torch.stack((torch.zeros(1, 4, 4), torch.ones(1, 4, 4)))
        >>> interfere(x, backgrounds, torch.tensor([0, 1]), alpha=0.5, beta=0, gamma=0).flatten(1).mean(1).tolist()
        [0.0, 0.5]
    """
    with torch.no_grad():
        disturbance = _background(x, backgrounds, index, alpha)
        if beta:
            noise = drawn_like(x, lambda t: t.normal_(std=beta, generator=generator), generator)
            disturbance = noise if disturbance is None else noise.add_(disturbance)
        if gamma and density:
            grains = _grains(x, density, generator)
            disturbance = gamma * grains if disturbance is None else disturbance.add_(grains, alpha=gamma)
    return (x if disturbance is None else x + disturbance).clamp(0, 1)


def draw_index(
    n: int, count: int, *, generator: torch.Generator | None = None, device: torch.device | None = None
) -> Tensor:
    """A background for each of ``n`` images, (n,) int64 in [0, ``count``), all equally likely."""
    return drawn(lambda rows: torch.randint(count, (rows,), generator=generator, device=device), n, generator)


def _background(x: Tensor, backgrounds: Tensor, index: Tensor | None, alpha: float) -> Tensor | None:
    if index is None or not alpha:
        return None
    if backgrounds.shape[1:] != x.shape[1:]:
        wanted, seen = tuple(x.shape[1:]), tuple(backgrounds.shape[1:])
        raise ValueError(f"backgrounds must have the shape of the images, {wanted}; they have {seen}")
    return backgrounds.to(x)[index].mul_(alpha)


def _grains(x: Tensor, density: float, generator: torch.Generator | None) -> Tensor:
    """−1 (pepper), 0 or +1 (salt) for each pixel, (N, 1, H, W)."""

    def draw(n: int) -> Tensor:
        # in float32 whatever x is: half precision would round the rare grains away
        return torch.rand((n, 1, *x.shape[2:]), device=x.device, generator=generator)

    u = drawn(draw, len(x), generator)
    return (u < density / 2).to(x.dtype) - (u >= 1 - density / 2).to(x.dtype)


def _check_backgrounds(backgrounds: Tensor) -> None:
    if not isinstance(backgrounds, Tensor) or backgrounds.ndim != 4 or not backgrounds.is_floating_point():
        seen = tuple(backgrounds.shape) if isinstance(backgrounds, Tensor) else type(backgrounds).__name__
        raise ValueError(f"backgrounds must be a float tensor (K, C, H, W), see load_backgrounds; got {seen}")
    if backgrounds.numel() and not bool(((backgrounds >= 0) & (backgrounds <= 1)).all()):
        low, high = float(backgrounds.min()), float(backgrounds.max())
        raise ValueError(f"backgrounds must lie in [0, 1]; they cover [{low:.4g}, {high:.4g}]")
