"""Pictures of reports. Matplotlib is imported when one is drawn, and its global state (pyplot) is never touched."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from math import isnan
from typing import TYPE_CHECKING, Any

from art_ext.files import atomic_write
from art_ext.palette import PALETTE

if TYPE_CHECKING:
    from art_ext.evaluation.report import RobustnessReport

BAR_INCHES, GAP_INCHES, GROUP_INCHES = 0.42, 0.3, 1.05


def bar_chart(reports: Mapping[str, RobustnessReport], path: str | os.PathLike[str]) -> None:
    """Accuracies of one or several models side by side: clean, under each attack, worst case.

    Args:
        reports: report of each model by its label; all of the same threat model. For an attack that a report lacks,
            or that failed there, it says n/a.
        path: the picture; its format follows the suffix (``.png``, ``.svg``, ``.pdf``).

    Raises:
        ValueError: no report, or reports of different threat models.
        OSError: ``path`` cannot be written.

    Example:
        >>> bar_chart({}, "robustness.png")
        Traceback (most recent call last):
        ...
        ValueError: reports must hold at least one report
    """
    if not reports:
        raise ValueError("reports must hold at least one report")
    threats = sorted({str(report.threat) for report in reports.values()})
    if len(threats) > 1:
        raise ValueError(f"reports of different threat models do not belong in one chart: {', '.join(threats)}")
    figure = _draw(reports, threats[0])
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _draw(reports: Mapping[str, RobustnessReport], threat: str) -> Any:
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys(name for report in reports.values() for name in _heights(report)))
    groups.append(groups.pop(groups.index("worst case")))
    pitch = max(GROUP_INCHES, len(reports) * BAR_INCHES + GAP_INCHES)
    figure = Figure(figsize=(max(5.0, pitch * len(groups) + 1.2), 4.2), layout="constrained")
    axes = figure.add_subplot()
    width = BAR_INCHES / pitch
    for i, (label, report) in enumerate(reports.items()):
        offset = (i - (len(reports) - 1) / 2) * width
        _bars(axes, [_heights(report).get(g) for g in groups], offset, width, PALETTE[i % len(PALETTE)], _plain(label))
    images = {report.n_examples for report in reports.values()}
    _decorate(axes, groups, f"Accuracy under {threat}, {' / '.join(map(str, sorted(images)))} images")
    if len(reports) > 1:
        figure.legend(loc="outside lower center", ncols=min(len(reports), 4), frameon=False)
    return figure


def _heights(report: RobustnessReport) -> dict[str, float | None]:
    robust = None if isnan(report.robust_accuracy) else report.robust_accuracy
    attacks = {label: result.accuracy for label, result in report.attacks.items()}
    return {"clean": report.clean_accuracy, **attacks, "worst case": robust}


def _bars(axes: Any, shares: list[float | None], offset: float, width: float, colour: str, label: str) -> None:
    places = [i + offset for i in range(len(shares))]
    heights = [100 * (share or 0.0) for share in shares]
    bars = axes.bar(places, heights, 0.92 * width, color=colour, label=label, zorder=2)
    texts = ["n/a" if share is None else f"{100 * share:.1f}" for share in shares]
    axes.bar_label(bars, texts, fontsize=8, padding=2)


def _decorate(axes: Any, groups: list[str], title: str) -> None:
    axes.set_title(title, fontsize=11)
    axes.set_ylabel("accuracy (%)")
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    names = [textwrap.fill(_plain(name), 14, break_long_words=False) for name in groups]
    axes.set_xticks(range(len(groups)), names, fontsize=9)
    axes.axvspan(len(groups) - 1.5, len(groups) - 0.5, color="0.95", zorder=0)  # the number that counts
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.grid(axis="y", color="0.9", zorder=1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # matplotlib would read mathematics
