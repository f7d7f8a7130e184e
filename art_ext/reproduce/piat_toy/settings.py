"""All numbers of the toy problem, and the trainings that follow from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from art_ext.reproduce.piat_toy.data import Circles
from art_ext.threat import ThreatModel

MOST_SEEDS = 20  # the test of a claim lists 2 to the power of the seeds
MU = 4.0  # of NMSE, a third party's value for images


class Method(NamedTuple):
    """A way of training.

    Args:
        mu: weight μ of NMSE beside the cross entropy on adversarial points; 0 is PGD-AT's loss.
        weight: λ, the share of the old weights after each epoch: fixed; 0 for no interpolation; None for PIAT's
            schedule, (n + 1)/(n + 10).
    """

    mu: float
    weight: float | None

    def __str__(self) -> str:
        """Its name in pictures and tables."""
        if self in METHODS.values():
            return next(name for name, method in METHODS.items() if method == self)
        return f"μ={self.mu:g}, λ " + ("dynamic" if self.weight is None else f"= {self.weight:g}")


METHODS = {
    "PGD-AT": Method(0.0, 0.0),
    "PIAT": Method(0.0, None),
    "NMSE": Method(MU, 0.0),
    "PIAT+NMSE": Method(MU, None),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The numbers of the study.

    The paper's: one hidden layer, SGD with momentum 0.9 and learning rate 0.5, 50 epochs of PGD-AT. Ours: all others.
    ε is a little below the margin of the circles, so an ideal classifier reaches 100 % and what lacks is the training's
    doing. ε, jitter, width and sizes were chosen by PGD-AT alone, so that it learns the task but does not settle.

    Args:
        circles: the data.
        eps: ℓ∞ radius ε, on the scale of the coordinates, in training and in judging.
        steps: PGD steps in training, of 2.5 · ε / steps.
        judging_steps: PGD steps in judging.
        train: training points, drawn anew for each seed.
        test: test points, likewise.
        width: hidden units (ReLU).
        batch_size: training points in a batch.
        epochs: of each training.
        lr: learning rate of SGD, constant.
        momentum: of SGD.
        seeds: how many: of data, initial weights, order of the batches and attacks; methods share them. From 2
            to 20; with fewer than 5 no claim can be decided. The sweeps take the first half of them.
        weights: fixed λ of the sweep (with NMSE, as in the paper).
        mus: μ of the sweep (with PIAT's schedule), ascending.
        tail: last epochs whose mean stands for the end of a training.

    Raises:
        ValueError: seeds out of their range.
    """

    circles: Circles = field(default_factory=Circles)
    eps: float = 0.28
    steps: int = 10
    judging_steps: int = 10
    train: int = 512
    test: int = 1000
    width: int = 32
    batch_size: int = 128
    epochs: int = 50
    lr: float = 0.5
    momentum: float = 0.9
    seeds: int = 6
    weights: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 0.9)
    mus: tuple[float, ...] = (0.0, 1.0, 4.0, 16.0)
    tail: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be judged."""
        if not 2 <= self.seeds <= MOST_SEEDS:
            raise ValueError(f"seeds must be a whole number from 2 to {MOST_SEEDS}; got {self.seeds!r}")

    @property
    def threat(self) -> ThreatModel:
        """The ball of each point; points have no valid range."""
        return ThreatModel("linf", self.eps, clip=None)

    @property
    def sweep_seeds(self) -> int:
        """How many seeds the sweeps take."""
        return self.seeds // 2

    @property
    def swept_weights(self) -> dict[float | None, Method]:
        """The methods of the sweep over λ; None is PIAT's schedule."""
        return {weight: Method(MU, weight) for weight in (*self.weights, None)}

    @property
    def swept_mus(self) -> dict[float, Method]:
        """The methods of the sweep over μ."""
        return {mu: Method(mu, None) for mu in self.mus}

    def plan(self) -> list[tuple[Method, int]]:
        """Every training, a method and a seed, once.

        Example:
            >>> plan = Settings(seeds=2).plan()
            >>> len(plan), plan[0], len(set(plan))
            (14, (Method(mu=0.0, weight=0.0), 0), 14)
        """
        compared = [(method, seed) for method in METHODS.values() for seed in range(self.seeds)]
        swept = [*self.swept_weights.values(), *self.swept_mus.values()]
        few = [(method, seed) for method in swept for seed in range(self.sweep_seeds)]
        return list(dict.fromkeys([*compared, *few]))
