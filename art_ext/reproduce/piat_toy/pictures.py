"""The figures of the study: the file, what draws it and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from art_ext.reproduce.piat_toy import captions, curves, planes, surfaces
from art_ext.reproduce.piat_toy.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure.

    Args:
        draw: draws it.
        caption: what it shows, and how it reads in this run.
    """

    draw: Callable[[Results], Figure]
    caption: Callable[[Results], str]


PICTURES: dict[str, Picture] = {
    "points.png": Picture(draw=lambda r: planes.points_picture(r.settings, r.shown), caption=captions.points),
    "robust_accuracy.png": Picture(draw=lambda r: curves.courses(r.runs, r.settings), caption=captions.robust_accuracy),
    "boundaries.png": Picture(
        draw=lambda r: planes.boundaries(r.changes, r.settings, r.shown), caption=captions.boundaries
    ),
    "lambda.png": Picture(draw=lambda r: curves.weight_sweep(r.runs, r.settings), caption=captions.weight_sweep),
    "mu.png": Picture(draw=lambda r: curves.mu_sweep(r.runs, r.settings), caption=captions.mu_sweep),
    "landscape_weights.png": Picture(
        draw=lambda r: surfaces.surfaces(r.landscapes["weights"]), caption=captions.landscape_weights
    ),
    "landscape_inputs.png": Picture(
        draw=lambda r: surfaces.surfaces(r.landscapes["inputs"]), caption=captions.landscape_inputs
    ),
}
