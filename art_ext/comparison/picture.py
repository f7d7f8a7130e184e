"""The table of a comparison as a picture: best and final accuracy of each method, a panel for each attack."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

from art_ext.comparison.summary import DIFFERENCE, Row
from art_ext.comparison.tables import HEADS
from art_ext.evaluation.figures.drawing import plain, save
from art_ext.palette import PALETTE

BAR, PANEL = 0.34, 2.6  # height of a bar in rows, width of a panel in inches


def picture(rows: Sequence[Row], path: Path, *, title: str = "") -> None:
    """Draw the accuracies of all rows; a row without a finished cell says so.

    Args:
        rows: of the table.
        path: the picture; the suffix says the format.
        title: above all panels.

    Raises:
        OSError: ``path`` cannot be written.
    """
    from matplotlib.figure import Figure as Canvas

    headings = list(rows[0].figures)
    canvas = Canvas(figsize=(2.2 + PANEL * len(headings), 1.5 + 0.42 * len(rows)), layout="constrained")
    axes: Any = canvas.subplots(1, len(headings), sharey=True, squeeze=False)[0]
    for axis, heading in zip(axes, headings, strict=True):
        _panel(axis, heading, rows)
    axes[0].set_yticks(range(len(rows)), [plain(row.label) for row in rows])
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    canvas.suptitle(plain(title), fontsize=10)
    canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    save(canvas, path)


def _panel(axis: Any, heading: str, rows: Sequence[Row]) -> None:
    parts = [part for part in rows[0].figures[heading] if part != DIFFERENCE]
    for number, part in enumerate(parts):
        offset = (number - (len(parts) - 1) / 2) * BAR
        known = [(place, figure) for place, row in enumerate(rows) if (figure := row.figures[heading][part])]
        axis.barh(
            [place + offset for place, _ in known],
            [100 * figure.mean for _, figure in known],
            0.9 * BAR,
            xerr=[nan if figure.std is None else 100 * figure.std for _, figure in known],
            color=PALETTE[number],
            label=HEADS[part],
            error_kw={"elinewidth": 1, "capsize": 2},
            zorder=2,
        )
    for place, row in enumerate(rows):
        if not any(row.figures[heading].values()):
            axis.text(0, place, " missing", va="center", fontsize=8, color="0.4")
    axis.set_title(plain(heading), fontsize=9)
    axis.set_xlabel("accuracy (%)", fontsize=8)
    axis.set_xlim(left=0)
    axis.grid(axis="x", color="0.9", zorder=1)
    axis.tick_params(labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
