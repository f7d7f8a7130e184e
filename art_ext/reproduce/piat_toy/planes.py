"""Pictures in the plane: the points, and the boundary before and after an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from art_ext.evaluation.figures.drawing import INK, decorate
from art_ext.palette import PALETTE
from art_ext.reproduce.piat_toy.judging import held_by, plane_points, test_points
from art_ext.reproduce.piat_toy.measures import largest_fall
from art_ext.reproduce.piat_toy.settings import Settings
from art_ext.reproduce.piat_toy.surfaces import panels
from art_ext.reproduce.piat_toy.training import Trained, Weights, with_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (PALETTE[3], PALETTE[0])  # of the classes: red and blue, as in the paper
STAGES = {"before": (INK, "--"), "trained": (PALETTE[2], ":"), "after": ("black", "-")}
THIN = 0.8  # the line of the ideal boundary
BALLS = 24  # points that are drawn with theirs


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """The epoch of a training in which most robust accuracy is lost.

    Args:
        epoch: its number, from 1.
        stages: weights by name: ``"before"`` the epoch; ``"trained"``, at its end before the interpolation (absent
            where there is none); ``"after"``.
        held: test points (N,) that are robust before the epoch.
        left: those that are so after it.
        network: a network to put the weights into.
    """

    epoch: int
    stages: Mapping[str, Weights]
    held: Tensor
    left: Tensor
    network: nn.Module

    @property
    def before(self) -> float:
        """Robust accuracy before the epoch."""
        return self.held.double().mean().item()

    @property
    def after(self) -> float:
        """Robust accuracy after it."""
        return self.left.double().mean().item()


def worst_change(trained: Trained, robust: Sequence[float], settings: Settings, seed: int) -> Change:
    """That epoch of a training whose robust accuracies, one more than epochs, are ``robust``."""
    epoch, _ = largest_fall(robust)
    album, (x, y) = trained.album, test_points(settings, seed)
    stages = {"before": album.kept[epoch - 1], "trained": album.trained[epoch], "after": album.kept[epoch]}
    if all(torch.equal(tensor, stages["after"][name]) for name, tensor in stages["trained"].items()):
        del stages["trained"]
    held, left = (
        held_by(with_weights(trained.network, stages[name]), x, y, settings, seed)[1] for name in ("before", "after")
    )
    return Change(epoch=epoch, stages=stages, held=held, left=left, network=trained.network)


def boundaries(changes: Mapping[str, Change], settings: Settings, seed: int) -> Figure:
    """The boundary in the plane h = 0 before and after the worst epoch of each method, with the test points.

    Points that were robust before the epoch and are not after it are filled; the others are pale.
    """
    figure, row = panels([None] * len(changes), size=4.0)
    x, y = test_points(settings, seed)
    for axes, (name, change) in zip(row, changes.items(), strict=True):
        title = f"{name}, epoch {change.epoch}: robust {change.before:.1%} → {change.after:.1%}"
        _plane(axes, title, f"{settings.threat}; seed {seed}; test points of all h", settings)
        _scatter(axes, x, y, lost=change.held & ~change.left)
        for stage, weights in change.stages.items():
            _boundary(axes, with_weights(change.network, weights), stage)
    _legend(figure)
    return figure


def points_picture(settings: Settings, seed: int) -> Figure:
    """The test points in three dimensions and from above, with the ideal boundary and some balls of radius ε."""
    figure, row = panels(["3d", None], size=3.8)
    x, y = test_points(settings, seed)
    decorate(row[0], title="Lifted to 3-D", x_label="x₁", y_label="x₂")
    row[0].set_zlabel("h", color=INK)
    for axis in (row[0].xaxis, row[0].yaxis, row[0].zaxis):
        axis.line.set_color(INK)
        axis.set_tick_params(colors=INK, labelsize=7)
    for label, colour in enumerate(COLOURS):
        row[0].scatter(*x[y == label].T.numpy(), s=4, color=colour, linewidth=0)
    _plane(row[1], "From above", f"{settings.threat}: squares; line: the ideal boundary", settings)
    _scatter(row[1], x, y)
    for point, label in zip(x[:BALLS].tolist(), y[:BALLS].tolist(), strict=True):
        _ball(row[1], point, settings.eps, COLOURS[label])
    return figure


def _boundary(axes: Axes, network: nn.Module, stage: str) -> None:
    line, flat = plane_points()
    with torch.no_grad():
        logits = network(flat)
    difference = (logits[:, 1] - logits[:, 0]).view(len(line), -1)
    colour, style = STAGES[stage]
    if difference.min() < 0 < difference.max():  # else the whole plane is of one class
        axes.contour(line, line, difference.numpy(), levels=[0.0], colors=colour, linestyles=style, linewidths=1.4)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D

    told = {"trained": "after, without interpolation"}
    lines = [Line2D([], [], color=c, ls=style, label=told.get(stage, stage)) for stage, (c, style) in STAGES.items()]
    lines.append(Line2D([], [], color=INK, linewidth=THIN, label="ideal"))
    figure.legend(handles=lines, loc="outside lower center", ncols=4, frameon=False, fontsize=8, labelcolor=INK)


def _plane(axes: Axes, title: str, note: str, settings: Settings) -> None:
    from matplotlib.patches import Circle

    decorate(axes, title=title, x_label="x₁", y_label="x₂", note=note)
    axes.add_patch(Circle((0, 0), settings.circles.middle, fill=False, color=INK, linewidth=THIN))
    axes.set_aspect("equal")


def _scatter(axes: Axes, x: Tensor, y: Tensor, lost: Tensor | None = None) -> None:
    for label, colour in enumerate(COLOURS):
        mine = y == label
        across, up = x[mine, :2].T.numpy()
        axes.scatter(across, up, s=5, color=colour, alpha=1.0 if lost is None else 0.2, linewidth=0)
        if lost is not None:
            across, up = x[mine & lost, :2].T.numpy()
            axes.scatter(across, up, s=14, color=colour, linewidth=0)


def _ball(axes: Axes, point: Sequence[float], eps: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((point[0] - eps, point[1] - eps), 2 * eps, 2 * eps, color=colour, alpha=0.15, linewidth=0))
