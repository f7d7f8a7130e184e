"""The cells of a grid: one run each, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from art_ext.comparison.art_trainers import OURS_ALONE, check_art
from art_ext.comparison.grid import NONE, Grid, Method
from art_ext.comparison.judging import Judging
from art_ext.naming import lookup
from art_ext.recipes import Recipe, merged, recipe_of
from art_ext.recipes.layers import Layer
from art_ext.recipes.run import checked


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a grid.

    Args:
        name: of its folder.
        row: heading of its row, which it shares with the other seeds.
        line: the same without the threat model.
        method: name in the grid.
        averaging: name on the axis; None where there is none.
        threat: name on the axis; None where there is none.
        seed: of the run.
        recipe: complete.
        art: kind of ART's trainer; None for ours.
        art_options: of that trainer.
    """

    name: str
    row: str
    line: str
    method: str
    averaging: str | None
    threat: str | None
    seed: int
    recipe: Recipe
    art: str | None = None
    art_options: Mapping[str, Any] = field(default_factory=dict)


def cells_of(grid: Grid) -> dict[str, Cell]:
    """All cells by name: threat by threat, method by method, averaging by averaging, seed by seed.

    Raises:
        ValueError: a recipe that makes no sense, two cells of one name, a checkpoint that a run would not have.

    Example:
        >>> from art_ext.comparison import load_grid
        >>> grid = load_grid("fashion-mnist-5k-grid")
        >>> next(iter(cells_of(grid)))
        'pgd-at_none_seed-0'
    """
    cells: dict[str, Cell] = {}
    for cell in _all(grid):
        twin = next((other for other in cells if other.casefold() == cell.name.casefold()), None)
        if twin is not None:
            raise ValueError(f"grid {grid.name}: two cells are called {twin!r}: rename the method {cell.method!r}")
        _check_checkpoints(cell, grid.judging)
        cells[cell.name] = cell
    return cells


def find_cell(cells: Mapping[str, Cell], name: str) -> Cell:
    """The cell of that name.

    Raises:
        ValueError: there is none; the nearest name is proposed.
    """
    return lookup(cells, name, what="cell")


def _all(grid: Grid) -> Iterator[Cell]:
    for threat in grid.threats or (None,):
        for key, method in grid.methods.items():
            for averaging in _averagings(grid, method):
                for seed in grid.seeds:
                    yield _cell(grid, key, averaging, threat, seed)


def _averagings(grid: Grid, method: Method) -> list[str | None]:
    """ART's trainers average nothing: one cell of theirs stands for the whole axis."""
    if grid.averaging is None:
        return [None]
    return [NONE] if method.art else list(grid.averaging)


def _cell(grid: Grid, key: str, averaging: str | None, threat: str | None, seed: int) -> Cell:
    method = grid.methods[key]
    name = "_".join(part for part in (key, averaging, threat, f"seed-{seed}") if part is not None)
    source = f"grid {grid.name}, cell {name}"
    try:
        recipe = checked(recipe_of(_content(grid, method, averaging, threat, seed), source=source))
        if method.art is not None:
            check_art(method.art, method.art_options, recipe)
    except ValueError as error:
        raise ValueError(str(error) if str(error).startswith(source) else f"{source}: {error}") from error
    line = method.label + (f" + {averaging.upper()}" if averaging not in (None, NONE) else "")
    return Cell(
        name=name,
        row=line + (f" ({threat})" if threat else ""),
        line=line,
        method=key,
        averaging=averaging,
        threat=threat,
        seed=seed,
        recipe=recipe,
        art=method.art,
        art_options=method.art_options,
    )


def _content(grid: Grid, method: Method, averaging: str | None, threat: str | None, seed: int) -> dict[str, Any]:
    """The sections of one cell; later layers win."""
    trainer: dict[str, Any] = {"seed": seed}
    if averaging is not None:
        if "averaging" in method.layer.get("trainer", {}):
            raise ValueError("the method has an averaging of its own, beside the axis averaging of the grid")
        options = (grid.averaging or {})[averaging]
        trainer |= {"averaging": None if averaging == NONE else averaging, "averaging_options": dict(options)}
    layers: list[Layer] = [OURS_ALONE if method.art else {}, method.layer]
    if threat is not None:
        fields = dict((grid.threats or {})[threat])
        # a step is made for its ε: another ε has the default of its own, unless it names one
        trainer["step_size"] = fields.pop("step_size", None)
        layers.append({"threat": fields})
    content: dict[str, Any] = dict(grid.recipe)
    for layer in (*layers, {"trainer": trainer}):
        content = merged(content, layer)
    return content


def _check_checkpoints(cell: Cell, judging: Judging) -> None:
    data = cell.recipe.data
    if "best" in judging.checkpoints and not (data.validation_split or data.options.get("held_out")):
        raise ValueError(
            f"cell {cell.name}: evaluation.checkpoints asks for 'best', but the run holds no images out to choose it: "
            "set data.validation_split, or ask for 'last' alone"
        )
