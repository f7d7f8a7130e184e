"""What every printed form of a report says: the verdict and its reasons, the threat model, the uncertainty."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isnan, sqrt
from textwrap import shorten
from typing import TYPE_CHECKING

from torch import Tensor

from art_ext.evaluation.verdict import VERDICTS, Indicator

if TYPE_CHECKING:
    from art_ext.evaluation.report import AttackResult, RobustnessReport
    from art_ext.threat import ThreatModel


def reasons(report: RobustnessReport) -> tuple[str, ...]:
    """Sentences that say why the report has its verdict.

    Example:
        >>> import torch
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> fgsm = AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)
        >>> report = RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor([True, False]),
        ...                           attacks={"FGSM": fgsm}, threat=ThreatModel("linf", 0.1))
        >>> reasons(report)
        ('No indicator of masked gradients was measured: nothing was flagged, and nothing was checked.',)
    """
    if isnan(report.robust_accuracy):
        return ("No attack ran to its end: the robust accuracy is not known.",)
    return (*_about_indicators(report), *_about_attacks(report))


def by_severity(indicators: Iterable[Indicator]) -> list[Indicator]:
    """Flagged ones first, the gravest of them before the others; otherwise in the given order."""
    return sorted(indicators, key=lambda i: -VERDICTS.index(i.severity) if i.flagged else 0)


def interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share among ``n`` examples; it covers the sampling of images, not weak attacks.

    Example:
        >>> [round(bound, 3) for bound in interval(0.5, 100)]
        [0.404, 0.596]
    """
    z = 1.959964
    centre, divisor = share + z * z / (2 * n), 1 + z * z / n
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - half) / divisor), min(1.0, (centre + half) / divisor)


def eps_text(eps: float | Tensor) -> str:
    """ε as papers write it: in 255ths of the range where it is no short decimal number.

    Example:
        >>> eps_text(8 / 255), eps_text(0.5), eps_text(0.123456)
        ('8/255', '0.5', '0.1235')
    """
    if isinstance(eps, Tensor):
        return "per example"
    short, levels = f"{eps:.4g}", eps * 255
    if float(short) != eps and levels > 0.5 and abs(levels - round(levels)) < 1e-4:
        return f"{round(levels)}/255"
    return short


def threat_text(threat: ThreatModel) -> str:
    """``ℓ∞, ε = 8/255``.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> threat_text(ThreatModel("l2", 0.5))
        'ℓ2, ε = 0.5'
    """
    ball = "ℓ∞" if threat.norm == "linf" else "ℓ2"
    return f"{ball}, ε = {eps_text(threat.eps)}" if isinstance(threat.eps, float) else f"{ball}, ε per example"


def notes(result: AttackResult) -> list[str]:
    """What a reader must know about one attack: why it failed, and which of its examples were not judged as returned.

    Example:
        >>> from art_ext.evaluation.report import AttackResult
        >>> notes(AttackResult(accuracy=0.5, seconds=1.0, forwards=1.0, backwards=1.0, n_projected=2))
        ['2 projected']
    """
    failed = [f"failed: {shorten(result.error, 300, placeholder='…')}"] if result.error else []
    spread = [] if result.std is None else [f"± {100 * result.std:.2f} over the judging draws"]
    counts = {"not finite": result.n_failed, "projected": result.n_projected}
    missed = [f"no time for {result.n_missed} of {result.n_attacked}"] if result.n_missed else []
    return [*failed, *spread, *missed, *(f"{number} {what}" for what, number in counts.items() if number)]


def failed_attacks(report: RobustnessReport) -> list[str]:
    """Labels of the attacks that failed, or that there was no time for at all."""
    return [label for label, result in report.attacks.items() if result.accuracy is None]


def count(number: int, noun: str) -> str:
    """``count(1, "image")`` is ``"1 image"``, ``count(2, "image")`` ``"2 images"``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def one_line(text: str) -> str:
    """``text`` without line breaks, tabs and runs of spaces."""
    return re.sub(r"[ \t\r\n]+", " ", text).strip(" ")


def _measured(indicator: Indicator) -> bool:
    return indicator.value is not None or indicator.flagged


def _about_indicators(report: RobustnessReport) -> Iterable[str]:
    flagged = [i for i in by_severity(report.indicators) if i.flagged]
    measured = [i.name for i in report.indicators if _measured(i)]
    unknown = [i.name for i in report.indicators if not _measured(i)]
    yield from (f"{i.name[:1].upper()}{i.name[1:]}: {i.explanation}" for i in flagged)
    if not measured:
        yield "No indicator of masked gradients was measured: nothing was flagged, and nothing was checked."
    elif not flagged:
        yield f"No indicator of masked gradients is flagged. Measured: {', '.join(measured)}."
    if unknown:
        yield f"Could not be measured: {', '.join(unknown)}."


def _about_attacks(report: RobustnessReport) -> Iterable[str]:
    failed = failed_attacks(report)
    if failed:
        yield f"{len(failed)} of {len(report.attacks)} attacks failed; the worst case is without {', '.join(failed)}."
    if report.outcomes > 1:
        yield f"The random choices of the defense have {report.outcomes} outcomes: all of them judge each example."
    if report.bpda:
        yield f"Gradients are approximated in parts of the defense (BPDA): {'; '.join(report.bpda)}."
