"""Evaluating a run or a file of weights: the functional core of ``art-ext evaluate``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from art_ext.engine.checkpoint import BEST, LAST, prepare_folder
from art_ext.engine.loop import checkpoint_of
from art_ext.evaluation import RobustnessReport
from art_ext.processes import Processes
from art_ext.recipes.folder import RECIPE, by_the_first
from art_ext.recipes.images import make_data
from art_ext.recipes.judging import judge, which_of
from art_ext.recipes.kinds import trained_classifier
from art_ext.recipes.layers import Layer
from art_ext.recipes.resolve import as_mapping, load_recipe
from art_ext.recipes.run import checked
from art_ext.recipes.sections import Recipe

# fields of a recipe that change no number of a report
_LOUDNESS = ("evaluation.time_budget", "evaluation.which")


@dataclass(frozen=True)
class Judged:
    """What is to be judged.

    Args:
        recipe: complete, with what was changed.
        weights: file of the network's weights.
        folder: that they lie in.
    """

    recipe: Recipe
    weights: Path
    folder: Path


def find_run(run: str | Path, changes: Layer | None = None, checkpoint: str | Path | None = None) -> Judged:
    """Recipe and weights of a run.

    Args:
        run: folder that `art_ext.recipes.run_recipe` wrote, a file of weights in it, or, with ``checkpoint``, a recipe.
        changes: to the recipe, by section, mostly to ``evaluation``.
        checkpoint: a file of weights, any that `art_ext.adapters.timm.timm_classifier` takes.

    Raises:
        FileNotFoundError: no such file, no run there, or no such weights.
        ValueError: a wrong recipe or change; a recipe without a checkpoint.
    """
    path = Path(run)
    if checkpoint is not None:
        return _judged(path / RECIPE if path.is_dir() else run, changes, Path(checkpoint))
    if path.is_dir():
        recipe = _of_run(path, changes)
        return Judged(recipe, _there(checkpoint_of(path, which_of(recipe))), path)
    if path.name in (BEST, LAST):
        return Judged(_of_run(path.parent, changes), _there(path), path.parent)
    if path.suffix in (".safetensors", ".pt", ".pth"):
        raise ValueError(f"{path} does not tell its architecture: give a recipe, and --checkpoint {path}")
    raise FileNotFoundError(f"no run at {path}: it takes a run's folder, or a recipe and --checkpoint with its weights")


def _judged(recipe: str | Path, changes: Layer | None, weights: Path) -> Judged:
    return Judged(checked(load_recipe(recipe, changes)), _there(weights), weights.parent)


def _of_run(folder: Path, changes: Layer | None) -> Recipe:
    if not (folder / RECIPE).is_file():
        raise FileNotFoundError(f"{folder} holds no run: there is no {RECIPE}")
    return checked(load_recipe(folder / RECIPE, changes))


def _there(weights: Path) -> Path:
    if not weights.is_file():
        raise FileNotFoundError(f"no weights at {weights}")
    return weights


def evaluate_run(judged: Judged, output: Path) -> tuple[RobustnessReport, Path]:
    """Attack it as its recipe says, and write ``report.json`` and ``report.html``.

    Finished batches are kept in ``output/evaluation``, for each recipe and weights in a folder of their own: the same
    call goes on from there.

    Returns:
        The report, and the path of its page.

    Raises:
        ValueError, OSError, ImportError: as `art_ext.evaluate`.
    """
    by_the_first(lambda: _prepare(output))
    data = make_data(judged.recipe.data, seed=judged.recipe.trainer.seed)
    classifier = trained_classifier(judged.recipe, data, judged.weights)
    report = judge(judged.recipe, classifier, data, resume=output / "evaluation" / _name(judged))
    page = output / "report.html"
    if Processes.launched().is_first:
        report.to_json(page.with_suffix(".json"))
        report.to_html(page, title=f"{output.name}: {judged.weights.name}")
    return report, page


def _prepare(folder: Path) -> None:
    prepare_folder(folder)


def _name(judged: Judged) -> str:
    """The same for the same evaluation."""
    whole = as_mapping(judged.recipe)
    settings = {"threat": whole["threat"], "data": whole["data"]}
    settings["evaluation"] = {k: v for k, v in whole["evaluation"].items() if f"evaluation.{k}" not in _LOUDNESS}
    told = json.dumps(settings, sort_keys=True).encode() + judged.weights.read_bytes()
    return f"{judged.weights.stem}-{sha256(told).hexdigest()[:8]}"
