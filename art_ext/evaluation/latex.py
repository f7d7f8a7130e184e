r"""Reports as LaTeX tables in the manner of booktabs; the document needs ``\usepackage{booktabs}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from art_ext.evaluation.compare import Comparison, Row, compare
from art_ext.evaluation.facts import count, notes, one_line, threat_text
from art_ext.evaluation.numbers import MINUS, p_text, points
from art_ext.evaluation.table import percent

if TYPE_CHECKING:
    from art_ext.evaluation.report import AttackResult, RobustnessReport

MATHS = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "θ": "theta", "λ": "lambda", "μ": "mu",
    "π": "pi", "σ": "sigma", "τ": "tau", "ℓ": "ell", "∞": "infty", "×": "times", "≤": "leq", "≥": "geq", "→": "to",
}  # fmt: skip
ESCAPES = {
    "ℓ∞": r"$\ell_\infty$",  # before its single letters
    "ℓ2": r"$\ell_2$",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "[": "{[}",  # these three would be arguments of the line end before them
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "—": "---",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    MINUS: "$-$",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
    **{sign: f"$\\{name}$" for sign, name in MATHS.items()},
}
SPECIAL = re.compile("|".join(map(re.escape, ESCAPES)))
END = r" \\"


def report_latex(report: RobustnessReport) -> str:
    r"""One report: accuracy and cost of each attack, the worst case below the rule, the rest in the caption.

    Example:
        >>> import torch
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> fgsm = AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)
        >>> report = RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor([True, False]),
        ...                           attacks={"FGSM": fgsm}, threat=ThreatModel("linf", 8 / 255))
        >>> [line for line in report_latex(report).splitlines() if line.startswith("FGSM")]
        ['FGSM & 50.00 & 0.10 & 1.0 & 1.0 \\\\']
    """
    head = ["Attack", "Accuracy", "Seconds", "Forwards", "Backwards"]
    rows = [["Clean", _number(report.clean_accuracy), "", "", ""]]
    rows += [_attack(label, result) for label, result in report.attacks.items()]
    last = [r"\textbf{Worst case}", rf"\textbf{{{_number(report.robust_accuracy)}}}", "", "", ""]
    return _table(_caption(report), "lrrrr", head, rows, [last])


def comparison_latex(reports: Mapping[str, RobustnessReport]) -> str:
    """Several reports on the same images as one table; the first is the reference of differences and tests.

    Raises:
        ValueError: they cannot be compared; see `compare`.

    Example:
        >>> comparison_latex({})
        Traceback (most recent call last):
        ...
        ValueError: reports must hold at least one report
    """
    found = compare(reports)
    head = ["Model", "Clean", *map(escape, found.attacks), "Worst case", r"$\Delta$", "$p$", "Verdict"]
    return _table(
        _shared_caption(found), "l" + "r" * (len(head) - 2) + "l", head, [_model(r, found) for r in found.rows]
    )


def escape(text: str) -> str:
    r"""Text that LaTeX shows as it is, on one line; Greek letters and some signs become mathematics.

    Example:
        >>> print(escape("PGD_20 & 5 % ε"))
        PGD\_20 \& 5 \% $\varepsilon$
    """
    return SPECIAL.sub(lambda match: ESCAPES[match[0]], one_line(text))


def _attack(label: str, result: AttackResult) -> list[str]:
    mark = r"\textsuperscript{*}" if notes(result) else ""
    cost = [f"{result.seconds:.2f}", f"{result.forwards:.1f}", f"{result.backwards:.1f}"]
    return [escape(label) + mark, _number(result.accuracy), *cost]


def _model(row: Row, found: Comparison) -> list[str]:
    attacks = [_number(row.attacks[name]) for name in found.attacks]
    tested = [escape(points(row.difference)), _p(row.p_value)]
    return [escape(row.label), _number(row.clean), *attacks, _number(row.robust), *tested, escape(row.verdict)]


def _caption(report: RobustnessReport) -> str:
    remarks = [f"{label}: {note}" for label, result in report.attacks.items() for note in notes(result)]
    sentences = [
        f"Accuracy (%) under {threat_text(report.threat)} on {count(report.n_examples, 'image')}; "
        f"suite {report.suite}, seed {report.seed}. Verdict: {report.verdict}.",
        "Forwards, backwards: passes per attacked image.",
        *([f"Randomised output; gradients averaged over {count(report.eot, 'draw')}."] if report.randomised else []),
    ]
    starred = rf" \textsuperscript{{*}}\,{escape('; '.join(remarks))}." if remarks else ""
    return escape(" ".join(sentences)) + starred


def _shared_caption(found: Comparison) -> str:
    sentences = [
        f"Accuracy (%) under {threat_text(found.threat)} on {count(found.n_examples, 'image')}.",
        f"Difference in points to {found.rows[0].label} and exact McNemar test on the survivors.",
        *found.notes,
    ]
    return escape(" ".join(sentences))


def _number(share: float | None) -> str:
    return escape(percent(share).removesuffix(" %"))


def _p(p_value: float | None) -> str:
    text = p_text(p_value)
    return "$<$" + text.removeprefix("<").replace(" ", r"\,") if text.startswith("<") else escape(text)


def _table(
    caption: str, columns: str, head: Iterable[str], rows: Sequence[Sequence[str]], last: Sequence[Sequence[str]] = ()
) -> str:
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        " & ".join(head) + END,
        r"\midrule",
        *(" & ".join(row) + END for row in rows),
        *([r"\midrule"] if last else []),
        *(" & ".join(row) + END for row in last),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"
