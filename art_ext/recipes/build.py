"""From a recipe to the objects it describes: images, classifier, trainer, schedule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from art.estimators.classification import PyTorchClassifier

from art_ext.averaging import AVERAGINGS, Averaging
from art_ext.data import DATASETS, Images, Labels, load, subset, with_label_noise
from art_ext.engine import EngineOptions
from art_ext.isolation import seeded
from art_ext.losses import LOSSES, Loss, get_loss
from art_ext.naming import lookup
from art_ext.recipes.layers import keys_of
from art_ext.recipes.optimizers import check_options, make_optimizer, make_schedule
from art_ext.recipes.sections import NOT_IN_RECIPES, DataSection, Recipe, TrainerSection
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer


class Data(NamedTuple):
    """The images of a recipe: float32 (N, C, H, W) in [0, 1], labels int64 (N,), and how many classes there are."""

    x_train: Images
    y_train: Labels
    x_test: Images
    y_test: Labels
    num_classes: int


def make_data(section: DataSection, *, seed: int = 0) -> Data:
    """Read the images, keep the classes and as many examples as are asked for, spoil labels if that is asked for.

    Args:
        section: of a recipe.
        seed: of the choice of examples and of the label noise.

    Raises:
        ValueError: unknown data set, more examples than there are, wrong classes.
        FileNotFoundError: missing files; the message says what to do.

    Example:
        >>> data = make_data(DataSection(name="digits", train_examples=100, classes=[3, 8]))
        >>> data.x_train.shape, data.num_classes
        ((100, 1, 8, 8), 2)
    """
    info = lookup(DATASETS, section.name, what="data set")
    x, y, x_test, y_test = load(section.name, section.root)
    classes = info.num_classes
    if section.classes is not None:
        (x, y), (x_test, y_test) = subset(x, y, section.classes), subset(x_test, y_test, section.classes)
        classes = len(section.classes)
    x, y = _some(x, y, section.train_examples, seed, "train_examples")
    x_test, y_test = _some(x_test, y_test, section.test_examples, seed, "test_examples")
    if section.label_noise:
        y = with_label_noise(y, section.label_noise, num_classes=classes, seed=seed)
    return Data(x, y, x_test, y_test, classes)


def _some(x: Images, y: Labels, number: int | None, seed: int, name: str) -> tuple[Images, Labels]:
    """A random choice in the data's own order: sets are often sorted by class."""
    if number is None:
        return x, y
    if number > len(x):
        raise ValueError(f"data.{name} is {number}, but there are only {len(x)} such images")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(x))[:number])
    return x[chosen], y[chosen]


def make_classifier(recipe: Recipe, data: Data, *, weights: str | Path | None = None) -> PyTorchClassifier:
    """The classifier of a recipe for its images, with optimizer, drawn with the trainer's seed.

    Args:
        recipe: whose sections model and optimizer count.
        data: of the same recipe.
        weights: a file to load instead of the recipe's own ``model.checkpoint``: that of a trained network.

    Raises:
        ValueError: the model is for other images or fewer classes than the data; unknown architecture or option;
            weights of another architecture.
        FileNotFoundError: no such file of weights.
        RuntimeError: the pretrained weights cannot be had.
    """
    from art_ext.adapters.timm import timm_classifier

    model = recipe.model
    shape, classes = _check_fit(recipe, data)
    with seeded(recipe.trainer.seed):
        return timm_classifier(
            model.name,
            num_classes=classes,
            input_shape=shape,
            stem=model.stem,
            pretrained=model.pretrained and weights is None,
            checkpoint=weights or model.checkpoint,
            optimizer=make_optimizer(recipe.optimizer),
            device=model.device,
            mean=model.mean,
            std=model.std,
            **model.options,
        )


def _check_fit(recipe: Recipe, data: Data) -> tuple[tuple[int, int, int], int]:
    """Input shape and number of classes of the model."""
    channels, height, width = data.x_train.shape[1:]
    images = (channels, height, width)
    shape = recipe.model.input_shape or images
    classes = recipe.model.num_classes or data.num_classes
    if tuple(shape) != images:
        raise ValueError(f"model.input_shape is {tuple(shape)}, but the images of {recipe.data.name!r} are {images}")
    if classes < data.num_classes:
        raise ValueError(f"model.num_classes is {classes}, but {recipe.data.name!r} has {data.num_classes} classes")
    return shape, classes


def make_threat(recipe: Recipe) -> ThreatModel:
    """The threat model, for images in [0, 1]."""
    return ThreatModel(recipe.threat.norm, recipe.threat.eps)


def make_loss(section: TrainerSection) -> Loss:
    """The loss with its hyper-parameters.

    Raises:
        ValueError: unknown loss or hyper-parameter, or a value out of its range.
    """
    cls = lookup(LOSSES, section.loss, what="loss")
    check_options(section.loss_options, cls, f"loss {section.loss!r}", given=())
    return get_loss(section.loss, **section.loss_options)


def make_averaging(section: TrainerSection) -> Averaging | None:
    """The averaging with its arguments; None for none.

    Raises:
        ValueError: unknown averaging or argument, a value out of its range, arguments without an averaging.
    """
    if section.averaging is None:
        if section.averaging_options:
            raise ValueError(f"averaging_options {section.averaging_options} need an averaging")
        return None
    cls = lookup(AVERAGINGS, section.averaging, what="averaging")
    check_options(section.averaging_options, cls, f"averaging {section.averaging!r}", given=())
    return cls(**section.averaging_options)


def make_trainer(recipe: Recipe, classifier: PyTorchClassifier, *, folder: str | Path | None = None) -> RobustTrainer:
    """The trainer of a recipe; ``folder`` becomes its ``checkpoint_dir``.

    Raises:
        ValueError: a value out of its range.
    """
    section = recipe.trainer
    return RobustTrainer(
        classifier,
        threat=make_threat(recipe),
        loss=make_loss(section),
        steps=section.steps,
        step_size=section.step_size,
        averaging=make_averaging(section),
        checkpoint_dir=folder,
        **engine_options(section),
    )


def engine_options(section: TrainerSection) -> dict[str, Any]:
    """The part of the section that the engine reads, whatever options it may have, without the folder."""
    known = EngineOptions.__dataclass_fields__.keys() - NOT_IN_RECIPES
    return {key: getattr(section, key) for key in keys_of("trainer") if key in known}


def fit(recipe: Recipe, trainer: RobustTrainer, data: Data) -> None:
    """Train as the recipe says."""
    section = recipe.trainer
    optimizer = trainer.get_classifier().optimizer
    trainer.fit(
        data.x_train,
        data.y_train,
        batch_size=section.batch_size,
        nb_epochs=section.nb_epochs,
        scheduler=make_schedule(recipe.schedule, optimizer, epochs=section.nb_epochs),
        validation_split=recipe.data.validation_split,
    )


def complete(recipe: Recipe) -> Recipe:
    """The recipe with the hyper-parameters that its loss takes by default written out.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> complete(load_recipe("fashion-mnist-5k-piat")).trainer.loss_options
        {'mu': 4.0, 'ce_on': 'adv'}
    """
    options = dict(vars(make_loss(recipe.trainer)))
    return replace(recipe, trainer=replace(recipe.trainer, loss_options=options))
