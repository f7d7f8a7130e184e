"""Verdicts: they follow the numbers, whichever way these go."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from art_ext.reproduce.piat_toy.claims import claim, judged, sign_flip
from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.measures import MEASURES, largest_fall, mean_fall, runs_of
from art_ext.reproduce.piat_toy.settings import METHODS

CALM, WILD = (0.5, 0.75, 0.7, 0.9), (0.5, 0.9, 0.2, 0.6)


def run(name: str, seed: int, robust: Sequence[float], rise: float | None = 1.0) -> Run:
    extent = len(robust) - 1
    return Run(
        method=METHODS[name],
        seed=seed,
        clean=(1.0,) * len(robust),
        robust=tuple(robust),
        moved=(mean_fall(robust),) * extent,
        exhaustive=robust[-1],
        rise=rise,
        seconds=1.0,
    )


def study(with_piat: Sequence[Sequence[float]], without: Sequence[Sequence[float]]) -> list[Run]:
    """Runs of all methods, where NMSE changes nothing."""
    columns = {"PIAT": with_piat, "PIAT+NMSE": with_piat, "PGD-AT": without, "NMSE": without}
    return [run(name, seed, robust) for name, column in columns.items() for seed, robust in enumerate(column)]


@pytest.mark.parametrize(
    "robust, mean, epoch, worst",
    [
        ((0.5, 0.6, 0.7), 0.0, 1, 0.0),
        ((0.5, 0.5, 0.5), 0.0, 1, 0.0),
        ((0.9, 0.5, 0.9), 0.2, 1, 0.4),
        ((0.5, 0.9, 0.8, 0.4), 0.5 / 3, 3, 0.4),
    ],
    ids=["rising", "level", "fall-first", "fall-last"],
)
def test_falls(robust: Sequence[float], mean: float, epoch: int, worst: float) -> None:
    assert mean_fall(robust) == pytest.approx(mean)
    assert largest_fall(robust) == (epoch, pytest.approx(worst))


@pytest.mark.parametrize(
    "with_piat, without, verdict",
    [
        ([CALM] * 6, [WILD] * 6, "holds"),
        ([WILD] * 6, [CALM] * 6, "contradicted"),
        ([CALM, WILD] * 3, [WILD, CALM] * 3, "undecided"),
        ([CALM] * 6, [CALM] * 6, "undecided"),
        ([CALM] * 4, [WILD] * 4, "undecided"),
    ],
    ids=["calmer", "wilder", "mixed", "equal", "too-few-seeds"],
)
def test_verdicts_follow_the_numbers(
    with_piat: list[Sequence[float]], without: list[Sequence[float]], verdict: str
) -> None:
    claims = {(c.measure, c.method): c for c in judged(study(with_piat, without), tail=2)}
    assert {measure for measure, _ in claims} == {name for name, measure in MEASURES.items() if measure.claim}
    for method in ("PIAT", "PIAT+NMSE"):
        found = claims["fall", method]
        assert found.verdict == verdict
        wanted = [mean_fall(a) - mean_fall(b) for a, b in zip(with_piat, without, strict=True)]
        assert found.differences == pytest.approx(wanted)
        assert (found.mean, found.error) == pytest.approx(
            (np.mean(wanted), np.std(wanted, ddof=1) / len(wanted) ** 0.5)
        )
        assert claims["rise", method].verdict == "undecided"  # the same in all runs


@pytest.mark.parametrize("n", [1, 3, 6])
def test_the_sign_flip_test_counts_all_signs(n: int) -> None:
    gains = np.random.default_rng(n).normal(0.5, 1, n)
    sums = [np.dot(signs, gains) for signs in product((1, -1), repeat=n)]
    assert sign_flip(gains.tolist()) == np.mean([s >= gains.sum() - 1e-12 for s in sums])


@pytest.mark.parametrize("n", [0, 21])
def test_the_sign_flip_test_has_its_limits(n: int) -> None:
    with pytest.raises(ValueError, match=f"1 to 20 numbers; got {n}"):
        sign_flip([1.0] * n)


def test_all_equal_is_no_evidence() -> None:
    assert sign_flip([0.0] * 6) == 1.0


@pytest.mark.parametrize("lost", [[("PIAT", 1)], [("PGD-AT", 0)]], ids=["method", "baseline"])
def test_pairs_need_the_same_seeds(lost: list[tuple[str, int]]) -> None:
    runs = [r for r in study([CALM] * 3, [WILD] * 3) if (str(r.method), r.seed) not in lost]
    with pytest.raises(ValueError, match="must have the same seeds"):
        claim("fall", runs, ("PIAT", "PGD-AT"), tail=2)


def test_one_seed_says_nothing() -> None:
    with pytest.raises(ValueError, match="at least two"):
        claim("fall", study([CALM], [WILD]), ("PIAT", "PGD-AT"), tail=2)


def test_what_was_not_measured_is_no_number() -> None:
    runs = [replace(r, rise=None) for r in study([CALM] * 3, [WILD] * 3)]
    with pytest.raises(ValueError, match="not measured for PIAT"):
        claim("rise", runs, ("PIAT", "PGD-AT"), tail=2)


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_a_run(name: str) -> None:
    wanted = {"robust": 0.8, "course": 47 / 60, "final": 0.9, "exhaustive": 0.9, "clean": 1.0, "largest_fall": 0.05}
    calm = MEASURES[name].of(run("PIAT", 0, CALM), 2)
    assert calm == pytest.approx({"rise": 1.0, "fall": 0.05 / 3, "moved": 0.05 / 3, **wanted}[name])


def test_runs_of_a_method_come_by_seed() -> None:
    runs = study([CALM] * 3, [WILD] * 3)[::-1]
    assert [(str(r.method), r.seed) for r in runs_of(runs, "NMSE")] == [("NMSE", 0), ("NMSE", 1), ("NMSE", 2)]
