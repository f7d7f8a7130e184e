"""The preprocessors that a recipe puts in front of its network."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any

from art_ext.data import Images
from art_ext.files import atomic_write
from art_ext.naming import lookup
from art_ext.preprocessors import PREPROCESSORS, ModulePreprocessor
from art_ext.recipes.options import check_options, with_defaults
from art_ext.recipes.sections import ModelSection

LEARNT = "learnt"  # thresholds of a recipe that come from its training images
THRESHOLDS = "thresholds.json"
ENOUGH = 5000  # images to learn from, evenly spread over all; our decision
_GIVEN = ("input_shape", "device_type")  # by the images and the device of the model


def make_preprocessors(
    section: ModelSection, shape: Sequence[int], device_type: str, images: Images | None = None
) -> list[ModulePreprocessor]:
    """The preprocessors of a model for images of this shape, in order.

    Args:
        section: of the recipe.
        shape: (C, H, W).
        device_type: ``"gpu"`` or ``"cpu"``, as in ART.
        images: (N, C, H, W) to learn from where an entry has ``thresholds: learnt``.

    Raises:
        ValueError: see `check_preprocessors`; a value out of its range; no images, or too few values, to learn from.

    Example:
        >>> section = ModelSection(name="small_cnn", preprocessors=[{"name": "noise-injection", "scale": 0.1}])
        >>> make_preprocessors(section, (1, 28, 28), "cpu")[0].scale
        0.1
    """
    made = [_make(entry, tuple(shape), device_type) for entry in check_preprocessors(section)]
    for one in _learners(section, made):
        if images is None or not len(images):
            raise ValueError(f"thresholds: {LEARNT} needs images in memory; for streamed ones give numbers or null")
        one.fit(images[:: ceil(len(images) / ENOUGH)])
    return made


def keep_learnt(section: ModelSection, made: Sequence[Any], folder: str | Path) -> None:
    """Write into a run's folder what its preprocessors learnt: the same recipe may be judged beside other images."""
    learnt = [one.module.thresholds.tolist() for one in _learners(section, made)]
    if learnt:
        with atomic_write(Path(folder) / THRESHOLDS) as temporary:
            temporary.write_text(json.dumps(learnt))


def restore_learnt(section: ModelSection, made: Sequence[Any], folder: str | Path) -> None:
    """Give them what `keep_learnt` wrote there; without such a file they stay as they are."""
    path = Path(folder) / THRESHOLDS
    if path.is_file():
        for one, thresholds in zip(_learners(section, made), json.loads(path.read_text()), strict=True):
            one.set_params(thresholds=thresholds)


def _learners(section: ModelSection, made: Sequence[Any]) -> list[Any]:
    pairs = zip(section.preprocessors, made, strict=True)
    return [one for entry, one in pairs if _is_learnt(entry.get("thresholds"))]


def _is_learnt(thresholds: Any) -> bool:
    return isinstance(thresholds, str) and thresholds == LEARNT


def check_preprocessors(section: ModelSection) -> list[dict[str, Any]]:
    """The entries with the options that they take by default.

    Raises:
        ValueError: an entry without a name, or of what a trainer makes; an unknown name or option (the nearest is
            proposed), a missing option, another word than ``learnt`` for thresholds, ``per_channel`` without anything
            to learn.
    """
    return [_checked(entry) for entry in section.preprocessors]


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    if "name" not in entry:
        raise ValueError(f"model.preprocessors: each must have a name, see art-ext list preprocessors; got {entry}")
    name = str(entry["name"])
    cls = lookup(PREPROCESSORS, name, what="preprocessor")
    if cls.by_trainer is not None:
        raise ValueError(f"preprocessor {name!r} is what trainer.kind {cls.by_trainer!r} makes; name that instead")
    options = {key: value for key, value in entry.items() if key != "name"}
    check_options(options, cls, f"preprocessor {name!r}", given=_GIVEN)
    thresholds = options.get("thresholds")
    if isinstance(thresholds, str) and thresholds != LEARNT:
        raise ValueError(f"thresholds of preprocessor {name!r} must be null, numbers or {LEARNT}; got {thresholds!r}")
    if options.get("per_channel") and thresholds is None:
        raise ValueError(f"per_channel of preprocessor {name!r} is about thresholds: {LEARNT}, which is missing")
    return {"name": name, **with_defaults(options, cls, _GIVEN)}


def _make(entry: dict[str, Any], shape: tuple[int, ...], device_type: str) -> ModulePreprocessor:
    cls: Any = PREPROCESSORS[entry["name"]]
    options = {key: value for key, value in entry.items() if key != "name"}
    if _is_learnt(options.get("thresholds")):
        options["thresholds"] = None  # until there are images
    if "input_shape" in inspect.signature(cls).parameters:
        options["input_shape"] = shape
    made: ModulePreprocessor = cls(**options, device_type=device_type)
    return made
