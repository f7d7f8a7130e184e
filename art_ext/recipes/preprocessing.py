"""The preprocessors that a recipe puts in front of its network."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from art_ext.naming import lookup
from art_ext.preprocessors import PREPROCESSORS, ModulePreprocessor
from art_ext.recipes.options import check_options, with_defaults
from art_ext.recipes.sections import ModelSection

_GIVEN = ("input_shape", "device_type")  # by the images and the device of the model


def make_preprocessors(section: ModelSection, shape: Sequence[int], device_type: str) -> list[ModulePreprocessor]:
    """The preprocessors of a model for images of this shape, in order.

    Raises:
        ValueError: see `check_preprocessors`; a value out of its range.

    Example:
        >>> section = ModelSection(name="small_cnn", preprocessors=[{"name": "noise-injection", "scale": 0.1}])
        >>> make_preprocessors(section, (1, 28, 28), "cpu")[0].scale
        0.1
    """
    return [_make(entry, tuple(shape), device_type) for entry in check_preprocessors(section)]


def check_preprocessors(section: ModelSection) -> list[dict[str, Any]]:
    """The entries with the options that they take by default.

    Raises:
        ValueError: an entry without a name, an unknown name or option (the nearest is proposed), a missing option.
    """
    return [_checked(entry) for entry in section.preprocessors]


def _checked(entry: dict[str, Any]) -> dict[str, Any]:
    if "name" not in entry:
        raise ValueError(f"model.preprocessors: each must have a name, see art-ext list preprocessors; got {entry}")
    name = str(entry["name"])
    cls = lookup(PREPROCESSORS, name, what="preprocessor")
    options = {key: value for key, value in entry.items() if key != "name"}
    check_options(options, cls, f"preprocessor {name!r}", given=_GIVEN)
    return {"name": name, **with_defaults(options, cls, _GIVEN)}


def _make(entry: dict[str, Any], shape: tuple[int, ...], device_type: str) -> ModulePreprocessor:
    cls: Any = PREPROCESSORS[entry["name"]]
    options = {key: value for key, value in entry.items() if key != "name"}
    if "input_shape" in inspect.signature(cls).parameters:
        options["input_shape"] = shape
    made: ModulePreprocessor = cls(**options, device_type=device_type)
    return made
