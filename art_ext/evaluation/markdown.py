"""Reports as Markdown, for a model card, a README or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from art_ext.evaluation.compare import Comparison, Row, compare
from art_ext.evaluation.facts import by_severity, count, failed_attacks, interval, notes, one_line, reasons, threat_text
from art_ext.evaluation.numbers import p_text, points, significant
from art_ext.evaluation.table import HEAD, percent

if TYPE_CHECKING:
    from art_ext.evaluation.report import AttackResult, RobustnessReport
    from art_ext.evaluation.verdict import Indicator

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")


def report_markdown(report: RobustnessReport) -> str:
    """One report: its verdict and why, the table of attacks, the indicators, how it was made.

    Example:
        >>> import torch
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> fgsm = AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)
        >>> report = RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor([True, False]),
        ...                           attacks={"FGSM": fgsm}, threat=ThreatModel("linf", 8 / 255))
        >>> print(report_markdown(report).splitlines()[0])
        **Robust accuracy 50.00 %**, clean 100.00 % (ℓ∞, ε = 8/255; 2 images). Verdict: **unchecked**
    """
    head = (
        f"**Robust accuracy {percent(report.robust_accuracy)}**, clean {percent(report.clean_accuracy)} "
        f"({threat_text(report.threat)}; {count(report.n_examples, 'image')}). Verdict: **{report.verdict}**"
    )
    why = "\n".join(f"- {escape(reason)}" for reason in reasons(report))
    parts = [head, why, _attacks(report), _indicators(report.indicators), _made(report), _command(report.command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_markdown(reports: Mapping[str, RobustnessReport]) -> str:
    """Several reports on the same images as one table; the first is the reference of differences and tests.

    Raises:
        ValueError: they cannot be compared; see `compare`.

    Example:
        >>> comparison_markdown({})
        Traceback (most recent call last):
        ...
        ValueError: reports must hold at least one report
    """
    found = compare(reports)
    head = ["", "clean", *found.attacks, "worst case", "difference", "p", "verdict"]
    rows = [_model(row, found) for row in found.rows]
    made = (
        f"{threat_text(found.threat)}; {count(found.n_examples, 'image')}. Difference: points of worst-case accuracy "
        f"to {escape(found.rows[0].label)}; p: exact McNemar test on the survivors, not corrected for several "
        "comparisons."
    )
    remarks = "\n".join(f"- {escape(note)}" for note in found.notes)
    table = _table(head, rows, "l" + "r" * (len(head) - 2) + "l")
    return "\n\n".join(part for part in (table, remarks, made) if part) + "\n"


def escape(text: str) -> str:
    r"""Text that Markdown and HTML show as it is, on one line.

    Example:
        >>> print(escape("a|b <script>"))
        a\|b \<script\>
    """
    return SPECIAL.sub(r"\\\1", one_line(text))


def _attacks(report: RobustnessReport) -> str:
    head = ["", "accuracy", "attacked", *HEAD[2:]]
    clean = ["clean", percent(report.clean_accuracy), "", "", "", "", ""]
    rows = [clean, *(_attack(label, result) for label, result in report.attacks.items())]
    without = ", ".join(failed_attacks(report))
    note = escape(f"without {without}") if without else ""
    worst = ["**worst case**", f"**{percent(report.robust_accuracy)}**", "", "", "", "", note]
    return _table(head, [*rows, worst], "lrrrrrl")


def _attack(label: str, result: AttackResult) -> list[str]:
    cost = [f"{result.seconds:.2f}", f"{result.forwards:.1f}", f"{result.backwards:.1f}"]
    attacked = str(result.n_attacked or "–")
    return [escape(label), percent(result.accuracy), attacked, *cost, escape("; ".join(notes(result)))]


def _indicators(indicators: Sequence[Indicator]) -> str:
    if not indicators:
        return ""
    rows = [
        [
            f"**{i.severity}**" if i.flagged else "–",
            escape(i.name),
            significant(i.value),
            significant(i.threshold),
            escape(" ".join(filter(None, (i.explanation, i.proposal and f"Next: {i.proposal}")))),
            escape(i.source),
        ]
        for i in by_severity(indicators)
    ]
    return _table(["flagged", "indicator", "value", "threshold", "what it says", "source"], rows, "llrrll")


def _made(report: RobustnessReport) -> str:
    facts = [
        f"suite {report.suite}",
        f"seed {report.seed}",
        f"{report.device}, {report.precision}",
        *([f"gradients averaged over {count(report.eot, 'draw')}"] if report.eot > 1 else []),
        *(["randomised output"] if report.randomised else []),
        *(f"{name} {number}" for name, number in (report.versions or {}).items()),
    ]
    bounds = "–".join(f"{100 * b:.1f}" for b in interval(report.robust_accuracy, report.n_examples))
    sampling = "" if report.robust_accuracy != report.robust_accuracy else f" 95 % interval of sampling: {bounds} %."
    return escape("; ".join(facts)) + f".{sampling} Forwards, backwards: passes per attacked image."


def _command(command: str) -> str:
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", command)), 3)
    return f"{fence}sh\n{command}\n{fence}" if command.strip() else ""


def _model(row: Row, found: Comparison) -> list[str]:
    attacks = [percent(row.attacks[name]) for name in found.attacks]
    tested = [points(row.difference), p_text(row.p_value)]
    return [escape(row.label), percent(row.clean), *attacks, f"**{percent(row.robust)}**", *tested, row.verdict]


def _table(head: Iterable[str], rows: Iterable[Sequence[str]], align: str) -> str:
    rule = ["---:" if a == "r" else "---" for a in align]
    escaped = [name if name.startswith("*") else escape(name) for name in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [escaped, rule, *rows])
