"""The techniques that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from art_ext.naming import lookup
from art_ext.recipes.attacks import make_attack
from art_ext.recipes.build import make_loss
from art_ext.recipes.options import check_options, with_defaults
from art_ext.recipes.sections import Recipe
from art_ext.recipes.training_sections import TrainerSection
from art_ext.technique import Technique
from art_ext.techniques import TECHNIQUES, get_technique, put_together, with_vit


def make_techniques(section: TrainerSection) -> list[Technique]:
    """Those of ``techniques``, in order, and that of ``vit``.

    Raises:
        ValueError: unknown names or options, an entry without a name, values out of their range.

    Example:
        >>> make_techniques(TrainerSection(techniques=[{"name": "mixup", "prob": 1.0}], vit="prm"))[1]
        PatchMasking(warm_up=10)
    """
    return [get_technique(name, **options) for name, options in _entries(section)]


def complete_techniques(section: TrainerSection) -> list[str | dict[str, Any]]:
    """The entries with the options that they take by default written out; that of ``vit`` is the last.

    Raises:
        ValueError: as `make_techniques`.

    Example:
        >>> complete_techniques(TrainerSection(vit="a&p"))
        [{'name': 'a&p', 'warm_up': 10}]
    """
    return [{"name": name, **with_defaults(options, TECHNIQUES[name], ())} for name, options in _entries(section)]


def check_techniques(recipe: Recipe) -> None:
    """Try them beside the loss and the inner attack of the recipe.

    Raises:
        ValueError: as `make_techniques`; one that does not go with the loss or another one.
    """
    section = recipe.trainer
    if not _entries(section):
        return
    put_together(make_techniques(section), make_loss(section), make_attack(recipe))


def _entries(section: TrainerSection) -> list[tuple[str, dict[str, Any]]]:
    """Names and options."""
    found = []
    for entry in (*section.techniques, *with_vit((), section.vit)):  # type: ignore[misc]  # names, as its arguments are
        options = dict(entry) if isinstance(entry, Mapping) else {"name": entry}
        name = options.pop("name", None)
        if not isinstance(name, str):
            raise ValueError(f"an entry of trainer.techniques is a name, or {{name: ..., ...}}; got {entry!r}")
        cls = lookup(TECHNIQUES, name, what="technique")
        check_options(options, cls, f"technique {name!r}", given=())
        found.append((name, options))
    return found
