"""Accuracies of classes and confusion, counted one example at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from art_ext.evaluation.evaluate import evaluate
from art_ext.evaluation.figures import (
    confusion,
    draw_confusion,
    draw_per_class_accuracy,
    figure_of,
    per_class_accuracy,
)
from art_ext.evaluation.report import RobustnessReport
from art_ext.threat import ThreatModel

LABELS = [0, 0, 0, 0, 2, 2, 5]
CLEAN = [0, 0, 0, 1, 2, 2, 0]
WORST = [0, 2, 5, 1, 2, 0, 0]
NAMES = ("plane", "car", "bird", "cat", "deer", "$dog$")
FUNCTIONS = {
    "per_class_accuracy": per_class_accuracy,
    "confusion": confusion,
    "draw_per_class_accuracy": lambda report, **more: figure_of(lambda a: draw_per_class_accuracy(a, report, **more)),
    "draw_confusion": lambda report, **more: figure_of(lambda a: draw_confusion(a, report, **more)),
}


@pytest.fixture
def report() -> RobustnessReport:
    labels, clean, worst = (torch.tensor(v) for v in (LABELS, CLEAN, WORST))
    return RobustnessReport(
        clean_accuracy=5 / 7,
        survivors=worst == labels,
        attacks={},
        threat=ThreatModel("linf", 8 / 255),
        labels=labels,
        clean_predictions=clean,
        predictions=worst,
    )


def test_per_class_accuracy(report):
    assert per_class_accuracy(report) == {0: (0.75, 0.25), 2: (1.0, 0.5), 5: (0.0, 0.0)}


def test_per_class_accuracy_counts_shares_of_draws_for_a_randomised_defense(report):
    held = replace(report, survival=torch.tensor([0.5, 0.25, 0.25, 0.0, 1.0, 0.0, 0.5]))
    assert {c: robust for c, (_, robust) in per_class_accuracy(held).items()} == {0: 0.25, 2: 0.5, 5: 0.5}


@pytest.mark.parametrize("clean, predicted", [(True, CLEAN), (False, WORST)], ids=["clean", "worst"])
@pytest.mark.parametrize("classes", [None, 6, 9])
def test_confusion(report, clean, predicted, classes):
    count = classes or 6
    expected = [
        [sum(p == (i, j) for p in zip(LABELS, predicted, strict=True)) for j in range(count)] for i in range(count)
    ]
    assert confusion(report, clean=clean, classes=classes).tolist() == expected


def test_of_an_evaluation(linear):
    report = evaluate(linear.net, linear.x, linear.y, threat=ThreatModel("linf", 0.03), progress=False)
    table, counts = per_class_accuracy(report), confusion(report)
    sizes = np.bincount(linear.y)
    assert [*table] == [0, 1]
    assert np.dot(sizes, [clean for clean, _ in table.values()]) == pytest.approx(60 * report.clean_accuracy)
    assert np.dot(sizes, [robust for _, robust in table.values()]) == pytest.approx(60 * report.robust_accuracy)
    assert counts.trace() / 60 == pytest.approx(report.robust_accuracy)
    assert counts.sum(1).tolist() == sizes.tolist()
    assert 0 < report.robust_accuracy < report.clean_accuracy < 1


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("field", ["labels", "clean_predictions", "predictions"])
def test_a_report_without_labels_or_predictions(report, function, field):
    with pytest.raises(
        ValueError, match=f"report must have labels, clean_predictions and predictions; it lacks {field}"
    ):
        function(replace(report, **{field: None}))


@pytest.mark.parametrize("name", ["confusion", "draw_confusion"])
def test_too_few_classes(report, name):
    with pytest.raises(ValueError, match="classes must be at least 6, as many as occur in the report; got 5"):
        FUNCTIONS[name](report, classes=5)


@pytest.mark.parametrize("name", ["draw_per_class_accuracy", "draw_confusion"])
def test_too_few_names(report, name):
    with pytest.raises(ValueError, match="names must name all classes up to 5; got 5 names"):
        FUNCTIONS[name](report, names=NAMES[:5])


def test_bars_of_the_classes_that_occur(report):
    (axes,) = figure_of(lambda axes: draw_per_class_accuracy(axes, report, names=NAMES)).axes
    clean, robust = ([bar.get_height() for bar in bars] for bars in axes.containers)
    assert (clean, robust) == ([0.75, 1.0, 0.0], [0.25, 0.5, 0.0])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["plane", "bird", r"\$dog\$"]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["clean", "robust"]


def test_confusion_is_drawn_in_shares_of_the_true_class(report):
    (axes,) = figure_of(lambda axes: draw_confusion(axes, report)).axes
    shares = np.asarray(axes.images[0].get_array())
    assert shares[0].tolist() == [0.25, 0.25, 0.25, 0, 0, 0.25]
    assert shares[3].tolist() == [0] * 6
    written = {tuple(map(int, t.get_position()[::-1])): t.get_text() for t in axes.texts if t.get_text().isdigit()}
    assert written == {
        (0, 0): "25",
        (0, 1): "25",
        (0, 2): "25",
        (0, 5): "25",
        (2, 0): "50",
        (2, 2): "50",
        (5, 0): "100",
    }


def test_many_classes_have_no_numbers_and_few_ticks(report):
    (axes,) = figure_of(lambda axes: draw_confusion(axes, report, classes=100)).axes
    assert not [t for t in axes.texts if t.get_text().isdigit()]
    assert 10 <= len(axes.get_xticks()) == len(axes.get_yticks()) <= 24
