"""Comparisons: what they refuse, what they compute, and McNemar's test against scipy's binomial one."""

from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from art_ext.evaluation import AttackResult, Indicator, RobustnessReport
from art_ext.evaluation.compare import compare, mcnemar
from art_ext.evaluation.numbers import p_text, points
from art_ext.threat import ThreatModel

PGD = AttackResult(accuracy=0.5, seconds=1.0, forwards=20.0, backwards=20.0)
FAILED = replace(PGD, accuracy=None, error="ValueError: no")
LABELS = torch.arange(8) % 3
FIRST = RobustnessReport(
    clean_accuracy=1.0,
    survivors=torch.tensor([True] * 2 + [False] * 6),
    attacks={"PGD": PGD},
    threat=ThreatModel("linf", 8 / 255),
    labels=LABELS,
)
MORE = replace(FIRST, survivors=torch.tensor([True] * 7 + [False]), attacks={"PGD": PGD, "CW": PGD})


def test_rows():
    one, two = compare({"first": FIRST, "more": MORE}).rows
    assert (one.label, one.robust, one.difference, one.p_value) == ("first", 0.25, None, None)
    assert (two.label, two.robust, two.difference) == ("more", 0.875, 0.625)
    assert two.p_value == 2 / 2**5
    assert one.attacks == {"PGD": 0.5, "CW": None}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"threat": ThreatModel("l2", 8 / 255)}, "different threat models, ℓ∞, ε = 8/255.* and ℓ2, ε = 8/255"),
        ({"threat": ThreatModel("linf", 4 / 255)}, "different threat models, .* ε = 8/255.* ε = 4/255"),
        ({"threat": ThreatModel("linf", 8 / 255, clip=None)}, "different threat models, .* inputs in None"),
        ({"threat": ThreatModel("linf", torch.ones(8))}, "different threat models, .* per example"),
        ({"survivors": torch.ones(9, dtype=torch.bool)}, "different numbers of examples, 8 and 9"),
        ({"labels": LABELS.flip(0)}, "different data, the labels of 6 examples differ"),
    ],
    ids=["norm", "ε", "range", "ε per example", "number", "labels"],
)
def test_refuses_what_differs(changes, message):
    with pytest.raises(ValueError, match=f"'a' and 'b' cannot be compared: {message}"):
        compare({"a": FIRST, "b": replace(FIRST, **changes)})


def test_refuses_nothing():
    with pytest.raises(ValueError, match="at least one report"):
        compare({})


@pytest.mark.parametrize(
    "changes, note",
    [
        ({"suite": "standard"}, "The suites differ: a custom, b standard."),
        ({"seed": 3}, "The seeds differ: a 0, b 3."),
        ({"attacks": {"CW": PGD}}, "Not every model faced the same attacks: fewer attacks flatter a model."),
        ({"attacks": {"PGD": PGD, "CW": FAILED}}, None),
        ({"labels": None}, "That the images are the same could not be checked: no labels in b."),
    ],
    ids=["suite", "seed", "attacks", "the other failed", "no labels"],
)
def test_notes(changes, note):
    assert compare({"a": FIRST, "b": replace(FIRST, **changes)}).notes == ((note,) if note else ())


def test_not_known_is_none():
    unknown = replace(FIRST, attacks={"PGD": FAILED})
    for reports in ({"a": unknown, "b": FIRST}, {"a": FIRST, "b": unknown}):
        row = compare(reports).rows[1]
        assert (row.difference, row.p_value) == (None, None)
    assert compare({"a": unknown}).rows[0].robust is None


def test_verdicts():
    flagged = Indicator(
        name="n", value=1.0, threshold=0.1, flagged=True, severity="suspect", source="s", explanation="e"
    )
    row = compare({"a": replace(FIRST, indicators=(flagged,))}).rows[0]
    assert row.verdict == "suspect"
    assert compare({"a": FIRST}).rows[0].verdict == "unchecked"


def test_per_example_radii_can_be_the_same():
    threat = ThreatModel("linf", torch.linspace(0.1, 0.2, 8))
    again = ThreatModel("linf", torch.linspace(0.1, 0.2, 8))
    assert len(compare({"a": replace(FIRST, threat=threat), "b": replace(FIRST, threat=again)}).rows) == 2


@pytest.mark.parametrize("lost, won", [(0, 0), (1, 0), (0, 5), (3, 9), (50, 50), (120, 180), (4000, 4400)])
def test_mcnemar_is_the_exact_binomial_test(lost, won):
    first = torch.tensor([True] * lost + [False] * won + [True, False])
    second = torch.tensor([False] * lost + [True] * won + [True, False])
    expected = binomtest(lost, lost + won).pvalue if lost + won else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(second, first) == mcnemar(first, second)


@pytest.mark.parametrize(
    "value, said", [(0.01, "+1.00"), (-0.01, "−1.00"), (-1e-9, "0.00"), (None, "–"), (float("nan"), "–")]
)
def test_points(value, said):
    assert points(value) == said


@pytest.mark.parametrize("value, said", [(0.00099, "< 0.001"), (0.05, "0.050"), (1.0, "1.000"), (None, "–")])
def test_p_values(value, said):
    assert p_text(value) == said
