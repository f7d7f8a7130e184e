"""A grid of runs: methods × averagings × threat models × seeds, and what is judged, as one YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from art_ext.comparison.judging import Judging
from art_ext.recipes.layers import Layer

NONE = "none"  # the averaging that is none


@dataclass(frozen=True, kw_only=True)
class Method:
    """One row of the grid.

    Args:
        label: in tables.
        layer: fields of a recipe, by section.
        art: kind of ART's trainer, see `art_ext.comparison.art_trainers.ART_TRAINERS`; None for ours.
        art_options: of that trainer.
    """

    label: str
    layer: Layer = field(default_factory=dict)
    art: str | None = None
    art_options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is to be compared; read by `load_grid`.

    Args:
        name: of the file.
        description: one line.
        paper: address of the publication it follows.
        recipe: sections that all runs share.
        methods: by name, in the order of the table.
        averaging: options of each averaging by its name (``none`` for none); None where the grid has no such axis.
        threats: fields by the name of each threat model; None where there is one alone, the recipe's.
        seeds: of the runs.
        judging: how the networks are judged.
    """

    name: str
    description: str = ""
    paper: str = ""
    recipe: Layer
    methods: Mapping[str, Method]
    averaging: Mapping[str, Mapping[str, Any]] | None = None
    threats: Mapping[str, Mapping[str, Any]] | None = None
    seeds: tuple[int, ...] = (0,)
    judging: Judging = field(default_factory=Judging)


def shipped_grids() -> dict[str, Path]:
    """The grids that ship with the package, by name.

    Example:
        >>> "fashion-mnist-5k-grid" in shipped_grids()
        True
    """
    folder = Path(str(files("art_ext") / "comparison"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
