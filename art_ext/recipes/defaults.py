"""What a recipe leaves to defaults, written out: a later version may have others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from art_ext.averaging import AVERAGINGS
from art_ext.recipes.attacks import complete_attack
from art_ext.recipes.build import make_loss
from art_ext.recipes.images import STREAMS
from art_ext.recipes.kinds import check_kind, kind_options
from art_ext.recipes.optimizers import OPTIMIZERS, SCHEDULES
from art_ext.recipes.options import with_defaults
from art_ext.recipes.preprocessing import check_preprocessors
from art_ext.recipes.sections import Recipe
from art_ext.recipes.techniques import complete_techniques


def complete(recipe: Recipe) -> Recipe:
    """The recipe with the options that trainer, loss, preprocessors and so on take by default written out.

    Raises:
        ValueError: unknown names.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> whole = complete(load_recipe("fashion-mnist-5k-piat"))
        >>> whole.trainer.loss_options, whole.trainer.averaging_options
        ({'mu': 4.0, 'ce_on': 'adv'}, {'schedule': None, 'buffers': 'interpolate'})
    """
    trainer, data, optimizer, schedule = recipe.trainer, recipe.data, recipe.optimizer, recipe.schedule
    of_kind = kind_options(trainer)
    loss = dict(vars(make_loss(trainer))) if "loss" in check_kind(trainer).uses else {}
    averaging = _defaults(trainer.averaging_options, AVERAGINGS, trainer.averaging)
    optimizer_options = _defaults(optimizer.options, OPTIMIZERS, optimizer.name, "params", "lr", "weight_decay")
    schedule_options = _defaults(schedule.options, SCHEDULES, schedule.name, "optimizer", "epochs")
    return replace(
        recipe,
        model=replace(recipe.model, preprocessors=check_preprocessors(recipe.model)),
        data=replace(data, options=_defaults(data.options, STREAMS, data.name, "root")),
        trainer=replace(
            trainer,
            kind_options=of_kind,
            loss_options=loss,
            averaging_options=averaging,
            techniques=complete_techniques(trainer),
            vit=None,
            attack_options=complete_attack(trainer),
        ),
        optimizer=replace(optimizer, options=optimizer_options),
        schedule=replace(schedule, options=schedule_options),
    )


def _defaults(options: dict[str, Any], registry: Mapping[str, Any], name: str | None, *given: str) -> dict[str, Any]:
    return options if name is None or name not in registry else with_defaults(options, registry[name], given)
