"""The inner attack that a recipe names."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from art_ext.attacks import INNER_ATTACKS, make_inner_attack
from art_ext.attacks.registry import GIVEN, check_uses
from art_ext.naming import lookup
from art_ext.recipes.build import make_loss, make_threat
from art_ext.recipes.options import check_options, with_defaults
from art_ext.recipes.sections import Recipe
from art_ext.recipes.training_sections import TrainerSection


def make_attack(recipe: Recipe) -> Any:
    """The inner attack, with the objective and the start of the recipe's loss.

    Raises:
        ValueError: unknown name or option, a missing option, a value out of its range, steps or a step size that this
            attack does not use.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> make_attack(load_recipe("fashion-mnist-5k-piat", {"trainer": {"attack": "fgsm-rs"}})).step_size
        0.125
    """
    section, loss = recipe.trainer, make_loss(recipe.trainer)
    check_attack(section)
    told = {key: getattr(section, key) for key in ("steps", "step_size")}
    used: dict[str, Any] = {
        key: value if key in INNER_ATTACKS[section.attack].uses else None for key, value in told.items()
    }
    given: dict[str, Any] = {"threat": make_threat(recipe), "objective": loss.objective, "start": loss.start}
    return make_inner_attack(section.attack, **given, **used, **section.attack_options)


def check_attack(section: TrainerSection) -> None:
    """Refuse options that the attack does not take, and steps where it has none.

    Raises:
        ValueError: as `make_attack`.

    Example:
        >>> check_attack(TrainerSection(attack="fgsm-rs", steps=7))
        Traceback (most recent call last):
        ...
        ValueError: trainer.steps is 7, but attack 'fgsm-rs' does not use it; leave it out
    """
    info = lookup(INNER_ATTACKS, section.attack, what="inner attack")
    check_options(section.attack_options, info.make, f"attack {section.attack!r}", given=GIVEN)
    defaults = {f.name: f.default for f in fields(TrainerSection)}
    asked = {key: getattr(section, key) for key in ("steps", "step_size")}
    check_uses(section.attack, {key: value for key, value in asked.items() if value != defaults[key]}, "trainer.")


def complete_attack(section: TrainerSection) -> dict[str, Any]:
    """The options with those that the attack takes by default.

    Example:
        >>> complete_attack(TrainerSection(attack="fgsm-rs"))
        {'random_start': True, 'alarm': True}
    """
    return with_defaults(section.attack_options, INNER_ATTACKS[section.attack].make, GIVEN)
