"""A landscape as a value: numbers on a plane that can be drawn from above or as a surface."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

import torch

from art_ext.evaluation.figures.drawing import INK, decorate, figure_of, plain
from art_ext.palette import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Landscape:
    """Values on a plane, with the point of interest in the middle.

    Args:
        title: what is shown.
        x_label: first direction, and the unit of ``x``.
        y_label: second direction, and the unit of ``y``.
        z_label: the values.
        x: places along the first direction, ascending.
        y: places along the second direction, ascending.
        values: one row for each of ``y``, in it one value for each of ``x``; at least 2 × 2, all finite.
        outline: points (x, y) of a closed line, e.g. where the threat model ends; empty for none.
        note: how it was measured.

    Raises:
        ValueError: ``values`` of another shape, or not finite.

    Example:
        >>> values = ((2.0, 1.0, 2.0), (1.0, 0.0, 1.0))
        >>> plane = Landscape(title="t", x_label="a", y_label="b", z_label="c", x=(-1, 0, 1), y=(0, 1), values=values)
        >>> plane.figure().axes[0].get_xlabel()
        'a'
    """

    title: str
    x_label: str
    y_label: str
    z_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    outline: tuple[tuple[float, float], ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        shape, sizes = (len(self.y), len(self.x)), [len(row) for row in self.values]
        if sizes != [shape[1]] * shape[0] or min(shape) < 2:
            raise ValueError(f"values must be rows for each y of numbers for each x, {shape}, ≥ 2; got rows of {sizes}")
        if not all(isfinite(v) for row in self.values for v in row):
            raise ValueError("values must be finite; got NaN or infinity")

    def figure(self, kind: str = "contour") -> Figure:
        """A new figure with the landscape, ``"contour"`` or ``"surface"``."""
        projection = "3d" if _check_kind(kind) == "surface" else None
        return figure_of(lambda axes: self.draw(axes, kind), size=(4.8, 4.2), projection=projection)

    def draw(self, axes: Axes, kind: str = "contour") -> None:
        """Draw the landscape on matplotlib ``axes``; a ``"surface"`` needs axes of the projection ``"3d"``.

        Raises:
            ValueError: another ``kind``, or flat axes for a surface.
        """
        _check_kind(kind)
        if kind == "surface" and axes.name != "3d":
            raise ValueError("axes must have projection='3d' for kind='surface'; got flat ones")
        decorate(axes, title=self.title, x_label=self.x_label, y_label=self.y_label, note=self.note)
        if kind == "surface":
            _surface(axes, self)
        else:
            _contour(axes, self)


def _check_kind(kind: str) -> str:
    if kind not in ("contour", "surface"):
        raise ValueError(f"kind must be 'contour' or 'surface'; got {kind!r}")
    return kind


def _contour(axes: Axes, plane: Landscape) -> None:
    filled = axes.contourf(plane.x, plane.y, plane.values, levels=20, cmap="viridis")
    filled.set_edgecolor("face")  # no hairlines between the levels in vector formats
    flat = [v for row in plane.values for v in row]
    if min(flat) < 0 < max(flat):  # of a margin: where predictions turn
        axes.contour(plane.x, plane.y, plane.values, levels=[0.0], colors="white", linewidths=1.2)
    if plane.outline:
        axes.plot(*zip(*plane.outline, plane.outline[0], strict=True), "--", color=PALETTE[3], linewidth=1.2)
    axes.plot(0, 0, "o", color=PALETTE[3], markersize=4)
    axes.set_aspect("equal")
    bar = axes.get_figure().colorbar(filled, ax=axes, shrink=0.85)  # type: ignore[union-attr]  # axes stand in a figure
    bar.set_label(plain(plane.z_label), color=INK, fontsize=9)
    bar.solids.set_edgecolor("face")  # type: ignore[union-attr]  # axes stand in a figure
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_edgecolor(INK)


def _surface(axes: Any, plane: Landscape) -> None:
    from matplotlib.ticker import MaxNLocator

    x, y = torch.meshgrid(torch.tensor(plane.x), torch.tensor(plane.y), indexing="xy")
    axes.plot_surface(x.numpy(), y.numpy(), torch.tensor(plane.values).numpy(), cmap="viridis", linewidth=0)
    axes.set_zlabel(plain(plane.z_label), color=INK)
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0.5, 0.5, 0.5, 0.08))
        axis.line.set_color(INK)
        axis.label.set_fontsize(8)
        axis.set_tick_params(colors=INK, labelsize=7, pad=1)
        axis.set_major_locator(MaxNLocator(5))
    axes.set_box_aspect(None, zoom=0.85)  # or the labels are cut
