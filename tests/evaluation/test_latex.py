"""Reports as LaTeX tables."""

import re
from dataclasses import replace

import pytest
import torch

from art_ext.evaluation import AttackResult, RobustnessReport
from art_ext.evaluation.latex import comparison_latex, escape
from art_ext.threat import ThreatModel

PGD = AttackResult(accuracy=0.5, seconds=1.0, forwards=20.0, backwards=20.0)
FAILED = replace(PGD, accuracy=None, error="ValueError: a_b")
HOSTILE = r"<script> & a_b 5 % #1 $x$ {y} ~ ^ \input{/etc/passwd} | ]"
REPORT = RobustnessReport(
    clean_accuracy=0.75,
    survivors=torch.tensor([True, False, True, False]),
    attacks={"PGD": PGD},
    threat=ThreatModel("linf", 8 / 255),
)


def rows(text):
    return [line for line in text.splitlines() if line.endswith(r"\\")]


def columns(text):
    return len(re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1])


def test_report():
    assert REPORT.to_latex().splitlines() == [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{Accuracy (\%) under $\ell_\infty$, $\varepsilon$ = 8/255 on 4 images; suite custom, seed 0. "
        r"Verdict: unchecked. Forwards, backwards: passes per attacked image.}",
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"Attack & Accuracy & Seconds & Forwards & Backwards \\",
        r"\midrule",
        r"Clean & 75.00 &  &  &  \\",
        r"PGD & 50.00 & 1.00 & 20.0 & 20.0 \\",
        r"\midrule",
        r"\textbf{Worst case} & \textbf{50.00} &  &  &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_failures_are_starred_and_said():
    text = replace(REPORT, attacks={"PGD": PGD, "CW": FAILED}).to_latex()
    assert r"CW\textsuperscript{*} & -- & 1.00" in text
    assert r"\textsuperscript{*}\,CW: failed: ValueError: a\_b." in text


def test_not_known():
    assert r"\textbf{Worst case} & \textbf{--}" in replace(REPORT, attacks={"CW": FAILED}).to_latex()


@pytest.mark.parametrize("label", [HOSTILE, "x" * 500, "[0]", "*", "ε", "a\nb"])
def test_every_row_has_every_cell_and_braces_balance(label):
    report = replace(REPORT, attacks={label: PGD, "b": FAILED}, suite=label)
    for text in (report.to_latex(), comparison_latex({label: report, "other": REPORT})):
        bare = re.sub(r"\\[\\{}&%$#_]", "", text.replace(r" \\", ""))
        assert bare.count("{") == bare.count("}")
        assert bare.count("$") % 2 == 0
        assert not re.search(r"(?<!\\)[%#_~^](?!\\)", bare.replace(r"\ell_\infty", ""))
        assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows(text)} == {columns(text)}
        assert not any(row.startswith(("[", "*")) for row in rows(text))
        assert r"\input" not in text


@pytest.mark.parametrize(
    "given, said",
    [
        ("a_b & 5 %", r"a\_b \& 5 \%"),
        ("\\", r"\textbackslash{}"),
        ("{}", r"\{\}"),
        ("ℓ∞ ℓ2 ε", r"$\ell_\infty$ $\ell_2$ $\varepsilon$"),
        ("−1 – 2", "$-$1 -- 2"),
        ("a\n\tb", "a b"),
        ("日本語", "日本語"),
    ],
)
def test_escape(given, said):
    assert escape(given) == said


def test_comparison():
    more = replace(REPORT, survivors=torch.ones(4, dtype=torch.bool))
    text = comparison_latex({"a": REPORT, "b_2": more})
    assert r"a & 75.00 & 50.00 & 50.00 & -- & -- & unchecked \\" in text
    assert r"b\_2 & 75.00 & 50.00 & 100.00 & +50.00 & 0.500 & unchecked \\" in text


def test_small_p_values_are_mathematics():
    none = replace(REPORT, survivors=torch.zeros(40, dtype=torch.bool))
    every = replace(REPORT, survivors=torch.ones(40, dtype=torch.bool))
    assert r"& $<$\,0.001 &" in comparison_latex({"a": none, "b": every})
