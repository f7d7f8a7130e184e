"""Means, spreads and what is not there."""

from collections.abc import Callable
from math import sqrt

import pytest
import torch

from art_ext.comparison import Grid, cells_of
from art_ext.comparison.summary import Figure, Result, Row, rows_of
from art_ext.evaluation import RobustnessReport
from art_ext.evaluation.report import AttackResult
from art_ext.threat import ThreatModel


def report(clean: float, robust: int, error: str | None = None) -> RobustnessReport:
    survivors = torch.arange(10) < robust
    accuracy = None if error else robust / 10
    return RobustnessReport(
        clean_accuracy=clean,
        survivors=survivors,
        threat=ThreatModel("linf", 0.1),
        attacks={"FGSM": AttackResult(accuracy=accuracy, seconds=1.0, forwards=1.0, backwards=1.0, error=error)},
    )


@pytest.fixture
def rows(make_grid: Callable[..., Grid]) -> Callable[..., list[Row]]:
    """Rows of three seeds of one method; each seed is (best, last) or a state."""

    def make(*seeds: tuple[RobustnessReport, RobustnessReport] | str) -> list[Row]:
        grid = make_grid(methods={"a": {}}, seeds=list(range(len(seeds))))
        results = {}
        for (name, cell), found in zip(cells_of(grid).items(), seeds, strict=True):
            missing = isinstance(found, str)
            reports = {} if missing else {"best": {"FGSM": found[0]}, "last": {"FGSM": found[1]}}
            state = found if missing else "done"
            results[name] = Result(cell=cell, state=state, error=None, reports=reports, training=None)  # type: ignore[arg-type]
        return rows_of(results, grid.judging)

    return make


def test_mean_spread_and_difference(rows: Callable[..., list[Row]]) -> None:
    (row,) = rows((report(0.8, 5), report(0.9, 3)), (report(0.6, 7), report(0.9, 3)))
    assert row.figures["clean"]["best"] == Figure(pytest.approx(0.7), pytest.approx(sqrt(0.02)))
    assert row.figures["FGSM"]["last"] == Figure(pytest.approx(0.3), pytest.approx(0.0))
    assert row.figures["FGSM"]["difference"] == Figure(pytest.approx(0.3), pytest.approx(sqrt(0.02)))


def test_one_seed_has_no_spread(rows: Callable[..., list[Row]]) -> None:
    (row,) = rows((report(0.8, 5), report(0.9, 3)))
    assert row.figures["FGSM"]["best"] == Figure(0.5, None)


@pytest.mark.parametrize("state", ["missing", "failed", "running"])
def test_what_is_not_done_counts_nowhere(state: str, rows: Callable[..., list[Row]]) -> None:
    (row,) = rows((report(0.8, 5), report(0.9, 3)), state, state)
    assert (row.seeds, row.planned) == ((0,), 3)
    assert row.figures["FGSM"]["best"] == Figure(0.5, None)
    (empty,) = rows(state)
    assert set(empty.figures["FGSM"].values()) == {None}


def test_an_attack_that_failed_is_no_accuracy(rows: Callable[..., list[Row]]) -> None:
    (row,) = rows((report(0.8, 5, error="out of memory"), report(0.9, 3)), (report(0.8, 5), report(0.9, 3)))
    assert row.figures["FGSM"]["best"] is None
    assert row.figures["FGSM"]["difference"] is None
    assert row.figures["FGSM"]["last"] == Figure(pytest.approx(0.3), 0.0)
