"""``art-ext compare``: a grid of runs, and the table of them all."""

from __future__ import annotations

import shlex
import sys
from functools import partial
from pathlib import Path

from art_ext.cli.failing import INTERRUPTED, told_in_a_line
from art_ext.comparison import Cell, Grid, Outcome, cells_of, find_cell, is_done, load_grid, run_cells, write_tables
from art_ext.comparison.tables import text
from art_ext.processes import Processes


def compare(
    grid: str, output: str | None = None, cell: str | None = None, list: bool = False, progress: bool = True
) -> None:
    """Run the missing cells of a grid of methods, and write the table of best and final accuracies.

    The folder is the only state: stopped, the same command goes on; several may share a folder; each cell can be a
    command of its own. It then holds comparison.txt, .md, .tex, .json and .png, and a folder for each cell.

    Args:
        grid: path of a YAML file, or the name of a grid that ships with the package, see art-ext list grids.
        output: folder of the comparison; default comparisons/ and the name of the grid.
        cell: run this cell only.
        list: print the commands that run the missing cells one by one, and do nothing else.
        progress: show progress.
    """
    with told_in_a_line("art-ext compare"):
        asked = load_grid(grid)
        cells = cells_of(asked)
        folder = Path(output or f"comparisons/{asked.name}")
        chosen = cells if cell is None else {cell: find_cell(cells, cell)}
        command = shlex.join(["art-ext", "compare", grid, "--output", str(folder)])
        if list:
            print("\n".join(commands(asked, chosen, folder, command)))
            return
        write = partial(write_tables, asked, cells, folder, command=command)
        try:
            outcome = run_cells(chosen, asked.judging, folder, progress=progress, after=write)
        except KeyboardInterrupt:
            print(f"\n{command} goes on from here", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        if Processes.launched().is_first:
            print(text(write()))
    if Processes.launched().is_first:
        _tell(outcome, folder, asked_for=cell)


def commands(grid: Grid, cells: dict[str, Cell], folder: Path, command: str) -> list[str]:
    """A command for each missing cell."""
    missing = [name for name, cell in cells.items() if not is_done(cell, grid.judging, folder)]
    return [f"{command} --cell {shlex.quote(name)}" for name in missing]


def _tell(outcome: Outcome, folder: Path, asked_for: str | None) -> None:
    """What was not done; a failed cell makes the exit status 1, and so does the one asked for if others have it."""
    if outcome.taken:
        print(f"other processes are at work on: {', '.join(outcome.taken)}", file=sys.stderr)
    for name, error in outcome.failed.items():
        print(f"failed: {name}: {error} (the whole of it is in {folder / name}/error.txt)", file=sys.stderr)
    if outcome.failed or (asked_for is not None and outcome.taken):
        raise SystemExit(1)
