"""Pictures of the loss as a surface, around the weights and around the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.figures import Landscape, input_landscape
from art_ext.reproduce.piat_toy.judging import test_points, weights_around
from art_ext.reproduce.piat_toy.settings import Settings
from art_ext.reproduce.piat_toy.training import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def landscapes(trained: Mapping[str, Trained], settings: Settings, seed: int) -> dict[str, dict[str, Landscape]]:
    """The adversarial loss around the final weights, and the loss around the test points, for each method."""
    x, y = (t.numpy() for t in test_points(settings, seed))
    note = f"{settings.threat}; {settings.test} test points; seed {seed}"
    around = {name: weights_around(one.network, seed, settings) for name, one in trained.items()}
    inputs = {
        name: input_landscape(one.network, x, y, threat=settings.threat, batch_size=len(x), seed=seed)
        for name, one in trained.items()
    }
    return {
        where: {name: replace(plane, title=f"{name}, around the {where}", note=note) for name, plane in planes.items()}
        for where, planes in {"weights": around, "inputs": inputs}.items()
    }


def surfaces(planes: Mapping[str, Landscape]) -> Figure:
    """Landscapes beside each other as surfaces, on one scale."""
    figure, row = panels(["3d"] * len(planes), size=3.8)
    values = [value for plane in planes.values() for line in plane.values for value in line]
    for axes, plane in zip(row, planes.values(), strict=True):
        plane.draw(axes, "surface")
        axes.set_zlim(min(values), max(values))
    return figure


def panels(projections: Sequence[str | None], *, size: float) -> tuple[Figure, list[Any]]:
    """A figure with a row of square axes of these projections, ``"3d"`` or None for flat ones.

    Example:
        >>> [axes.name for axes in panels(["3d", None], size=3.0)[1]]
        ['3d', 'rectilinear']
    """
    from matplotlib.figure import Figure

    figure, columns = Figure(figsize=(size * len(projections), size), layout="constrained"), len(projections)
    axes = [figure.add_subplot(1, columns, i, projection=kind) for i, kind in enumerate(projections, 1)]
    return figure, axes
