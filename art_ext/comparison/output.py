"""What a comparison writes: the table as text, Markdown, LaTeX, JSON and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Set
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from art_ext.comparison.cells import Cell
from art_ext.comparison.classes import classes_text
from art_ext.comparison.columns import Column
from art_ext.comparison.grid import Grid
from art_ext.comparison.judging import about, places
from art_ext.comparison.picture import picture
from art_ext.comparison.running import RUN
from art_ext.comparison.summary import Result, classes_of, collect, rows_of
from art_ext.comparison.sweep import is_sweep, sweep
from art_ext.comparison.tables import Table, latex_text, markdown_text, text
from art_ext.evaluation import RobustnessReport
from art_ext.evaluation.facts import threat_text
from art_ext.evaluation.report import versions
from art_ext.files import atomic_write
from art_ext.recipes import as_mapping
from art_ext.recipes.build import make_threat

NAME = "comparison"  # of the files, by suffix


def write_tables(grid: Grid, cells: Mapping[str, Cell], folder: Path, *, command: str = "") -> Table:
    """Read what the folder holds and write ``comparison.txt``, ``.md``, ``.tex``, ``.json`` and ``.png`` into it.

    Where the grid trains under several radii, ``comparison-eps.png`` too: the accuracies over the radius. Where it asks
    for the worst class, ``comparison-classes.md``: the robust accuracy of each class.

    Args:
        grid: what was asked for.
        cells: all of its cells.
        folder: of the comparison.
        command: that repeats it, for the foot of the table.

    Returns:
        The table.

    Raises:
        ValueError: a damaged report.
        OSError: a file cannot be written.
    """
    with FileLock(folder / f".{NAME}.lock"):  # another process's older view must not replace this one
        results = collect(cells, grid.judging, folder)
        table = table_of(grid, results, command=command)
        texts = {
            "txt": text(table) + "\n",
            "md": markdown_text(table),
            "tex": latex_text(table),
            "json": json.dumps(as_json(grid, results, table, folder), indent=1, ensure_ascii=False) + "\n",
        }
        for suffix, content in texts.items():
            with atomic_write(folder / f"{NAME}.{suffix}") as temporary:
                temporary.write_text(content, encoding="utf-8")
        if grid.judging.worst_class:
            with atomic_write(folder / f"{NAME}-classes.md") as temporary:
                temporary.write_text(classes_text(table.rows, title=table.title), encoding="utf-8")
        picture(table.rows, folder / f"{NAME}.png", title=table.title)
        if is_sweep(table.rows):
            marks = [_mark(column, table.rows[0].norm) for column in grid.judging.headings().values()]
            sweep(table.rows, folder / f"{NAME}-eps.png", title=table.title, marks=marks)
    return table


def _mark(column: Column | None, norm: str) -> float | None:
    """The radius of a column that attacks all rows alike, in the norm that they are trained in."""
    if column is None:
        return None
    return column.threat.get("eps") if column.threat.get("norm", norm) == norm else None


def table_of(grid: Grid, results: Mapping[str, Result], *, command: str = "") -> Table:
    """The table with all that must be said under it."""
    return Table(
        title=f"{grid.description or grid.name}: accuracy (%)",
        rows=rows_of(results, grid.judging),
        notes=list(_notes(grid, results)),
        command=command,
    )


def as_json(grid: Grid, results: Mapping[str, Result], table: Table, folder: Path) -> dict[str, Any]:
    """Everything that the table was made of, and the table."""
    return {
        "grid": {
            "name": grid.name,
            "description": grid.description,
            "paper": grid.paper,
            "seeds": list(grid.seeds),
            "evaluation": asdict(grid.judging),
        },
        "command": table.command,
        "versions": versions(),
        "rows": [asdict(row) for row in table.rows],
        "notes": list(table.notes),
        "cells": {name: _cell_json(grid, result, folder) for name, result in results.items()},
    }


def _cell_json(grid: Grid, result: Result, folder: Path) -> dict[str, Any]:
    cell = result.cell
    files = places(grid.judging, cell.recipe, folder / cell.name)
    return {
        "row": cell.row,
        "method": cell.method,
        "averaging": cell.averaging,
        "threat": cell.threat,
        "seed": cell.seed,
        "art": None if cell.art is None else {"trainer": cell.art, "options": dict(cell.art_options)},
        "state": result.state,
        "error": result.error,
        "run": f"{cell.name}/{RUN}",
        "recipe": as_mapping(cell.recipe),
        "training": result.training,
        "accuracies": result.accuracies(),
        "reports": {
            checkpoint: {name: _report_json(report, files[checkpoint][name], folder) for name, report in found.items()}
            for checkpoint, found in result.reports.items()
        },
    }


def _report_json(report: RobustnessReport, file: Path, folder: Path) -> dict[str, Any]:
    return {
        "file": file.relative_to(folder).as_posix(),
        "verdict": report.verdict,
        "n_examples": report.n_examples,
        "attacks": {label: asdict(attack) for label, attack in report.attacks.items()},
        "classes": classes_of(report),
    }


def _extent(first: int | None, numbers: Set[int | None]) -> str:
    """Which test images count, of so many that the recipes take (None: all).

    Example:
        >>> _extent(None, {None}), _extent(100, {None}), _extent(None, {500}), _extent(100, {500})
        ('all test images', 'the first 100 test images', '500 test images', 'the first 100 of 500 test images')
    """
    taken = " or ".join("all" if n is None else str(n) for n in sorted(numbers, key=lambda n: n or 0))
    if first is None:
        return f"{taken} test images"
    return f"the first {first} test images" if taken == "all" else f"the first {first} of {taken} test images"


def _notes(grid: Grid, results: Mapping[str, Result]) -> Iterator[str]:
    judging, recipes = grid.judging, [result.cell.recipe for result in results.values()]
    data = ", ".join(dict.fromkeys(recipe.data.name for recipe in recipes))
    threats = "; ".join(dict.fromkeys(_threat(result) for result in results.values()))
    extent = _extent(judging.n_examples, {recipe.data.test_examples for recipe in recipes})
    yield f"{extent} of {data}; {threats}; seed of the evaluation {judging.seed}"
    yield from about(judging)
    if "best" in judging.checkpoints:
        yield "best: the epoch with the highest PGD accuracy on held-out training images; final: the last epoch"
    if len(judging.checkpoints) > 1:
        yield "diff: best minus final, in points"
    seeds = ", ".join(map(str, grid.seeds))
    yield (
        f"mean ± standard deviation over the training seeds {seeds}"
        if len(grid.seeds) > 1
        else f"training seed {seeds}"
    )
    for state, said in (("failed", "failed"), ("running", "running in another process"), ("missing", "missing")):
        names = [name for name, result in results.items() if result.state == state]
        if names:
            yield f"{said}, not in the table: {', '.join(names)}"
    yield from _doubts(results)


def _threat(result: Result) -> str:
    named = f"{result.cell.threat}: " if result.cell.threat else ""
    return named + threat_text(make_threat(result.cell.recipe))


def _doubts(results: Mapping[str, Result]) -> Iterator[str]:
    """Evaluations that their own indicators do not trust."""
    for name, result in results.items():
        for checkpoint, reports in result.reports.items():
            for heading, report in reports.items():
                if report.verdict not in ("trusted", "unchecked"):
                    yield f"{name}, {checkpoint}, {heading}: {report.verdict}, see its report"
