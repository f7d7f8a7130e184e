"""Two concentric circles, lifted to three dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Circles:
    """Points of two classes: x = (r cos φ, r sin φ, h), with the radius r around ``radii[class]``.

    φ is uniform in [0, 2π), r in radii[class] ± ``jitter``, h in ±``height``, all independent. PIAT's toy problem
    (https://arxiv.org/abs/2511.00836) has circles of different radii lifted to 3-D; its equations and numbers are not
    legible in the text at hand, so the lift and all defaults are ours.

    **The lift.** h says nothing about the class and depends on nothing: the classes fill two hollow cylinders, and the
    covariance has rank three. A third coordinate that is linear in the first two would leave the points in a plane
    (rank two); no data would then say what the network does across that plane, and an attack that leaves it would meet
    the initial weights. x₃ = x₁² + x₂² would make the classes separable by a plane, and leave no boundary to look at.

    **The margin.** An ℓ∞ ball of radius ε reaches √2 ε inwards and outwards on the diagonals of the first two
    coordinates, and less elsewhere. Below `margin` the circle halfway between the radii therefore classifies every
    point rightly wherever it is moved: clean and robust accuracy 100 %. Above it, balls of the two classes meet, and no
    classifier whatever does.

    Args:
        radii: of the class 0 and of the class 1, ascending.
        jitter: half the width of each ring; the rings may not touch.
        height: half the height of the cylinders, > 0.

    Raises:
        ValueError: radii that do not ascend from above 0, a jitter < 0 or so large that the rings touch each other or
            the axis, a height that is not > 0.

    Example:
        >>> x, y = Circles().draw(512, seed=0)
        >>> x.shape, x.dtype, np.bincount(y).tolist(), round(Circles().margin, 4)
        ((512, 3), dtype('float32'), [256, 256], 0.2828)
    """

    radii: tuple[float, float] = (1.0, 2.0)
    jitter: float = 0.1
    height: float = 1.0

    def __post_init__(self) -> None:
        """Refuse circles that are none, or are not apart."""
        inner, outer = self.radii
        if not 0 < inner < outer < np.inf:
            raise ValueError(f"radii must be 0 < inner < outer; got {self.radii}")
        widest = min(inner, (outer - inner) / 2)
        if not 0 <= self.jitter < widest:
            raise ValueError(f"jitter must be in [0, {widest:g}), or the rings touch; got {self.jitter!r}")
        if not 0 < self.height < np.inf:
            raise ValueError(f"height must be > 0 and finite; got {self.height!r}")

    @property
    def middle(self) -> float:
        """The radius halfway between the two: that of the ideal boundary."""
        return sum(self.radii) / 2

    @property
    def margin(self) -> float:
        """The ℓ∞ ε up to which the ideal boundary is right everywhere, and above which none is: gap of the rings/√8."""
        return (self.radii[1] - self.radii[0] - 2 * self.jitter) / (2 * sqrt(2))

    def draw(self, n: int, *, seed: int) -> tuple[Points, Labels]:
        """So many points (n, 3), float32, and their labels (n,), int64, of both classes in turn.

        Raises:
            ValueError: n < 2.
        """
        if n < 2:
            raise ValueError(f"n must be at least 2, a point of each class; got {n!r}")
        random = np.random.default_rng(seed)
        y = np.arange(n) % 2
        r = np.array(self.radii)[y] + random.uniform(-self.jitter, self.jitter, n)
        angle, h = random.uniform(0, 2 * np.pi, n), random.uniform(-self.height, self.height, n)
        return np.stack([r * np.cos(angle), r * np.sin(angle), h], axis=1).astype(np.float32), y

    def ideal(self, x: Points, y: Labels, *, eps: float) -> NDArray[np.bool_]:
        """Which points (N, 3) the circle halfway classifies rightly wherever an ℓ∞ ball of radius ε moves them, (N,).

        Exact: the point of the ball that is farthest from the axis is a corner, the nearest one is x shrunk by ε in
        each coordinate.

        Example:
            >>> x, y = Circles().draw(1000, seed=0)
            >>> [round(float(Circles().ideal(x, y, eps=eps).mean()), 2) for eps in (0.28, 0.4, 2.0)]
            [1.0, 0.41, 0.0]
        """
        plane = np.abs(x[:, :2].astype(np.float64))
        farthest = np.hypot(*(plane + eps).T)
        nearest = np.hypot(*(plane - eps).clip(min=0).T)
        return np.where(y == 0, farthest < self.middle, nearest > self.middle)
