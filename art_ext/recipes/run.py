"""Carrying a recipe out in a folder: the functional core of ``art-ext train`` and ``art-ext compare``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch.nn import Parameter

from art_ext.engine.history import History
from art_ext.processes import Processes
from art_ext.recipes.attacks import make_attack
from art_ext.recipes.build import fit, make_averaging, make_classifier, make_threat
from art_ext.recipes.defaults import complete
from art_ext.recipes.folder import ENVIRONMENT, RECIPE, RESULT, by_the_first, claim, record, require_same, write_json
from art_ext.recipes.images import Data, check_data, make_data
from art_ext.recipes.judging import check_suite
from art_ext.recipes.kinds import check_kind, make_trainer
from art_ext.recipes.optimizers import check_schedule, make_optimizer
from art_ext.recipes.planned import planned
from art_ext.recipes.sections import Recipe
from art_ext.recipes.techniques import check_techniques

__all__ = [
    "ENVIRONMENT",
    "RECIPE",
    "RESULT",
    "RunResult",
    "checked",
    "claim",
    "require_same",
    "run_recipe",
    "summary",
    "write_json",
]


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
        FileExistsError: the folder holds a run and ``resume`` is not set, or another process is training in it.
        ValueError: a wrong recipe, or one that differs from the one in the folder (the fields are named).
        FileNotFoundError: missing data or weights.
        OSError: the folder cannot be written.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    recipe = checked(recipe)
    with claim(recipe, Path(folder), resume) as claimed:
        return _run_in(claimed, recipe, resume, command)


def _run_in(folder: Path, recipe: Recipe, resume: bool, command: Sequence[str] | None) -> RunResult:
    """The run, in a folder that is locked for it."""
    data = make_data(recipe.data, seed=recipe.trainer.seed)
    classifier = make_classifier(recipe, data)
    trainer = make_trainer(recipe, classifier, folder=folder)
    by_the_first(lambda: record(recipe, folder, command))
    with suppress(FileNotFoundError):  # it may have been killed before its first checkpoint
        if resume:
            trainer.resume(folder)
    fit(recipe, trainer, data)
    if Processes.launched().is_first:
        write_json(folder / RESULT, summary(trainer.history))
    return RunResult(folder, recipe, trainer.get_classifier(), data, trainer.history)


def checked(recipe: Recipe) -> Recipe:
    """The recipe, complete, after all has been tried that needs no data.

    Raises:
        ValueError: unknown names or options, values out of their range.
    """
    trainer, optimizer, schedule = recipe.trainer, recipe.optimizer, recipe.schedule
    make_threat(recipe)
    with _of_right_types("data.options", recipe.data.options):
        check_data(recipe.data)
    with _of_right_types("trainer.averaging_options", trainer.averaging_options):
        make_averaging(trainer)
    with _of_right_types("trainer.loss_options", trainer.loss_options):
        planned(recipe)  # tries the loss
    with _of_right_types("trainer.attack_options", trainer.attack_options):
        make_attack(recipe)
    with _of_right_types("trainer.techniques", {"techniques": trainer.techniques}):
        check_techniques(recipe)
    check_suite(recipe)
    if "optimizer" in check_kind(trainer).uses and (optimizer.layer_decay is not None or optimizer.filter_bias_and_bn):
        raise ValueError(
            "optimizer.layer_decay and filter_bias_and_bn are about the layers of the classifier, which trainer.kind "
            f"{trainer.kind!r} does not train; leave them out"
        )
    with _of_right_types("optimizer.options", optimizer.options):
        make_optimizer(optimizer)([Parameter(torch.zeros(1))])
    with _of_right_types("schedule.options", schedule.options):
        check_schedule(optimizer, schedule, epochs=trainer.nb_epochs)
    return complete(recipe)


@contextmanager
def _of_right_types(field: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Nothing says of which type an option inside a field must be: a wrong one fails where it is used."""
    try:
        yield
    except TypeError as error:
        raise ValueError(f"{field} {dict(options)} has a value of a wrong type: {error}") from error


def summary(history: History) -> dict[str, Any]:
    """Figures of the last and of the best epoch, and the seconds of all."""
    seconds = sum(row.get("seconds", 0.0) for row in history.rows)
    return {"seconds": seconds, "last": history.rows[-1], "best": history.best("robust")}
