"""Judging a trained network as its recipe says."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_ext.data import Labels
from art_ext.engine.loop import checkpoint_of
from art_ext.evaluation import RobustnessReport, evaluate
from art_ext.evaluation.suites import ATTACKS, SUITES
from art_ext.naming import lookup
from art_ext.recipes.build import make_threat
from art_ext.recipes.folder import RECIPE
from art_ext.recipes.images import Data, make_data
from art_ext.recipes.kinds import check_kind, trained_classifier
from art_ext.recipes.resolve import read_recipe
from art_ext.recipes.sections import Recipe


def load_run(folder: str | Path, which: str | None = None) -> tuple[Recipe, Data, PyTorchClassifier]:
    """Recipe, images and trained classifier of a run.

    Args:
        folder: that `art_ext.recipes.run_recipe` wrote.
        which: ``"best"``, ``"last"``, or None for what the recipe's evaluation says.

    Raises:
        FileNotFoundError: no run there, or no such weights.
        ValueError: a damaged file.
    """
    recipe = read_recipe(Path(folder) / RECIPE)
    data = make_data(recipe.data, seed=recipe.trainer.seed)
    weights = checkpoint_of(folder, which or which_of(recipe))
    return recipe, data, trained_classifier(recipe, data, weights)


def which_of(recipe: Recipe) -> str:
    """The weights to judge: as the recipe says, else the best where held-out images tell which they are, else the last.

    Raises:
        ValueError: an unknown kind of trainer.
    """
    held_out = recipe.data.validation_split or recipe.data.options.get("held_out")
    tells = held_out and check_kind(recipe.trainer).best_epoch
    return recipe.evaluation.which or ("best" if tells else "last")


def check_suite(recipe: Recipe) -> None:
    """Refuse names that are no suite and no attack.

    Raises:
        ValueError: an unknown name (the nearest one is proposed), or an empty list.
    """
    suite = recipe.evaluation.suite
    if suite is None:  # what the network's defenses have to face, and fast
        return
    if not suite:
        raise ValueError("evaluation.suite must name at least one attack; got none")
    for name in [suite] if isinstance(suite, str) else suite:
        lookup({**SUITES, **ATTACKS}, name, what="suite or attack")


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
    _warn_of_missing_classes(data.y_test, section.n_examples, data.num_classes)
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


def _warn_of_missing_classes(y: Labels, number: int | None, classes: int) -> None:
    """Some data sets are sorted by class: their first examples say nothing about the rest."""
    there = len(np.unique(y[:number]))
    at_random = classes * (1 - (1 - 1 / classes) ** (number or 0))  # so many classes are to be expected
    if number is not None and 2 * there < at_random:
        warnings.warn(
            f"the first {number} test images are of {there} classes out of {classes}, so the set is sorted; "
            "data.test_examples draws at random",
            stacklevel=3,
        )
