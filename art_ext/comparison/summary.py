"""What the cells of a comparison come to: a row for each method, mean and spread over the seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from art_ext.comparison.cells import Cell
from art_ext.comparison.judging import CLEAN, WORST, Judging, read_reports
from art_ext.comparison.running import ERROR, RUN, State, state_of
from art_ext.evaluation import RobustnessReport
from art_ext.evaluation.figures import per_class_accuracy
from art_ext.recipes.run import RESULT

DIFFERENCE = "difference"
Accuracies = dict[str, dict[str, float | None]]  # by heading, then by checkpoint


@dataclass(frozen=True)
class Figure:
    """Mean over the seeds, and their standard deviation: None where there are less than two.

    Example:
        >>> Figure.of([0.25, 0.75]).mean, Figure.of([0.5]).std, Figure.of([])
        (0.5, None, None)
    """

    mean: float
    std: float | None = None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Figure | None:
        """Of values that are all known; None where one is not, or there are none."""
        known = list(values)
        whole = [value for value in known if value is not None]
        if not known or len(whole) < len(known):
            return None
        return cls(fmean(whole), stdev(whole) if len(whole) > 1 else None)


@dataclass(frozen=True, kw_only=True)
class Result:
    """What is known of one cell.

    Args:
        cell: which one.
        state: done, failed, running (somewhere else) or missing.
        error: of the latest attempt, as a line.
        reports: by checkpoint and heading, those that are there.
        training: figures of the last and the best epoch; None before the end.
    """

    cell: Cell
    state: State
    error: str | None
    reports: Mapping[str, Mapping[str, RobustnessReport]]
    training: Mapping[str, Any] | None

    def accuracies(self) -> Accuracies:
        """By heading (clean first), then by checkpoint; None where no attack ran to its end.

        Each attack's column is followed by that of the worst class; None where a report does not tell the labels.
        """
        found: Accuracies = {}
        for checkpoint, reports in self.reports.items():
            for heading, report in reports.items():
                found.setdefault(CLEAN, {})[checkpoint] = report.clean_accuracy
                robust = report.robust_accuracy
                known = robust == robust
                found.setdefault(heading, {})[checkpoint] = robust if known else None
                of_classes = classes_of(report).values() if known else ()
                found.setdefault(heading + WORST, {})[checkpoint] = min((held for _, held in of_classes), default=None)
        return found


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method of the table.

    Args:
        label: heading.
        seeds: of the cells that are done.
        planned: how many cells the row has.
        figures: by heading (clean first), then by checkpoint, ``difference`` (best − last) last; None where not known.
        line: heading that it shares with the rows trained under other threat models.
        norm: of the training.
        eps: of the training.
        classes: robust accuracy by heading, checkpoint and class, mean over the seeds; empty where not asked for.
    """

    label: str
    seeds: tuple[int, ...]
    planned: int
    figures: Mapping[str, Mapping[str, Figure | None]]
    line: str = ""
    norm: str = "linf"
    eps: float = 0.0
    classes: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)


def collect(cells: Mapping[str, Cell], judging: Judging, folder: Path) -> dict[str, Result]:
    """What the folder holds of each cell.

    Raises:
        ValueError: a damaged file; the message names it.
    """
    return {name: _result(cell, judging, folder) for name, cell in cells.items()}


def classes_of(report: RobustnessReport) -> dict[int, tuple[float, float]]:
    """Clean and robust accuracy by class; empty where a report does not tell the labels."""
    told = (report.labels, report.clean_predictions, report.predictions)
    return {} if any(column is None for column in told) else per_class_accuracy(report)


def rows_of(results: Mapping[str, Result], judging: Judging) -> list[Row]:
    """The table's rows; a cell that is not done counts nowhere, not as zero.

    Args:
        results: of `collect`.
        judging: of the grid.
    """
    by_row: dict[tuple[str | None, ...], list[Result]] = {}
    for result in results.values():
        cell = result.cell
        by_row.setdefault((cell.method, cell.averaging, cell.threat), []).append(result)
    return [_row(found[0].cell, found, judging) for found in by_row.values()]


def _result(cell: Cell, judging: Judging, folder: Path) -> Result:
    place = folder / cell.name
    state, note, result = state_of(cell, judging, folder), place / ERROR, place / RUN / RESULT
    try:
        reports = read_reports(judging, cell.recipe, place)
        training = json.loads(result.read_text(encoding="utf-8")) if result.is_file() else None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"cell {cell.name} in {folder} has a damaged file: {error}") from error
    error_text = note.read_text(encoding="utf-8").strip().splitlines()[-1] if note.is_file() else None
    return Result(cell=cell, state=state, error=error_text, reports=reports, training=training)


def _row(cell: Cell, results: list[Result], judging: Judging) -> Row:
    done = [result for result in results if result.state == "done"]
    accuracies = [result.accuracies() for result in done]
    return Row(
        label=cell.row,
        seeds=tuple(result.cell.seed for result in done),
        planned=len(results),
        figures={heading: _figures(heading, accuracies, judging) for heading in judging.headings()},
        line=cell.line,
        norm=cell.recipe.threat.norm,
        eps=cell.recipe.threat.eps,
        classes=_classes(done, judging) if judging.worst_class else {},
    )


def _classes(done: Sequence[Result], judging: Judging) -> dict[str, dict[str, dict[int, float]]]:
    return {
        heading: {c: _mean_by_class([result.reports[c][heading] for result in done]) for c in judging.checkpoints}
        for heading in judging.columns()
    }


def _mean_by_class(reports: Sequence[RobustnessReport]) -> dict[int, float]:
    """Of the classes that all runs were tried on; none where an attack failed."""
    if not reports or any(report.robust_accuracy != report.robust_accuracy for report in reports):
        return {}
    found = [classes_of(report) for report in reports]
    shared = set.intersection(*(set(of_classes) for of_classes in found))
    return {number: fmean(of_classes[number][1] for of_classes in found) for number in sorted(shared)}


def _figures(heading: str, runs: list[Accuracies], judging: Judging) -> dict[str, Figure | None]:
    found = {c: Figure.of(run[heading][c] for run in runs) for c in judging.checkpoints}
    if len(judging.checkpoints) > 1:
        found[DIFFERENCE] = Figure.of(_minus(run[heading]) for run in runs)
    return found


def _minus(accuracies: Mapping[str, float | None]) -> float | None:
    best, last = accuracies["best"], accuracies["last"]
    return None if best is None or last is None else best - last
