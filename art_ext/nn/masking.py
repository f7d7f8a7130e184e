"""The random transforms of purification: masks of blocks, noise under them, masks that share an image between them."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from art_ext.naming import lookup
from art_ext.nn.noise import noise_like
from art_ext.nn.ranges import check_between, check_count

KINDS = {
    "rt1": "a random mask of blocks",
    "rt2": "Gaussian noise, then a random mask of blocks",
    "rt3": "masks whose holes share the image between them; each hole is filled from the rest",
}


class View(NamedTuple):
    """What a purifier sees of images: (N, C, H, W) in [0, 1], 0 in the holes; and (N, 1, H, W), 1 where it sees."""

    image: Tensor
    mask: Tensor


class Masking(nn.Module):
    """RT1, RT2 and RT3 of adversarial training on purification (https://arxiv.org/abs/2401.16352).

    The grid is that of the image whatever its size (authors' code: 8 × 8, 32-pixel blocks at 256 pixels). Where a side
    is no multiple of ``grid``, blocks differ by one pixel. Differentiable in the images; drawn anew in each forward, in
    training and at test time, from torch's global generator.

    Args:
        kind: ``"rt1"`` masks blocks; ``"rt2"`` adds Gaussian noise first; ``"rt3"`` divides the image into
            round(1 / missing) masks without overlap, each of which is to be filled from the rest, see `merge`.
        grid: blocks along each side, at most as many as there are pixels (authors' code: 8).
        missing: share of the blocks that are holes, in (0, 1) (authors' code: 0.25).
        sigma: standard deviation of the noise of ``"rt2"`` on the [0, 1] scale (authors' code: 0.25).
        shared: all images of a pass have the same mask, instead of one each.
        seed: the same draw in every pass, as a control that nothing hides behind randomness; None for fresh draws.

    Raises:
        ValueError: an argument out of its range; in `forward`, images smaller than the grid.

    Example:
        >>> masking = Masking("rt1", grid=4)
        >>> masking(torch.ones(2, 1, 8, 8)).mean()
        tensor(0.7500)
        >>> len(Masking("rt3", grid=4).views(torch.ones(2, 1, 8, 8)))
        4
    """

    def __init__(
        self,
        kind: str = "rt2",
        *,
        grid: int = 8,
        missing: float = 0.25,
        sigma: float = 0.25,
        shared: bool = False,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        lookup(KINDS, kind, what="random transform")
        check_count(2, grid=grid)
        check_between(0, 10, sigma=sigma)
        _check_missing(missing, grid, kind)
        if seed is not None:
            check_count(0, seed=seed)
        self.kind, self.grid, self.missing, self.sigma = kind, int(grid), float(missing), float(sigma)
        self.shared, self.seed = shared, seed

    @property
    def random(self) -> bool:
        """Whether passes differ."""
        return self.seed is None

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] with holes of zeros.

        Raises:
            ValueError: ``"rt3"``, whose holes make up the whole image, and which so belongs to a purifier.
        """
        if self.kind == "rt3":
            raise ValueError("kind 'rt3' fills every hole, so it needs a purifier: use PurifierPreprocessor")
        return self.views(x)[0].image

    def views(self, x: Tensor) -> list[View]:
        """What a purifier is to see, once or (``"rt3"``) once for each mask."""
        generator = None if self.seed is None else torch.Generator(x.device).manual_seed(self.seed)
        if self.kind == "rt2" and self.sigma:
            x = (x + self.sigma * noise_like(x, generator=generator)).clamp(0, 1)
        holes = self._holes(x, generator)
        return [View(x * ~hole, (~hole).to(x)) for hole in holes]

    def merge(self, views: list[View], purified: list[Tensor]) -> Tensor:
        """One image of what a purifier made of the views: its answer, or (``"rt3"``) its answers in the holes."""
        if self.kind != "rt3":
            return purified[0]
        return torch.stack([(1 - view.mask) * image for view, image in zip(views, purified, strict=True)]).sum(0)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse images (C, H, W) that are too small for the grid.

        Raises:
            ValueError: as said.
        """
        spread(torch.zeros(1, self.grid**2), torch.zeros(1, *shape), self.grid)

    def _holes(self, x: Tensor, generator: torch.Generator | None) -> list[Tensor]:
        blocks = self.grid**2
        rank = torch.rand(1 if self.shared else len(x), blocks, generator=generator, device=x.device).argsort(1)
        if self.kind == "rt3":
            count = round(1 / self.missing)
            return [spread(rank * count // blocks == i, x, self.grid) for i in range(count)]
        return [spread(rank < round(self.missing * blocks), x, self.grid)]

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        noise = f", sigma={self.sigma:g}" if self.kind == "rt2" else ""
        how = f", shared={self.shared}, seed={self.seed}"
        return f"{self.kind!r}, grid={self.grid}, missing={self.missing:g}{noise}{how}"


def spread(blocks: Tensor, x: Tensor, grid: int) -> Tensor:
    """One value per block (N, grid²) over the pixels of ``x`` (N, C, H, W): (N, 1, H, W).

    Raises:
        ValueError: fewer pixels than blocks along a side.

    Example:
        >>> spread(torch.arange(4).view(1, 4), torch.zeros(1, 1, 3, 4), 2)[0, 0]
        tensor([[0, 0, 1, 1],
                [0, 0, 1, 1],
                [2, 2, 3, 3]])
    """
    height, width = x.shape[-2:]
    if min(height, width) < grid:
        raise ValueError(f"images of {height} × {width} pixels cannot have {grid} × {grid} blocks; give a smaller grid")
    rows, columns = (torch.arange(size, device=x.device) * grid // size for size in (height, width))
    index = rows[:, None] * grid + columns
    return blocks[:, index].unsqueeze(1).expand(len(x), -1, -1, -1)


def _check_missing(missing: Any, grid: int, kind: str) -> None:
    check_between(0, 1, missing=missing)
    holes = round(missing * grid**2)
    if not 0 < holes < grid**2:
        raise ValueError(f"missing must leave a hole and a block of {grid} × {grid}, so be in (0, 1); got {missing!r}")
    if kind == "rt3" and round(1 / missing) < 2:
        raise ValueError(f"kind 'rt3' needs at least two masks, so missing ≤ 0.66; got {missing!r}")
