"""Reports as Markdown."""

import re
from dataclasses import replace

import pytest
import torch

from art_ext.evaluation import AttackResult, Indicator, RobustnessReport
from art_ext.evaluation.markdown import comparison_markdown, escape
from art_ext.threat import ThreatModel

PGD = AttackResult(accuracy=0.5, seconds=1.0, forwards=20.0, backwards=20.0, n_attacked=3)
FAILED = replace(PGD, accuracy=None, error="ValueError: a|b\nc")
HOSTILE = "<script> & a|b _x_ *y* 5 % `z`\nnew line"
REPORT = RobustnessReport(
    clean_accuracy=0.75,
    survivors=torch.tensor([True, False, True, False]),
    attacks={"PGD": PGD},
    threat=ThreatModel("linf", 8 / 255),
    versions={"torch": "2.15"},
    command="art-ext evaluate",
)
SIGN = Indicator(
    name="zero gradients",
    value=None,
    threshold=0.01,
    flagged=True,
    severity="suspect",
    source="Croce",
    explanation="None moved.",
    proposal="Run Square.",
)


def cells(line):
    return re.split(r"(?<!\\)\|", line.strip()[1:-1])


def test_report():
    assert REPORT.to_markdown().splitlines() == [
        "**Robust accuracy 50.00 %**, clean 75.00 % (ℓ∞, ε = 8/255; 4 images). Verdict: **unchecked**",
        "",
        "- No indicator of masked gradients was measured: nothing was flagged, and nothing was checked.",
        "",
        "|  | accuracy | attacked | seconds | forwards | backwards | notes |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        "| clean | 75.00 % |  |  |  |  |  |",
        "| PGD | 50.00 % | 3 | 1.00 | 20.0 | 20.0 |  |",
        "| **worst case** | **50.00 %** |  |  |  |  |  |",
        "",
        "suite custom; seed 0; cpu, float32; torch 2.15. 95 % interval of sampling: 15.0–85.0 %. Forwards, backwards: "
        "passes per attacked image.",
        "",
        "```sh",
        "art-ext evaluate",
        "```",
    ]


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"attacks": {"PGD": PGD, "CW": FAILED}}, r"| CW | – | 3 | 1.00 | 20.0 | 20.0 | failed: ValueError: a\|b c |"),
        ({"attacks": {"PGD": PGD, "CW": FAILED}}, "without CW |"),
        ({"attacks": {"CW": FAILED}}, "**Robust accuracy –**"),
        ({"attacks": {"CW": FAILED}}, "Verdict: **broken evaluation**"),
        (
            {"indicators": (SIGN,)},
            "| **suspect** | zero gradients | not measured | 0.01 | None moved. Next: Run Square.",
        ),
        ({"randomised": True, "eot": 20}, "gradients averaged over 20 draws; randomised output"),
        ({"command": "echo ```"}, "````sh\necho ```\n````"),
    ],
    ids=["failed", "without", "not known", "broken", "indicator", "randomised", "fence"],
)
def test_report_says(changes, said):
    assert said in replace(REPORT, **changes).to_markdown()


def test_no_command_no_block():
    assert "```" not in replace(REPORT, command="").to_markdown()


@pytest.mark.parametrize("label", [HOSTILE, "x" * 500, "ε→½ 日本語"], ids=["hostile", "long", "unicode"])
def test_every_row_has_every_cell(label):
    report = replace(REPORT, attacks={label: PGD, "b": FAILED}, indicators=(replace(SIGN, name=label),))
    for text in (report.to_markdown(), comparison_markdown({label: report, "other": REPORT})):
        for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
            assert len({len(cells(line)) for line in table.splitlines()}) == 1
        assert "<script" not in text.replace("\\<script", "")


@pytest.mark.parametrize("sign", list("\\`*_{}[]<>#|~$&"))
def test_escape(sign):
    assert escape(f"a{sign}\n b") == f"a\\{sign} b"


def test_comparison():
    more = replace(REPORT, survivors=torch.ones(4, dtype=torch.bool))
    lines = comparison_markdown({"a": REPORT, "b|": more}).splitlines()
    assert lines[0] == "|  | clean | PGD | worst case | difference | p | verdict |"
    assert lines[2:4] == [
        "| a | 75.00 % | 50.00 % | **50.00 %** | – | – | unchecked |",
        "| b\\| | 75.00 % | 50.00 % | **100.00 %** | +50.00 | 0.500 | unchecked |",
    ]
    assert "could not be checked: no labels in a, b" in lines[5]
