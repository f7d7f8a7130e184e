"""``art-ext train``: carry a recipe out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import Any

from art_ext.cli.failing import INTERRUPTED, told_in_a_line
from art_ext.processes import Processes
from art_ext.recipes.folder import RECIPE
from art_ext.recipes.layers import find
from art_ext.recipes.resolve import as_text, load_recipe
from art_ext.recipes.run import RunResult, checked, run_recipe


def train(
    recipe: str, output: str | None = None, resume: bool = False, print_config: bool = False, **settings: Any
) -> None:
    """Train as a recipe says; every field of it can be changed by an option.

    The folder then holds the complete recipe, the environment, weights, history and learning curves.

    Args:
        recipe: path of a YAML file, or the name of a recipe that ships with the package, see art-ext list recipes.
        output: folder of this run; default runs/ and the name of the recipe.
        resume: go on from the newest checkpoint in the folder; begin where there is none.
        print_config: print the complete recipe and do nothing else.
        settings: fields of the recipe by section.
    """
    with told_in_a_line("art-ext train"):
        complete = checked(load_recipe(recipe, settings))
        if print_config:
            print(as_text(complete), end="")
            return
        folder = Path(output) if output else default_output(recipe)
        with _saying_how_to_go_on(folder):
            done = run_recipe(complete, folder, resume=resume)
    if Processes.launched().is_first:
        print(told(done))


def default_output(recipe: str) -> Path:
    """The folder of a run that was given none.

    Example:
        >>> str(default_output("fashion-mnist-5k-piat"))
        'runs/fashion-mnist-5k-piat'
    """
    return Path("runs") / find(recipe).stem


def told(done: RunResult) -> str:
    """What a run came to, and where it lies."""
    rows = {"last": done.history.rows[-1], "best": done.history.best("robust")}
    lines = [f"{which} epoch {row['epoch']:.0f}: {_figures(row)}" for which, row in rows.items() if row is not None]
    return "\n".join([*lines, f"written: {done.folder}"])


def _figures(row: dict[str, float]) -> str:
    shown = {"loss": "{:.4f}", "clean": "{:.1%}", "robust": "{:.1%}"}
    return ", ".join(f"{key} {form.format(row[key])}" for key, form in shown.items() if key in row)


@contextmanager
def _saying_how_to_go_on(folder: Path) -> Iterator[None]:
    """A signal that ends the training is no error: its last line is the command that goes on."""
    try:
        yield
    except KeyboardInterrupt:
        _say(folder)
        raise SystemExit(INTERRUPTED) from None
    except SystemExit:  # SIGTERM, as the engine passes it on
        _say(folder)
        raise


def _say(folder: Path) -> None:
    if Processes.launched().is_first:
        saved = (folder / RECIPE).is_file()  # complete: no option has to be said again
        how = f"art-ext train {quote(str(folder / RECIPE))} --output {quote(str(folder))} --resume goes on"
        print(how if saved else "nothing was begun yet", file=sys.stderr, flush=True)
