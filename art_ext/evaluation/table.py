"""A report as an aligned plain-text table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import isnan
from typing import TYPE_CHECKING

from art_ext.evaluation.bench import JUDGING_DRAWS
from art_ext.evaluation.facts import failed_attacks, notes

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
    return "\n".join([*aligned([HEAD, *rows], left=(0, len(HEAD) - 1)), *_verdict(report), *_footer(report)])


def percent(share: float | None) -> str:
    """``0.873`` as ``"87.30 %"``; a dash for what is not known.

    Example:
        >>> percent(0.5), percent(None)
        ('50.00 %', '–')
    """
    return "–" if share is None or isnan(share) else f"{100 * share:.2f} %"


def aligned(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> Iterator[str]:
    """Lines of columns two spaces apart: those at the places ``left`` to the left, numbers to the right.

    Example:
        >>> list(aligned([("a", "1"), ("bc", "10")]))
        ['a    1', 'bc  10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()


def _row(label: str, result: AttackResult) -> tuple[str, ...]:
    cost = (f"{result.seconds:.2f}", f"{result.forwards:.1f}", f"{result.backwards:.1f}")
    return (label, percent(result.accuracy), *cost, "; ".join(notes(result)))


def _without(report: RobustnessReport) -> str:
    failed = failed_attacks(report)
    return f"without {', '.join(failed)}" if failed else ""


def _footer(report: RobustnessReport) -> Iterable[str]:
    clip = report.threat.clip
    inputs = "unbounded inputs" if clip is None else f"inputs in [{clip[0]:g}, {clip[1]:g}]"
    yield f"{report.threat}, {inputs}; {report.n_examples} images; suite {report.suite}; seed {report.seed}"
    yield f"forwards, backwards: passes per attacked image; on {report.device}, {report.precision}"
    if report.randomised:
        averaged = f"native attacks average the gradients of {report.eot} draws"
        judges = f"all {report.outcomes} outcomes" if report.outcomes > 1 else f"{JUDGING_DRAWS} fresh ones"
        yield f"randomised output: {averaged}; {judges} judge"
    elif report.eot > 1:
        yield f"native attacks average the gradients of {report.eot} draws"
    if report.bpda:
        yield f"approximate gradients (BPDA): {'; '.join(report.bpda)}"


def _verdict(report: RobustnessReport) -> Iterable[str]:
    """The verdict, and a line for each sign that led to it."""
    if not report.indicators:
        return
    flagged = [i for i in report.indicators if i.flagged]
    yield f"verdict: {report.verdict}" + ("" if flagged else f" ({len(report.indicators)} indicators, none flagged)")
    for sign in flagged:
        value = "–" if sign.value is None else f"{sign.value:.2g}"
        yield f"  {sign.name} {value} (limit {sign.threshold:g}): {sign.explanation}; next: {sign.proposal}"
