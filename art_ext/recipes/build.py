"""From a recipe to the objects it describes: classifier, trainer, schedule; and training them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext.averaging import AVERAGINGS, Averaging
from art_ext.engine import EngineOptions
from art_ext.engine.streams import ImageBatches
from art_ext.isolation import seeded
from art_ext.losses import LOSSES, Loss, get_loss
from art_ext.naming import lookup
from art_ext.preprocessors import ModulePreprocessor
from art_ext.processes import Processes
from art_ext.recipes.images import Data
from art_ext.recipes.layers import keys_of
from art_ext.recipes.optimizers import make_optimizer, make_schedule
from art_ext.recipes.options import check_options
from art_ext.recipes.preprocessing import keep_learnt, make_preprocessors
from art_ext.recipes.sections import NOT_IN_RECIPES, Recipe
from art_ext.recipes.training_sections import TrainerSection
from art_ext.threat import ThreatModel
from art_ext.trainers.base import EngineTrainer


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
        OSError: the pretrained weights cannot be had.
    """
    from art_ext.adapters.timm import timm_classifier

    model = recipe.model
    shape, classes = _check_fit(recipe, data)
    try:
        with seeded(recipe.trainer.seed):
            classifier = timm_classifier(
                model.name,
                num_classes=classes,
                input_shape=shape,
                stem=model.stem,
                pretrained=model.pretrained and weights is None,
                checkpoint=weights or model.checkpoint,
                parametric_noise=model.parametric_noise,
                optimizer=make_optimizer(recipe.optimizer),
                device=model.device,
                mean=model.mean,
                std=model.std,
                **model.options,
            )
    except TypeError as error:  # the architecture's own word for an option that it does not have
        raise ValueError(f"model.options {model.options} do not fit {model.name!r}: {error}") from error
    except RuntimeError as error:
        raise OSError(f"model {model.name!r}: {error}") from error
    made = make_preprocessors(model, shape, classifier.device_type, data.x_train)
    classifier.set_params(preprocessing_defences=made)
    return classifier


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


def engine_options(section: TrainerSection) -> dict[str, Any]:
    """The part of the section that the engine reads, whatever options it may have, without the folder."""
    known = EngineOptions.__dataclass_fields__.keys() - NOT_IN_RECIPES
    return {key: getattr(section, key) for key in keys_of("trainer") if key in known}


def fit(recipe: Recipe, trainer: EngineTrainer, data: Data) -> None:
    """Train as the recipe says; errors as its `fit`."""
    section, folder = recipe.trainer, trainer.options.checkpoint_dir
    if folder is not None and Processes.launched().is_first:
        steps = [step.preprocessor for step in trainer.model.steps]
        keep_learnt(recipe.model, [one for one in steps if isinstance(one, ModulePreprocessor)], folder)
    schedule = make_schedule(recipe.schedule, trainer.optimizer, epochs=section.nb_epochs)
    told: dict[str, Any] = {"nb_epochs": section.nb_epochs, "scheduler": schedule, "validation_data": data.held_out}
    if data.streamed is None:
        trainer.fit(data.x_train, data.y_train, batch_size=section.batch_size, **told)
        return
    batches = data.streamed.batches(section.batch_size, trainer.model.device, section.channels_last)
    try:
        trainer.fit_stream(batches, **told)
    finally:
        if isinstance(batches, ImageBatches):
            batches.close()
