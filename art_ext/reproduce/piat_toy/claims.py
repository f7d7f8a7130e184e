"""What the paper says of PIAT, held against the numbers: paired by seed, tested over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev

import numpy as np

from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.measures import MEASURES, runs_of
from art_ext.reproduce.piat_toy.settings import MOST_SEEDS

HOLDS, CONTRADICTED, UNDECIDED = "holds", "contradicted", "undecided"
LEVEL = 0.05  # of the test, one-sided; with fewer than five seeds nothing can reach it
PAIRS = (("PIAT", "PGD-AT"), ("PIAT+NMSE", "NMSE"))  # each with and without interpolation, all else the same


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim of the paper, and what the seeds say of it.

    Args:
        measure: name of what was measured, in `MEASURES`.
        method: with PIAT.
        baseline: the same without.
        differences: method minus baseline, of each seed.
        mean: of these.
        error: standard error of the mean.
        p_value: of the claim: how often chance signs do as much for it, see `sign_flip`.
        verdict: ``"holds"`` where that is at most 5 %, ``"contradicted"`` where the opposite claim would hold, else
            ``"undecided"``.
    """

    measure: str
    method: str
    baseline: str
    differences: tuple[float, ...]
    mean: float
    error: float
    p_value: float
    verdict: str


def judged(runs: Sequence[Run], *, tail: int) -> list[Claim]:
    """Every claim of the paper, for PIAT beside PGD-AT and for PIAT+NMSE beside NMSE.

    Args:
        runs: all of them.
        tail: last epochs whose mean stands for the end of a training.

    Raises:
        ValueError: the methods of a pair do not have the same seeds, or fewer than two.
    """
    claimed = [name for name, measure in MEASURES.items() if measure.claim]
    return [claim(name, runs, pair, tail=tail) for pair in PAIRS for name in claimed]


def claim(name: str, runs: Sequence[Run], pair: tuple[str, str], *, tail: int) -> Claim:
    """One claim, of the measure of that name, for a method and its baseline; errors as `judged`."""
    ours, theirs = (runs_of(runs, method) for method in pair)
    seeds = [run.seed for run in ours]
    if seeds != [run.seed for run in theirs] or len(seeds) < 2:
        raise ValueError(f"{' and '.join(pair)} must have the same seeds, at least two; {pair[0]} has {seeds}")
    measure = MEASURES[name]
    differences = tuple(measure.of(a, tail) - measure.of(b, tail) for a, b in zip(ours, theirs, strict=True))
    mean, error = fmean(differences), stdev(differences) / sqrt(len(differences))
    gains = [d if measure.more else -d for d in differences]
    p_value = sign_flip(gains)
    return Claim(
        measure=name,
        method=pair[0],
        baseline=pair[1],
        differences=differences,
        mean=mean,
        error=error,
        p_value=p_value,
        verdict=verdict(p_value, sign_flip([-gain for gain in gains])),
    )


def sign_flip(gains: Sequence[float]) -> float:
    """The exact sign-flip test of paired differences, one-sided: is their mean above 0?

    If the pairs did not differ, each difference would have either sign as often: the p-value is the share of the 2ⁿ
    ways to give them signs whose sum is at least that of ``gains``.

    Args:
        gains: differences, positive in favour of the claim; at most 20.

    Raises:
        ValueError: none, or more than 20.

    Example:
        >>> sign_flip([1.0, 2.0, 0.5, 1.5, 3.0]), sign_flip([1.0, -1.0])
        (0.03125, 0.75)
    """
    if not 0 < len(gains) <= MOST_SEEDS:
        raise ValueError(f"gains must be 1 to {MOST_SEEDS} numbers; got {len(gains)}")
    sums = np.zeros(1)
    for gain in gains:
        sums = np.concatenate((sums + gain, sums - gain))
    rounding = 1e-12 * sum(map(abs, gains))
    return float((sums >= sum(gains) - rounding).mean())


def verdict(p_value: float, opposite: float) -> str:
    """What the p-values of a claim and of its opposite come to.

    Example:
        >>> verdict(0.03, 1.0), verdict(1.0, 0.03), verdict(0.2, 0.8)
        ('holds', 'contradicted', 'undecided')
    """
    if p_value <= LEVEL:
        return HOLDS
    return CONTRADICTED if opposite <= LEVEL else UNDECIDED
