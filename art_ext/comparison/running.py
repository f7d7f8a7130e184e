"""Carrying the cells of a grid out, in a folder that several processes and machines may share."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from art_ext.comparison.art_run import art_mark, art_of, run_art
from art_ext.comparison.cells import Cell
from art_ext.comparison.judging import Judging, is_judged, judge_checkpoints
from art_ext.engine.checkpoint import prepare_folder
from art_ext.evaluation.facts import one_line
from art_ext.files import atomic_write
from art_ext.processes import Processes
from art_ext.recipes import is_finished, read_recipe, run_recipe
from art_ext.recipes.run import RECIPE, require_same

RUN, ERROR, LOCK = "training", "error.txt", ".lock"
PATIENCE = 2.0  # seconds: who only looks at a cell's state holds its lock for a moment
State = Literal["done", "failed", "running", "missing"]


@dataclass(frozen=True)
class Outcome:
    """What one command did.

    Args:
        done: names of the cells that it finished.
        failed: what went wrong, by cell.
        taken: cells that other processes are at work on.
    """

    done: tuple[str, ...]
    failed: Mapping[str, str]
    taken: tuple[str, ...]


def run_cells(
    cells: Mapping[str, Cell],
    judging: Judging,
    folder: Path,
    *,
    progress: bool = True,
    after: Callable[[], object] = lambda: None,
) -> Outcome:
    """Run what is missing; what fails is remembered, and the others go on.

    A cell that another process is at work on is passed over, and tried again after the others.

    Args:
        cells: by name.
        judging: of the grid.
        folder: of the comparison; a folder for each cell is in it.
        progress: show bars.
        after: called by the first process after each cell, finished or failed: to write the tables anew.

    Raises:
        ValueError: several cells for processes that ``torchrun`` started: these share one cell.
        OSError: the folder cannot be written.
    """
    if Processes.launched().count > 1 and len(cells) > 1:
        raise ValueError("processes that torchrun started share the work of one cell: name it (--cell)")
    prepare_folder(folder)
    done: list[str] = []
    failed: dict[str, str] = {}
    # the first process is about to write: all must go by what it saw before
    left = Processes.launched().agree([name for name, cell in cells.items() if not is_done(cell, judging, folder)])
    while left:
        taken = []
        for name in left:
            with claimed(folder / name) as mine:
                if not mine:
                    taken.append(name)
                    continue
                if is_done(cells[name], judging, folder):  # by another process in the meantime
                    continue
                error = _attempt(cells[name], judging, folder, progress)
            if error is None:
                done.append(name)
            else:
                failed[name] = error
            if Processes.launched().is_first:
                after()
        if len(taken) == len(left):  # nothing else to do in the meantime
            break
        left = taken
    return Outcome(tuple(done), failed, tuple(left))


def run_cell(cell: Cell, judging: Judging, folder: Path, *, progress: bool = True) -> None:
    """Train and judge one cell, going on where an earlier attempt stopped.

    Args:
        cell: what to do.
        judging: of the grid.
        folder: of the comparison.
        progress: show bars.

    Raises:
        Exception: whatever training and evaluation raise.
    """
    run = folder / cell.name / RUN
    shown = progress and cell.recipe.trainer.progress
    recipe = replace(cell.recipe, trainer=replace(cell.recipe.trainer, progress=shown))
    if (run / RECIPE).is_file():
        require_same_run(cell, run)
    if not is_finished(run):
        if cell.art is None:
            run_recipe(recipe, run, resume=True)
        else:
            run_art(recipe, cell.art, cell.art_options, run)
    judge_checkpoints(judging, recipe, run, folder / cell.name)


def require_same_run(cell: Cell, run: Path) -> None:
    """Refuse the folder of another run.

    Raises:
        ValueError: it has another recipe, or another of ART's trainers; the fields are named.
    """
    saved = read_recipe(run / RECIPE)
    require_same(saved, cell.recipe, run)
    there, here = art_of(run), art_mark(cell.art, cell.art_options)
    if there != here:
        raise ValueError(f"the run in {run} is of another trainer of ART: {there} there, {here} here")
    epochs = saved.trainer.nb_epochs, cell.recipe.trainer.nb_epochs
    if epochs[0] != epochs[1]:  # a run alone could go on, but this one may have been judged already
        raise ValueError(f"the run in {run} has other trainer.nb_epochs: {epochs[0]} there, {epochs[1]} here")


def is_done(cell: Cell, judging: Judging, folder: Path) -> bool:
    """Whether the cell, as the grid has it now, was trained and judged."""
    run = folder / cell.name / RUN
    if not is_finished(run) or not is_judged(judging, cell.recipe, folder / cell.name):
        return False
    try:
        require_same_run(cell, run)
    except ValueError:  # of another recipe; to run it says so
        return False
    return True


def state_of(cell: Cell, judging: Judging, folder: Path) -> State:
    """Where a cell stands."""
    if is_done(cell, judging, folder):
        return "done"
    place = folder / cell.name
    if not place.is_dir():
        return "missing"
    lock = _lock(place)
    if lock is None:
        return "running"
    lock.release()
    return "failed" if (place / ERROR).is_file() else "missing"


@contextmanager
def claimed(place: Path) -> Iterator[bool]:
    """Lock a cell for this process until the block ends or the process dies; False where another one has it."""
    processes = Processes.launched()
    lock = _lock(place, PATIENCE) if processes.is_first else None
    try:
        yield processes.agree(lock is not None)
    finally:
        if lock is not None:
            lock.release()


def _lock(place: Path, timeout: float = 0) -> FileLock | None:
    """The lock of a cell, held; None where another process holds it for longer than so many seconds."""
    place.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place / LOCK)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        return None
    return lock


def _attempt(cell: Cell, judging: Judging, folder: Path, progress: bool) -> str | None:
    """The error, as a line; None where all went well."""
    note = folder / cell.name / ERROR
    if progress:
        print(f"{cell.name}: {cell.row}, seed {cell.seed}", file=sys.stderr, flush=True)
    try:
        run_cell(cell, judging, folder, progress=progress)
    except Exception as error:  # whatever it is, it must not cost the other cells
        if Processes.launched().count > 1:
            raise  # the others wait for this process: torchrun ends them all
        with atomic_write(note) as temporary:
            temporary.write_text(traceback.format_exc(), encoding="utf-8")
        return f"{type(error).__name__}: {one_line(str(error))}"
    note.unlink(missing_ok=True)
    return None
