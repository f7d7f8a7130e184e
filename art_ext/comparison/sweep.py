"""Accuracy over the radius of the training, as a picture: which ε to train with."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

from art_ext.comparison.summary import DIFFERENCE, Row
from art_ext.comparison.tables import HEADS
from art_ext.evaluation.facts import eps_text
from art_ext.evaluation.figures.drawing import plain, save
from art_ext.palette import PALETTE

STYLES = ("-", "--")  # of the checkpoints


def is_sweep(rows: Sequence[Row]) -> bool:
    """Whether all rows are of one norm, and one line of them is trained with several radii.

    Example:
        >>> rows = [Row(label="", seeds=(), planned=1, figures={}, eps=eps) for eps in (0.1, 0.2)]
        >>> is_sweep(rows), is_sweep(rows[:1])
        (True, False)
    """
    radii: dict[str, set[float]] = {}
    for row in rows:
        radii.setdefault(row.line, set()).add(row.eps)
    return len({row.norm for row in rows}) == 1 and any(len(found) > 1 for found in radii.values())


def sweep(rows: Sequence[Row], path: Path, *, title: str = "", marks: Sequence[float | None] = ()) -> None:
    """Draw a panel for each column and a line for each method, over the ε of the training.

    Args:
        rows: of the table; those without a finished cell leave a gap.
        path: the picture; the suffix says the format.
        title: above all panels.
        marks: ε that each column is attacked with, as a dotted line; None where it is not one for all rows.

    Raises:
        OSError: ``path`` cannot be written.
    """
    from matplotlib.figure import Figure as Canvas

    headings = list(rows[0].figures)
    canvas = Canvas(figsize=(1.0 + 3.0 * len(headings), 3.6), layout="constrained")
    axes: Any = canvas.subplots(1, len(headings), sharey=True, squeeze=False)[0]
    for axis, heading, mark in zip(axes, headings, marks or [None] * len(headings), strict=True):
        _panel(axis, heading, rows)
        if mark is not None:
            axis.axvline(mark, color="0.3", linestyle=":", linewidth=1.5, zorder=1)
    axes[0].set_ylabel("accuracy (%)", fontsize=8)
    axes[0].set_ylim(bottom=0)
    canvas.suptitle(plain(title), fontsize=10)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    save(canvas, path)


def _panel(axis: Any, heading: str, rows: Sequence[Row]) -> None:
    lines = list(dict.fromkeys(row.line for row in rows))
    parts = [part for part in rows[0].figures[heading] if part != DIFFERENCE]
    for number, line in enumerate(lines):
        points = sorted((row for row in rows if row.line == line), key=lambda row: row.eps)
        for part, style in zip(parts, STYLES, strict=False):
            figures = [row.figures[heading][part] for row in points]
            axis.errorbar(
                [row.eps for row in points],
                [nan if figure is None else 100 * figure.mean for figure in figures],
                [nan if figure is None or figure.std is None else 100 * figure.std for figure in figures],
                color=PALETTE[number % len(PALETTE)],
                linestyle=style,
                marker="o",
                markersize=4,
                capsize=2,
                label=plain(f"{line}, {HEADS[part]}" if len(parts) > 1 else line),
            )
    radii = sorted({row.eps for row in rows})
    axis.set_xticks(radii, [eps_text(eps) for eps in radii])
    axis.tick_params(labelsize=8)
    axis.set_title(plain(heading), fontsize=9)
    axis.set_xlabel("ε of the training", fontsize=8)
    axis.grid(color="0.9")
    axis.spines[["top", "right"]].set_visible(False)
