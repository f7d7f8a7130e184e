"""The folder of a run: whose it is, what may change when the run goes on, and what is written there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from art_ext.engine.checkpoint import prepare_folder
from art_ext.engine.checkpoints import only_run_in
from art_ext.files import atomic_write
from art_ext.processes import Processes
from art_ext.recipes.environment import describe_environment
from art_ext.recipes.planned import planned
from art_ext.recipes.resolve import differences, read_recipe, save_recipe
from art_ext.recipes.sections import Recipe

RECIPE, ENVIRONMENT, RESULT = "recipe.yaml", "environment.json", "result.json"
# what may change between a run and its resumption: where things lie, how loudly it goes on, how it is judged; the
# device too, to another of its kind: a checkpoint holds the generator of its own kind
FREE = frozenset(
    [f"trainer.{key}" for key in ("progress", "tracking", "checkpoint_every", "keep_checkpoints")]
    + [f"data.options.{key}" for key in ("workers", "prefetch", "resident")]
    + ["data.root", "data.test_examples", "model.device"]
)
FREE_SECTIONS = ("evaluation",)
EPOCHS = "trainer.nb_epochs"


@contextmanager
def claim(recipe: Recipe, folder: Path, resume: bool) -> Iterator[Path]:
    """The folder, made, writable and locked for this run until the block ends, if this recipe may be run in it.

    Raises:
        FileExistsError: it holds a run and ``resume`` is not set, or another process is training in it.
        ValueError: the run there has another recipe, see `require_same`.
        OSError: it cannot be written.
    """
    with ExitStack() as held:
        by_the_first(lambda: _hold(folder, held))
        # the first process is about to write the file: all must go by what it saw before
        if Processes.launched().agree((folder / RECIPE).is_file()):
            if not resume:
                raise FileExistsError(
                    f"{folder} holds a run already: --resume goes on with it, or choose another folder"
                )
            require_same(read_recipe(folder / RECIPE), recipe, folder)
        yield folder


def by_the_first(work: Callable[[], None]) -> None:
    """Let the first process do something; where it fails, all fail with its message, none waits for it."""
    processes, failed = Processes.launched(), None
    if processes.is_first:
        try:
            work()
        except OSError as error:
            failed = error
    failed = processes.agree(failed)
    if failed is not None:
        raise failed


def _hold(folder: Path, held: ExitStack) -> None:
    """Training locks the folder too, but only after the images are read and the recipe is written."""
    prepare_folder(folder)
    try:
        held.enter_context(only_run_in(folder))
    except RuntimeError as error:
        raise FileExistsError(f"another process is training in {folder}; choose another folder") from error


def require_same(saved: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse to go on with another recipe.

    More epochs are allowed where the number of epochs decides about nothing but the end, see `planned`.

    Raises:
        ValueError: they differ in what decides about the result; the fields and both values are named.
    """
    changed = {
        key: values
        for key, values in differences(saved, recipe).items()
        if key not in FREE and key.partition(".")[0] not in FREE_SECTIONS
    }
    reasons = planned(saved)
    if EPOCHS in changed and not reasons and changed[EPOCHS][0] < changed[EPOCHS][1]:
        del changed[EPOCHS]
    if changed:
        told = "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in changed.items())
        why = f" (the number of epochs decides about {' and '.join(reasons)})" if EPOCHS in changed and reasons else ""
        raise ValueError(f"the run in {folder} has another recipe, so it cannot be resumed with this one: {told}{why}")


def record(recipe: Recipe, folder: Path, command: Sequence[str] | None) -> None:
    """Write what is about to be done: ``recipe.yaml`` and ``environment.json``; it is not finished any more.

    Raises:
        OSError: the folder cannot be written.
    """
    here = describe_environment(recipe.trainer.seed, command)
    path = folder / ENVIRONMENT
    if path.is_file():  # a run that goes on: the first environment stays, the others follow
        first = json.loads(path.read_text(encoding="utf-8"))
        here = first | {"resumed": [*first.get("resumed", []), here]}
    write_json(path, here)
    save_recipe(recipe, folder / RECIPE)
    with suppress(FileNotFoundError):
        (folder / RESULT).unlink()


def is_finished(folder: str | Path) -> bool:
    """Whether the run in this folder came to its end."""
    return (Path(folder) / RESULT).is_file()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain data, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
