"""Numbers of a run that the paper's claims are about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.settings import METHODS, Method, Settings


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number of a run.

    Args:
        text: what is measured.
        of: the number, from a run and how many of the last epochs stand for its end.
        claim: what the paper says of PIAT in these terms; empty where it says nothing.
        more: whether PIAT is said to have more of it.
        percent: whether it is a share, to be shown in per cent.
    """

    text: str
    of: Callable[[Run, int], float]
    claim: str = ""
    more: bool = False
    percent: bool = True

    def shown(self, value: float, *, sign: str = "") -> str:
        """The number as text.

        Example:
            >>> MEASURES["robust"].shown(0.123, sign="+"), MEASURES["rise"].shown(0.123)
            ('+12.30', '0.123')
        """
        return f"{100 * value:{sign}.2f}" if self.percent else f"{value:{sign}.3f}"


def runs_of(runs: Iterable[Run], name: str) -> list[Run]:
    """The runs of the method of that name, by seed."""
    return sorted((run for run in runs if run.method == METHODS[name]), key=lambda run: run.seed)


def swept(runs: Iterable[Run], method: Method, settings: Settings) -> list[Run]:
    """The runs of one place of a sweep: those of its seeds, as many at each place."""
    return [run for run in runs if run.method == method and run.seed < settings.sweep_seeds]


def mean_fall(robust: Sequence[float]) -> float:
    """What is lost from one epoch to the next, on average over the epochs; a gain counts as no loss.

    Example:
        >>> mean_fall([0.5, 0.75, 0.25, 0.25, 1.0])
        0.125
    """
    return fmean(max(0.0, a - b) for a, b in pairwise(robust))


def largest_fall(robust: Sequence[float]) -> tuple[int, float]:
    """The epoch in which most is lost, and how much; epoch n leads from ``robust[n - 1]`` to ``robust[n]``.

    Example:
        >>> largest_fall([0.5, 0.75, 0.25, 0.25, 1.0])
        (2, 0.5)
    """
    falls = [a - b for a, b in pairwise(robust)]
    epoch = max(range(len(falls)), key=falls.__getitem__)
    return epoch + 1, max(0.0, falls[epoch])


def _rise(run: Run, tail: int) -> float:
    if run.rise is None:
        raise ValueError(f"the loss around the weights was not measured for {run.method}")
    return run.rise


MEASURES: dict[str, Measure] = {
    "fall": Measure(
        text="robust accuracy lost per epoch (mean over the epochs; a gain counts as 0)",
        of=lambda run, tail: mean_fall(run.robust),
        claim="robust accuracy oscillates less",
    ),
    "largest_fall": Measure(
        text="robust accuracy lost in the worst epoch", of=lambda run, tail: largest_fall(run.robust)[1]
    ),
    "moved": Measure(
        text="share of the plane h = 0 that changes its class in an epoch (mean over the epochs)",
        of=lambda run, tail: fmean(run.moved),
        claim="the decision boundary changes less from epoch to epoch",
    ),
    "course": Measure(
        text="robust accuracy, mean of all epochs",
        of=lambda run, tail: fmean(run.robust[1:]),
        claim="robust accuracy is higher on the way",
        more=True,
    ),
    "robust": Measure(
        text="robust accuracy, mean of the last epochs",
        of=lambda run, tail: fmean(run.robust[-tail:]),
        claim="robust accuracy is higher at the end",
        more=True,
    ),
    "final": Measure(text="robust accuracy, last epoch", of=lambda run, tail: run.robust[-1]),
    "exhaustive": Measure(
        text="robust accuracy, last epoch, where the whole ball was searched too", of=lambda run, tail: run.exhaustive
    ),
    "clean": Measure(text="clean accuracy, mean of the last epochs", of=lambda run, tail: fmean(run.clean[-tail:])),
    "rise": Measure(
        text="mean rise of the adversarial loss on a random plane through the final weights",
        of=_rise,
        claim="the loss is flatter around the weights",
        percent=False,
    ),
}
