"""Carrying a recipe out in a folder: the functional core of ``art-ext train`` and ``art-ext compare``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext.engine.checkpoint import prepare_folder
from art_ext.engine.history import History
from art_ext.engine.loop import checkpoint_of
from art_ext.evaluation import RobustnessReport, evaluate
from art_ext.files import atomic_write
from art_ext.processes import Processes
from art_ext.recipes.build import (
    Data,
    complete,
    fit,
    make_averaging,
    make_classifier,
    make_data,
    make_threat,
    make_trainer,
)
from art_ext.recipes.environment import describe_environment
from art_ext.recipes.optimizers import check_schedule
from art_ext.recipes.resolve import differences, read_recipe, save_recipe
from art_ext.recipes.sections import Recipe

RECIPE, ENVIRONMENT, RESULT = "recipe.yaml", "environment.json", "result.json"
# what may change between a run and its resumption: where things lie, how loudly it goes on, how it is judged
FREE = frozenset(f"trainer.{key}" for key in ("progress", "tracking", "checkpoint_every", "keep_checkpoints")) | {
    "data.root",
    "model.device",
}
FREE_SECTIONS = ("evaluation",)


@dataclass(frozen=True)
class RunResult:
    """What a finished run leaves in memory; the same is on disk in its folder.

    Args:
        folder: of the run.
        recipe: complete, as it is saved there.
        classifier: trained.
        data: of the recipe.
        history: a row for each epoch.
    """

    folder: Path
    recipe: Recipe
    classifier: PyTorchClassifier
    data: Data
    history: History


def run_recipe(
    recipe: Recipe, folder: str | Path, *, resume: bool = False, command: Sequence[str] | None = None
) -> RunResult:
    """Train as a recipe says; the folder then holds all that is needed to repeat, judge or continue the run.

    Before training starts: ``recipe.yaml`` (complete) and ``environment.json``; after each epoch: ``last.safetensors``,
    ``best.safetensors``, ``history.jsonl``, ``curves.png``; at the end ``result.json``, see `is_finished`.

    Args:
        recipe: what to do.
        folder: of this run alone.
        resume: go on from the newest checkpoint in the folder; where there is none yet, begin.
        command: the words of the command line, for ``environment.json``; default those of this process.

    Raises:
        FileExistsError: the folder holds a run and ``resume`` is not set.
        ValueError: a wrong recipe, or one that differs from the one in the folder (the fields are named).
        FileNotFoundError: missing data or weights.
        OSError: the folder cannot be written.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    recipe = checked(recipe)
    first = Processes.launched().is_first
    folder = claim(recipe, Path(folder), resume)
    data = make_data(recipe.data, seed=recipe.trainer.seed)
    classifier = make_classifier(recipe, data)
    trainer = make_trainer(recipe, classifier, folder=folder)
    if first:
        save_recipe(recipe, folder / RECIPE)
        write_json(folder / ENVIRONMENT, describe_environment(recipe.trainer.seed, command))
    with suppress(FileNotFoundError):  # it may have been killed before its first checkpoint
        if resume:
            trainer.resume(folder)
    fit(recipe, trainer, data)
    if first:
        write_json(folder / RESULT, summary(trainer.history))
    return RunResult(folder, recipe, classifier, data, trainer.history)


def checked(recipe: Recipe) -> Recipe:
    """The recipe, complete, after all has been tried that needs no data.

    Raises:
        ValueError: unknown names or options, values out of their range.
    """
    make_threat(recipe)
    make_averaging(recipe.trainer)
    check_schedule(recipe.optimizer, recipe.schedule, epochs=recipe.trainer.nb_epochs)
    return complete(recipe)


def claim(recipe: Recipe, folder: Path, resume: bool) -> Path:
    """The folder, made and writable, if this recipe may be run in it; errors as `run_recipe`."""
    # the first process is about to write the file: all must go by what it saw before
    if Processes.launched().agree((folder / RECIPE).is_file()):
        if not resume:
            raise FileExistsError(f"{folder} holds a run already: resume it, or choose another folder")
        require_same(read_recipe(folder / RECIPE), recipe, folder)
    return prepare_folder(folder)


def require_same(saved: Recipe, recipe: Recipe, folder: Path) -> None:
    """Refuse to go on with another recipe.

    Raises:
        ValueError: they differ in what decides about the result; the fields and both values are named.
    """
    changed = {
        key: values
        for key, values in differences(saved, recipe).items()
        if key not in FREE and key.partition(".")[0] not in FREE_SECTIONS
    }
    if changed:
        told = "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in changed.items())
        raise ValueError(f"the run in {folder} has another recipe, so it cannot be resumed with this one: {told}")


def is_finished(folder: str | Path) -> bool:
    """Whether the run in this folder came to its end."""
    return (Path(folder) / RESULT).is_file()


def summary(history: History) -> dict[str, Any]:
    """Figures of the last and of the best epoch, and the seconds of all."""
    seconds = sum(row.get("seconds", 0.0) for row in history.rows)
    return {"seconds": seconds, "last": history.rows[-1], "best": history.best("robust")}


def load_run(folder: str | Path, which: str | None = None) -> tuple[Recipe, Data, PyTorchClassifier]:
    """Recipe, images and trained classifier of a run.

    Args:
        folder: that `run_recipe` wrote.
        which: ``"best"``, ``"last"``, or None for what the recipe's evaluation says.

    Raises:
        FileNotFoundError: no run there, or no such weights.
        ValueError: a damaged file.
    """
    recipe = read_recipe(Path(folder) / RECIPE)
    data = make_data(recipe.data, seed=recipe.trainer.seed)
    weights = checkpoint_of(folder, which or which_of(recipe))
    return recipe, data, make_classifier(recipe, data, weights=weights)


def which_of(recipe: Recipe) -> str:
    """The weights to judge: as the recipe says, else the best where there are held-out images to choose by."""
    return recipe.evaluation.which or ("best" if recipe.data.validation_split else "last")


def judge(
    recipe: Recipe, classifier: PyTorchClassifier, data: Data, *, resume: str | Path | None = None
) -> RobustnessReport:
    """Evaluate as the recipe's section says, on its test images; errors as `art_ext.evaluate`.

    Args:
        recipe: whose threat and evaluation count.
        classifier: trained.
        data: of the recipe.
        resume: folder for the batches that are done, see `art_ext.evaluate`.
    """
    section = recipe.evaluation
    return evaluate(
        classifier,
        data.x_test,
        data.y_test,
        threat=make_threat(recipe),
        suite=section.suite,
        n_examples=section.n_examples,
        batch_size=section.batch_size,
        seed=section.seed,
        escalate=section.escalate,
        time_budget=section.time_budget,
        resume=resume,
        progress=recipe.trainer.progress,
    )


def write_json(path: Path, content: Any) -> None:
    """Write plain data, whole or not at all."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
