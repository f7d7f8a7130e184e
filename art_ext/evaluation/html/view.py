"""What the pages show, as plain rows: the templates lay out, they do not compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.evaluation.compare import Comparison, Row
from art_ext.evaluation.facts import count, interval, threat_text
from art_ext.evaluation.verdict import VERDICTS
from art_ext.palette import PALETTE

if TYPE_CHECKING:
    from art_ext.evaluation.corruptions import CorruptionReport
    from art_ext.evaluation.report import RobustnessReport

MOST_CLASSES = 20  # so many fit on a page
MOST_GROUPS = 6  # attacks in the chart of a comparison; the table has them all


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        name: what it stands for.
        share: its length in [0, 1]; None where it is not known.
        role: ``"clean"``, ``"attack"``, ``"worst"``, ``"doubtful"`` or nothing; a class of the style sheet.
        colour: of the model in a comparison; by default the role's.
    """

    name: str
    share: float | None
    role: str = ""
    colour: str = ""


@dataclass(frozen=True)
class ClassRow:
    """One class: its images, accuracies (None where not known) and what it is most often taken for under attack."""

    name: int
    images: int
    clean: float | None
    robust: float | None
    taken_for: int | None
    times: int


@dataclass(frozen=True)
class Further:
    """The same model under another threat: an ℓ2 ball, say, or common corruptions."""

    threat: str
    accuracy: float | None
    clean: float
    images: int
    suite: str
    verdict: str = ""


def further_row(report: RobustnessReport | CorruptionReport) -> Further:
    """The line of another report.

    Raises:
        TypeError: neither kind of report.
    """
    from art_ext.evaluation.corruptions import CorruptionReport  # it imports reports, which import this
    from art_ext.evaluation.report import RobustnessReport

    if isinstance(report, CorruptionReport):
        levels = ", ".join(map(str, report.severities))
        threat = f"{count(len(report.accuracies), 'common corruption')}, severity {levels}"
        return Further(threat, report.mean_corruption_accuracy, report.clean_accuracy, report.n_examples, "mean")
    if not isinstance(report, RobustnessReport):
        raise TypeError(f"further must hold RobustnessReports and CorruptionReports; got {type(report).__name__}")
    threat = threat_text(report.threat)
    clean = report.clean_accuracy
    return Further(threat, known(report), clean, report.n_examples, f"suite {report.suite}", report.verdict)


def bars(report: RobustnessReport) -> list[Bar]:
    """Clean, each attack, worst case."""
    attacks = [Bar(label, result.accuracy, "attack") for label, result in report.attacks.items()]
    return [Bar("clean", report.clean_accuracy, "clean"), *attacks, Bar("worst case", known(report), "worst")]


def groups(found: Comparison) -> dict[str, list[Bar]]:
    """The bars of all models, for clean, each attack where they are few, worst case."""
    shares: dict[str, list[float | None]] = {"clean": [row.clean for row in found.rows]}
    if len(found.attacks) <= MOST_GROUPS:
        shares |= {name: [row.attacks[name] for row in found.rows] for name in found.attacks}
    shares["worst case"] = [row.robust for row in found.rows]
    return {
        name: [
            Bar(row.label, share, _role(name, row), PALETTE[i % len(PALETTE)])
            for i, (row, share) in enumerate(zip(found.rows, values, strict=True))
        ]
        for name, values in shares.items()
    }


def _role(name: str, row: Row) -> str:
    return "doubtful" if name != "clean" and row.verdict == VERDICTS[-1] else ""


def known(report: RobustnessReport) -> float | None:
    """The robust accuracy, None instead of NaN."""
    return None if isnan(report.robust_accuracy) else report.robust_accuracy


def interval_text(share: float | None, n: int) -> str:
    """``95 % interval 39.1–44.2 %``; nothing where the share is not known.

    Example:
        >>> interval_text(0.5, 100)
        '95 % interval 40.4–59.6 %'
    """
    if share is None:
        return ""
    low, high = interval(share, n)
    return f"95 % interval {100 * low:.1f}–{100 * high:.1f} %"


def class_rows(report: RobustnessReport) -> list[ClassRow]:
    """Accuracy by class, the weakest first; empty where labels or predictions are missing."""
    if report.labels is None or report.predictions is None:
        return []
    rows = [_class_row(int(label), report) for label in report.labels.unique()]
    return sorted(rows, key=lambda row: (row.robust or 0.0, row.clean or 0.0, row.name))


def _class_row(label: int, report: RobustnessReport) -> ClassRow:
    assert report.labels is not None
    assert report.predictions is not None
    mine = report.labels == label
    held = report.survivors if report.survival is None else report.survival
    taken_for, times = _most_often(report.predictions[mine & ~report.survivors])
    return ClassRow(
        name=label,
        images=int(mine.sum()),
        clean=None if report.clean_predictions is None else _share(report.clean_predictions[mine] == label),
        robust=None if known(report) is None else _share(held[mine]),
        taken_for=taken_for,
        times=times,
    )


def _share(correct: Tensor) -> float:
    return correct.sum().item() / len(correct)


def _most_often(predictions: Tensor) -> tuple[int | None, int]:
    if not len(predictions):
        return None, 0
    values, times = torch.unique(predictions, return_counts=True)
    most = int(times.argmax())
    return int(values[most]), int(times[most])


def environment(reports: Mapping[str, RobustnessReport]) -> list[tuple[str, list[str]]]:
    """Name and value for each report of everything that says where and how it was made."""
    each = [dict(_environment(report)) for report in reports.values()]
    names = dict.fromkeys(name for facts in each for name in facts)
    return [(name, [facts.get(name, "–") for facts in each]) for name in names]


def _environment(report: RobustnessReport) -> Iterable[tuple[str, str]]:
    clip = report.threat.clip
    yield "Suite", report.suite
    yield "Seed", str(report.seed)
    yield "Device", report.device
    yield "Precision", report.precision
    yield "Output", "randomised: two passes disagree" if report.randomised else "deterministic"
    yield "Gradients", "one draw" if report.eot == 1 else f"mean of {count(report.eot, 'draw')} (EOT)"
    yield "Inputs", "unbounded" if clip is None else f"in [{clip[0]:g}, {clip[1]:g}]"
    yield from (report.versions or {}).items()
