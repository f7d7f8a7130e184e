"""From mappings to a typed `Recipe` and back."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from art_ext.files import atomic_write
from art_ext.recipes.layers import Layer, check_keys, keys_of, merged, read_layers
from art_ext.recipes.sections import NOT_IN_RECIPES, SECTIONS, TEXTS, Recipe
from art_ext.recipes.text import dump, read


def load_recipe(recipe: str | Path, overrides: Layer | None = None) -> Recipe:
    """A recipe file, or a shipped recipe by its name, with everything that was changed.

    Args:
        recipe: path of a YAML file, or a name in `art_ext.recipes.shipped`.
        overrides: what to change, by section: ``{"trainer": {"loss": "trades"}}``. Another loss (averaging,
            architecture, optimizer, schedule) drops the options of the recipe's own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: unknown name, an unknown or missing key, a value of a wrong type or out of its range.

    Example:
        >>> recipe = load_recipe("fashion-mnist-5k-piat", {"trainer": {"nb_epochs": 2}})
        >>> recipe.trainer.averaging, recipe.trainer.nb_epochs
        ('piat', 2)
    """
    return recipe_of(merged(read_layers(recipe), overrides or {}), source=f"recipe {recipe}")


def recipe_of(content: Layer, *, source: str = "the recipe") -> Recipe:
    """The recipe in a mapping of sections; what is not there gets its default.

    Raises:
        ValueError: an unknown or missing key, a value of a wrong type or out of its range; the message names it.

    Example:
        >>> content = {"model": {"name": "small_cnn"}, "data": {"name": "digits"}, "threat": {"eps": "0.1 or so"}}
        >>> recipe_of(content)
        Traceback (most recent call last):
        ...
        ValueError: the recipe: Parser key "threat.eps": Expected a <class 'float'>. Got value: 0.1 or so
    """
    check_keys(content, source=source)
    typed = _typed({key: value for key, value in content.items() if key not in TEXTS}, source)
    texts: dict[str, Any] = {key: str(content[key]) for key in TEXTS if key in content}
    return Recipe(**texts, **{name: _section(name, typed.get(name, {}), source) for name in SECTIONS})


def _typed(content: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The mapping with all defaults, every value of its field's type."""
    try:
        parsed: dict[str, Any] = _checker().parse_object(dict(content)).as_dict()
    except ArgumentError as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error
    return parsed


@cache
def _checker() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    add_sections(parser)
    return parser


def add_sections(parser: ArgumentParser) -> None:
    """Give ``parser`` an option for every field of a recipe: ``--trainer.loss``."""
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name, skip=set(NOT_IN_RECIPES))


def _section(name: str, values: Mapping[str, Any], source: str) -> Any:
    try:
        return SECTIONS[name](**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}: section {name}: {error}") from error


def as_mapping(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe as plain data, defaults included; `recipe_of` gives the same recipe back.

    Example:
        >>> recipe = load_recipe("fashion-mnist-5k-piat")
        >>> recipe_of(as_mapping(recipe)) == recipe
        True
    """
    whole = asdict(recipe)
    texts = {key: whole[key] for key in TEXTS}
    return texts | {name: {key: _plain(whole[name][key]) for key in keys_of(name)} for name in SECTIONS}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def as_text(recipe: Recipe) -> str:
    """The whole recipe as YAML, defaults included."""
    return dump(as_mapping(recipe))


def save_recipe(recipe: Recipe, path: str | Path) -> None:
    """Write the whole recipe as a YAML file.

    Raises:
        OSError: it cannot be written.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(as_text(recipe), encoding="utf-8")


def read_recipe(path: str | Path) -> Recipe:
    """The recipe that `save_recipe` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `load_recipe`.
    """
    return recipe_of(read(Path(path)), source=str(path))


def differences(one: Recipe, other: Recipe) -> dict[str, tuple[Any, Any]]:
    """The fields in which two recipes differ, down to single options, with both values; descriptions do not count.

    Example:
        >>> one = load_recipe("fashion-mnist-5k-piat")
        >>> differences(one, load_recipe("fashion-mnist-5k-piat", {"threat": {"eps": 0.05}}))
        {'threat.eps': (0.1, 0.05)}
    """
    a, b = (_leaves({key: as_mapping(recipe)[key] for key in SECTIONS}) for recipe in (one, other))
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"a": {"b": 1}}`` → ``{"a.b": 1}``."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return leaves
