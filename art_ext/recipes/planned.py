"""What the planned number of epochs decides about, besides the end."""

from __future__ import annotations

import torch

from art_ext.losses import Loss
from art_ext.recipes.build import make_loss
from art_ext.recipes.sections import Recipe

_PLACES = (0.0, 0.25, 0.5, 0.75, 0.99)  # shares of the epochs


def planned(recipe: Recipe) -> list[str]:
    """The parts of a recipe that are told in shares of the epochs: with another number they would have been others.

    Where there are none, a run of six epochs that is continued to nine is the run of nine epochs, bit for bit.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> planned(load_recipe("fashion-mnist-5k-piat"))
        []
        >>> planned(load_recipe("fashion-mnist-5k-piat", {"schedule": {"name": "cosine"}}))
        ["the schedule 'cosine'"]
    """
    parts = []
    if recipe.schedule.name != "constant":
        parts.append(f"the schedule {recipe.schedule.name!r}")
    if recipe.schedule.warmup:
        parts.append("the warm-up of the learning rate")
    if _anneals(recipe):
        parts.append("the annealing of the soft quantization")
    if _changes(make_loss(recipe.trainer)):
        parts.append(f"the loss {recipe.trainer.loss!r}")
    if recipe.trainer.averaging == "swa":
        parts.append("the averaging 'swa'")
    return parts


def _anneals(recipe: Recipe) -> bool:
    """Whether the temperature of a layer follows the share of the epochs."""
    layers = [entry.get("name") for entry in recipe.model.preprocessors]
    noisy = recipe.trainer.kind == "noisy" and recipe.trainer.kind_options.get("anneal", 1.0) is not None
    return noisy and "soft-quantization" in layers


def _changes(loss: Loss) -> bool:
    """Whether the loss switches something on in the course of the training."""
    generator = torch.Generator().manual_seed(0)
    logits, logits_adv = torch.randn(2, 64, 5, generator=generator)
    y = torch.arange(64) % 5
    values = [loss(logits, logits_adv, y, progress=place) for place in _PLACES]
    return any(not torch.equal(values[0], value) for value in values)
