"""The report as table, JSON and picture."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from art_ext.evaluation import AttackResult, RobustnessReport, bar_chart
from art_ext.threat import ThreatModel


@pytest.fixture
def report():
    return RobustnessReport(
        clean_accuracy=0.75,
        survivors=torch.tensor([True, False, True, False]),
        attacks={
            "FGSM": AttackResult(accuracy=0.75, seconds=0.014, forwards=1.0, backwards=1.0),
            "ART CW-L2-10": AttackResult(
                accuracy=0.5, seconds=12.345, forwards=631.0, backwards=267.8, n_failed=1, n_projected=2
            ),
            "broken": AttackResult(
                accuracy=None, seconds=0.0, forwards=0.0, backwards=0.0, error="ValueError: no\nmore"
            ),
        },
        threat=ThreatModel("linf", 8 / 255),
        suite="custom",
        seed=7,
        versions={"torch": "2"},
    )


def test_table(report):
    assert str(report) == (
        "              accuracy  seconds  forwards  backwards  notes\n"
        "clean          75.00 %\n"
        "FGSM           75.00 %     0.01       1.0        1.0\n"
        "ART CW-L2-10   50.00 %    12.35     631.0      267.8  1 not finite; 2 projected\n"
        "broken               –     0.00       0.0        0.0  failed: ValueError: no more\n"
        "worst case     50.00 %                                without broken\n"
        "ℓ∞ ε=0.03137, inputs in [0, 1]; 4 images; suite custom; seed 7\n"
        "forwards, backwards: passes per attacked image; on cpu, float32"
    )


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"randomised": True, "eot": 20}, "randomised output: native attacks average the gradients of 20 draws"),
        ({"eot": 4}, "native attacks average the gradients of 4 draws"),
        ({"threat": ThreatModel("l2", 0.5, clip=None)}, "ℓ2 ε=0.5, unbounded inputs"),
        ({"threat": ThreatModel("linf", torch.rand(4) + 1)}, "ℓ∞ ε per example"),
    ],
    ids=["randomised", "eot", "l2", "per example"],
)
def test_table_states_how_it_was_made(report, changes, said):
    assert said in str(replace(report, **changes))


THREATS = {
    "linf": ThreatModel("linf", 8 / 255),
    "l2 unbounded": ThreatModel("l2", 0.5, clip=None),
    "per example": ThreatModel("linf", torch.tensor([0.1, 0.2, 0.3, 1 / 3])),
}


@pytest.mark.parametrize("threat", THREATS.values(), ids=THREATS)
def test_json_round_trip(report, tmp_path, threat):
    report = replace(report, threat=threat)
    path = tmp_path / "new" / "report.json"
    text = report.to_json(path)
    assert path.read_text(encoding="utf-8") == text
    for source in (text, path, str(path)):
        again = RobustnessReport.from_json(source)
        assert again.to_json() == text
        assert str(again) == str(report)
        assert torch.equal(again.survivors, report.survivors)
        assert again.attacks == report.attacks


def test_json_is_plain_and_complete(report):
    data = json.loads(report.to_json(), parse_constant=pytest.fail)
    assert data["robust_accuracy"] == 0.5
    assert data["n_examples"] == 4
    assert data["survivors"] == [True, False, True, False]
    assert data["attacks"]["broken"]["accuracy"] is None
    assert data["threat"] == {"norm": "linf", "eps": 8 / 255, "clip": [0.0, 1.0]}


def test_unknown_robustness_is_null_and_comes_back_as_nan(report):
    report = replace(report, attacks={"broken": report.attacks["broken"]})
    assert json.loads(report.to_json(), parse_constant=pytest.fail)["robust_accuracy"] is None
    assert np.isnan(RobustnessReport.from_json(report.to_json()).robust_accuracy)


@pytest.mark.parametrize(
    "text, message",
    [("{}", "missing or unknown: .*'attacks'"), ('{"x": 1', "Expecting|delimiter"), ("[", None)],
    ids=["another object", "broken", "a missing file"],
)
def test_what_is_no_report_is_refused(text, message):
    with pytest.raises(ValueError if message else FileNotFoundError, match=message):
        RobustnessReport.from_json(text)


def _is_a_picture(path):
    pixels = imread(path)[..., :3]
    colours = np.unique((255 * pixels).astype(int).reshape(-1, 3), axis=0)
    return min(pixels.shape[:2]) > 300 and len(colours) > 20


def test_plot(report, tmp_path):
    pyplot_was_there = "matplotlib.pyplot" in sys.modules
    report.plot(tmp_path / "bars.png")
    assert _is_a_picture(tmp_path / "bars.png")
    assert [p.name for p in tmp_path.iterdir()] == ["bars.png"]
    assert ("matplotlib.pyplot" in sys.modules) == pyplot_was_there


def test_bar_chart_of_several_models(report, tmp_path):
    other = replace(report, clean_accuracy=0.9, attacks={"PGD-20": report.attacks["FGSM"]})
    bar_chart({"PGD-AT": report, "PIAT + $\\mu$ NMSE": other}, tmp_path / "bars.png")
    assert _is_a_picture(tmp_path / "bars.png")
    bar_chart({"PGD-AT": report}, tmp_path / "bars.svg")
    assert "<svg" in (tmp_path / "bars.svg").read_text(encoding="utf-8")


def test_bar_chart_refuses_what_cannot_be_compared(report, tmp_path):
    with pytest.raises(ValueError, match="at least one report"):
        bar_chart({}, tmp_path / "bars.png")
    with pytest.raises(ValueError, match=r"different threat models .* ℓ2 ε=0.5, ℓ∞ ε=0.03137"):
        bar_chart({"a": report, "b": replace(report, threat=ThreatModel("l2", 0.5))}, tmp_path / "bars.png")
    assert not list(tmp_path.iterdir())
