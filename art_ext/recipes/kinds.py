"""The kinds of trainers that a recipe can name: what each takes, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext.naming import lookup
from art_ext.recipes.attacks import make_attack
from art_ext.recipes.build import engine_options, make_averaging, make_classifier, make_loss, make_threat
from art_ext.recipes.images import Data
from art_ext.recipes.optimizers import make_optimizer
from art_ext.recipes.options import check_options, with_defaults
from art_ext.recipes.preprocessing import restore_learnt
from art_ext.recipes.sections import Recipe
from art_ext.recipes.techniques import make_techniques
from art_ext.recipes.training_sections import TrainerSection
from art_ext.trainers.base import EngineTrainer
from art_ext.trainers.registry import TRAINERS, TrainerInfo

# fields of the section that only some trainers use, by the word of `TrainerInfo.uses`
FIELDS = {
    "loss": ("loss", "loss_options"),
    "attack": ("attack", "attack_options"),
    "steps": ("steps", "step_size"),
    "averaging": ("averaging", "averaging_options"),
    "techniques": ("techniques", "vit"),
    "optimizer": (),
}
# arguments of the trainers that come from elsewhere than kind_options; a layer of its own is model.preprocessors
_GIVEN = (
    *("classifier", "threat", "loss", "steps", "step_size", "attack"),
    *("averaging", "techniques", "vit", "quantization", "optimizer", "options"),
)


def check_kind(section: TrainerSection) -> TrainerInfo:
    """The kind of trainer, if it takes what the section gives it.

    Raises:
        ValueError: an unknown kind or option (the nearest is proposed), a field that this kind does not use.

    Example:
        >>> check_kind(TrainerSection(kind="noisy", loss="trades"))
        Traceback (most recent call last):
        ...
        ValueError: trainer.loss is 'trades', but trainer.kind 'noisy' does not use it; leave it out
    """
    info = lookup(TRAINERS, section.kind, what="kind of trainer")
    check_options(section.kind_options, info.trainer, f"trainer {section.kind!r}", given=_GIVEN)
    defaults = vars(TrainerSection())
    for name in [name for use, names in FIELDS.items() if use not in info.uses for name in names]:
        value = getattr(section, name)
        if value != defaults[name]:
            told = f"trainer.{name} is {value!r}, but trainer.kind {section.kind!r} does not use it"
            raise ValueError(f"{told}; leave it out")
    return info


def kind_options(section: TrainerSection) -> dict[str, Any]:
    """The options of the section's trainer, with those that it takes by default.

    Example:
        >>> kind_options(TrainerSection(kind="noisy", kind_options={"noise": "signs"}))
        {'noise': 'signs', 'anneal': 1.0, 'gradient_penalty': 0.0}
    """
    return with_defaults(section.kind_options, check_kind(section).trainer, _GIVEN)


def make_trainer(recipe: Recipe, classifier: PyTorchClassifier, *, folder: str | Path | None = None) -> EngineTrainer:
    """The trainer of a recipe; ``folder`` becomes its ``checkpoint_dir``.

    Raises:
        ValueError: a value out of its range; no weights for a network that stays as it is.
    """
    section = recipe.trainer
    info = check_kind(section)
    if info.keeps_network and not (recipe.model.checkpoint or recipe.model.pretrained):
        raise ValueError(
            f"trainer.kind {section.kind!r} protects a network that is trained already: name its weights by "
            "model.checkpoint, or model.pretrained"
        )
    given: dict[str, Callable[[], dict[str, Any]]] = {
        "loss": lambda: {"loss": make_loss(section)},
        "attack": lambda: {"attack": make_attack(recipe)},  # which has the steps in it
        "steps": lambda: {} if "attack" in info.uses else {"steps": section.steps, "step_size": section.step_size},
        "averaging": lambda: {"averaging": make_averaging(section)},
        "techniques": lambda: {"techniques": make_techniques(section)},
        "optimizer": lambda: {"optimizer": make_optimizer(recipe.optimizer)},
    }
    arguments = {key: value for use in sorted(info.uses) for key, value in given[use]().items()}
    make: Callable[..., EngineTrainer] = info.trainer
    return make(
        classifier,
        threat=make_threat(recipe),
        checkpoint_dir=folder,
        **arguments,
        **section.kind_options,
        **engine_options(section),
    )


def trained_classifier(recipe: Recipe, data: Data, weights: str | Path) -> PyTorchClassifier:
    """The classifier that a run came to: with the weights of this file, or the vote that they belong to.

    Args:
        recipe: of the run.
        data: of the recipe.
        weights: the run's ``best.safetensors`` or ``last.safetensors``, or another file for a network alone.

    Raises:
        ValueError: weights of another architecture; for a vote, another file, or fewer snapshots beside it than asked.
        FileNotFoundError: no such file.
    """
    folder = Path(weights).parent
    if check_kind(recipe.trainer).in_place:
        classifier = make_classifier(recipe, data, weights=weights)
        restore_learnt(recipe.model, classifier.preprocessing_defences or [], folder)
        return classifier
    blank = recipe
    if not check_kind(recipe.trainer).keeps_network:
        blank = replace(recipe, model=replace(recipe.model, pretrained=False, checkpoint=None))
    classifier = make_classifier(blank, data)
    restore_learnt(recipe.model, classifier.preprocessing_defences or [], folder)
    trainer = make_trainer(blank, classifier, folder=folder)
    trainer.restore(Path(weights).stem)
    trained: PyTorchClassifier = trainer.get_classifier()
    return trained
