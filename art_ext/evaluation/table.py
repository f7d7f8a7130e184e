"""A report as an aligned plain-text table."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from art_ext.evaluation.report import AttackResult, RobustnessReport

HEAD = ("", "accuracy", "seconds", "forwards", "backwards", "notes")


def render(report: RobustnessReport) -> str:
    """The table that ``print(report)`` shows."""
    rows = [
        ("clean", percent(report.clean_accuracy), "", "", "", ""),
        *(_row(label, result) for label, result in report.attacks.items()),
        ("worst case", percent(report.robust_accuracy), "", "", "", _without(report)),
    ]
    return "\n".join([*_aligned([HEAD, *rows]), *_footer(report)])


def percent(share: float | None) -> str:
    """``0.873`` as ``"87.30 %"``; a dash for what is not known.

    Example:
        >>> percent(0.5), percent(None)
        ('50.00 %', '–')
    """
    return "–" if share is None or isnan(share) else f"{100 * share:.2f} %"


def _row(label: str, result: AttackResult) -> tuple[str, ...]:
    cost = (f"{result.seconds:.2f}", f"{result.forwards:.1f}", f"{result.backwards:.1f}")
    return (label, percent(result.accuracy), *cost, "; ".join(_notes(result)))


def _notes(result: AttackResult) -> Iterable[str]:
    if result.error:
        yield "failed: " + result.error.splitlines()[0][:100]
    if result.n_failed:
        yield f"{result.n_failed} not finite"
    if result.n_projected:
        yield f"{result.n_projected} projected"


def _without(report: RobustnessReport) -> str:
    failed = [label for label, result in report.attacks.items() if result.error]
    return f"without {', '.join(failed)}" if failed else ""


def _footer(report: RobustnessReport) -> Iterable[str]:
    clip = report.threat.clip
    inputs = "unbounded inputs" if clip is None else f"inputs in [{clip[0]:g}, {clip[1]:g}]"
    yield f"{report.threat}, {inputs}; {report.n_examples} images; suite {report.suite}; seed {report.seed}"
    yield f"forwards, backwards: passes per attacked image; on {report.device}, {report.precision}"
    if report.randomised:
        yield f"randomised output: native attacks average the gradients of {report.eot} draws; one draw judges"
    elif report.eot > 1:
        yield f"native attacks average the gradients of {report.eot} draws"


def _aligned(rows: list[tuple[str, ...]]) -> Iterable[str]:
    """Names and notes to the left, numbers to the right, two spaces between columns."""
    last = len(HEAD) - 1
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    for row in rows:
        cells = (c.ljust(w) if i in (0, last) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()
