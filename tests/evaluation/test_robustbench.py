"""Entries of RobustBench's leaderboards: its fields, and nobody's number under AutoAttack's name."""

import json
from dataclasses import replace

import pytest
import torch

from art_ext.evaluation import AttackResult, Indicator, RobustnessReport
from art_ext.evaluation.robustbench import autoattack_accuracy
from art_ext.threat import ThreatModel

FIELDS = [
    "link",
    "name",
    "authors",
    "additional_data",
    "number_forward_passes",
    "dataset",
    "venue",
    "architecture",
    "eps",
    "clean_acc",
    "external",
    "footnote",
    "unreliable",
]


def ran(accuracy, **changes):
    return AttackResult(**({"accuracy": accuracy, "seconds": 1.0, "forwards": 1.0, "backwards": 1.0} | changes))


FAILED = ran(None, error="ValueError: no")
REPORT = RobustnessReport(
    clean_accuracy=0.8534,
    survivors=torch.tensor([True, False, True, False]),
    attacks={"PGD-20": ran(0.5)},
    threat=ThreatModel("linf", 8 / 255),
    suite="fast",
)
FLAGGED = Indicator(name="n", value=1.0, threshold=0.1, flagged=True, severity="suspect", source="s", explanation="e")


def test_fields():
    entry = REPORT.to_robustbench(name="Mine", link="https://x", venue="ICML 2020", additional_data=True)
    assert list(entry) == FIELDS
    assert json.loads(json.dumps(entry)) == entry
    assert (entry["name"], entry["eps"], entry["clean_acc"], entry["external"]) == ("Mine", "8/255", "85.34", "50.00")
    assert entry["additional_data"] is True
    assert entry["unreliable"] is False
    assert entry["footnote"] == "Not AutoAttack: art_ext suite fast (PGD-20) on 4 images, seed 0."


STANDARD = {"AutoAttack (standard)": ran(0.5)}


@pytest.mark.parametrize(
    "attacks, randomised, autoattack, external",
    [
        (STANDARD, False, "50.00", None),
        ({"AutoAttack": ran(0.5)}, False, "50.00", None),
        ({"AutoAttack (rand)": ran(0.5)}, True, "50.00", None),
        ({"AutoAttack (rand)": ran(0.5)}, False, None, "50.00"),
        ({"AutoAttack (apgd-ce)": ran(0.5)}, False, None, "50.00"),
        ({"AutoAttack (apgd-ce, apgd-t, fab-t, square)": ran(0.5)}, False, "50.00", None),
        ({f"AutoAttack {part}": ran(0.5) for part in ("apgd-ce", "apgd-t", "fab-t", "square")}, False, "50.00", None),
        ({"PGD-20": ran(0.5)}, False, None, "50.00"),
        ({"torchattacks AutoAttack (standard)": ran(0.5)}, False, None, "50.00"),
        ({"AutoAttack (standard)": FAILED, "PGD": ran(0.5)}, False, None, "50.00"),
        ({"AutoAttack (standard)": ran(0.75), "PGD": ran(0.6)}, False, "75.00", "50.00"),
    ],
    ids=[
        "standard",
        "bare",
        "rand, randomised",
        "rand, deterministic",
        "one part",
        "all parts",
        "a cascade",
        "PGD",
        "another library's",
        "failed",
        "another is stronger",
    ],
)
def test_only_the_genuine_autoattack_is_autoattack(attacks, randomised, autoattack, external):
    entry = replace(REPORT, attacks=attacks, randomised=randomised).to_robustbench(name="x")
    assert entry.get("autoattack_acc") == autoattack
    assert entry.get("external") == external
    assert entry["footnote"].startswith("Not AutoAttack") == (autoattack is None)


def test_accuracy_of_a_cascade_is_what_is_left():
    parts = dict(zip(("apgd-ce", "apgd-t", "fab-t", "square"), (0.6, 0.55, 0.54, 0.53), strict=True))
    attacks = {f"AutoAttack {part}": ran(accuracy) for part, accuracy in parts.items()}
    assert autoattack_accuracy(replace(REPORT, attacks=attacks)) == 0.53


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"indicators": (FLAGGED,)}, "Verdict: suspect."),
        ({"attacks": {"PGD": ran(0.5), "CW": FAILED}}, "Failed: CW."),
        ({"randomised": True, "eot": 20}, "Randomised output; draws per gradient: 20."),
    ],
    ids=["suspect", "failed", "randomised"],
)
def test_footnote(changes, said):
    entry = replace(REPORT, **changes).to_robustbench(name="x")
    assert said in entry["footnote"]
    assert entry["unreliable"] == ("indicators" in changes)


def test_reported_and_l2():
    entry = replace(REPORT, threat=ThreatModel("l2", 0.5)).to_robustbench(name="x", reported=0.585)
    assert (entry["eps"], entry["reported"]) == ("0.5", "58.50")


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"threat": ThreatModel("linf", torch.ones(4))}, "one per example"),
        ({"attacks": {"CW": FAILED}}, "no attack ran to its end"),
    ],
    ids=["ε per example", "not known"],
)
def test_no_place_on_a_leaderboard(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(REPORT, **changes).to_robustbench(name="x")
