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


def report(clean: float, robust: int, error: str | None = None, **told: torch.Tensor) -> RobustnessReport:
    survivors = torch.arange(10) < robust
    accuracy = None if error else robust / 10
    return RobustnessReport(
        clean_accuracy=clean,
        survivors=survivors,
        threat=ThreatModel("linf", 0.1),
        attacks={"FGSM": AttackResult(accuracy=accuracy, seconds=1.0, forwards=1.0, backwards=1.0, error=error)},
        **told,
    )


@pytest.fixture
def rows(make_grid: Callable[..., Grid]) -> Callable[..., list[Row]]:
    """Rows of three seeds of one method; each seed is (best, last) or a state."""

    def make(*seeds: tuple[RobustnessReport, RobustnessReport] | str, **judging: bool) -> list[Row]:
        evaluation = {"attacks": {"FGSM": "fgsm"}, **judging}
        grid = make_grid(methods={"a": {}}, seeds=list(range(len(seeds))), evaluation=evaluation)
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


def test_the_worst_class_of_each_seed_counts(rows: Callable[..., list[Row]]) -> None:
    """Of ten images the first ones survive; the classes are halves, then odd and even numbers."""
    halves = {name: torch.arange(10) // 5 for name in ("labels", "clean_predictions", "predictions")}
    parity = {name: torch.arange(10) % 2 for name in ("labels", "clean_predictions", "predictions")}
    (row,) = rows(
        (report(0.8, 7, **halves), report(0.9, 3, **halves)), (report(0.8, 7, **parity), report(0.9, 3, **parity)),
        worst_class=True,
    )  # fmt: skip
    assert list(row.figures) == ["clean", "FGSM", "FGSM, worst class"]
    worst = row.figures["FGSM, worst class"]
    assert worst["best"] == Figure(pytest.approx((0.4 + 0.6) / 2), pytest.approx(sqrt(0.02)))
    assert worst["last"] == Figure(pytest.approx((0.0 + 0.2) / 2), pytest.approx(sqrt(0.02)))
    (row,) = rows((report(0.8, 7, **halves), report(0.9, 3, **halves)))
    assert list(row.figures) == ["clean", "FGSM"]
    assert row.classes == {}


def test_the_mean_of_each_class_over_the_seeds(rows: Callable[..., list[Row]]) -> None:
    def found(robust: int, classes: torch.Tensor) -> RobustnessReport:
        return report(0.8, robust, **dict.fromkeys(("labels", "clean_predictions", "predictions"), classes))

    numbers = torch.arange(10)
    (row,) = rows((found(7, numbers // 5), found(3, numbers // 5)), (found(7, numbers % 2), found(3, numbers // 4)),
                  worst_class=True)  # fmt: skip
    assert row.classes["FGSM"]["best"] == {0: pytest.approx((1.0 + 0.8) / 2), 1: pytest.approx((0.4 + 0.6) / 2)}
    # of classes 0 and 1 there are images in both, of class 2 in the second alone
    assert row.classes["FGSM"]["last"] == {0: pytest.approx((0.6 + 0.75) / 2), 1: 0.0}
    (empty,) = rows("missing", worst_class=True)
    assert empty.classes == {"FGSM": {"best": {}, "last": {}}}


def test_without_labels_or_after_a_failure_no_class_is_the_worst(rows: Callable[..., list[Row]]) -> None:
    told = {name: torch.arange(10) // 5 for name in ("labels", "clean_predictions", "predictions")}
    (row,) = rows((report(0.8, 7), report(0.9, 3, error="out of memory", **told)), worst_class=True)
    assert row.figures["FGSM"]["best"] == Figure(0.7)
    assert set(row.figures["FGSM, worst class"].values()) == {None}
    assert row.classes == {"FGSM": {"best": {}, "last": {}}}
