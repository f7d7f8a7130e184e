"""ART's own adversarial trainers as methods of a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from art.attacks.evasion import ProjectedGradientDescent
from art.defences import trainer as art_trainer
from art.defences.trainer import AdversarialTrainer, AdversarialTrainerFBFPyTorch, AdversarialTrainerMadryPGD, Trainer
from art.defences.trainer import AdversarialTrainerTRADESPyTorch as ArtTRADES
from art.estimators.classification import PyTorchClassifier

from art_ext.naming import lookup
from art_ext.recipes import Recipe
from art_ext.recipes.options import check_options

# what a recipe says about our losses does not concern ART's; an ART cell has a recipe that is silent about them
OURS_ALONE: dict[str, Any] = {
    "trainer": {
        "kind": "robust",
        "loss": "pgd-at",
        "averaging": None,
        "averaging_options": {},
        "attack": "pgd",
        "attack_options": {},
        "techniques": [],
        "vit": None,
        "precision": "fp32",
        "compile": False,
    }
}
NOT_ARTS = {"grad_clip": None, "accumulate": 1, "early_stopping": None, "restore_best": None}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one of ART's trainers is made of, for one epoch of a run.

    Args:
        classifier: to train.
        another: makes a second classifier of the same kind, for weight perturbation.
        recipe: of the cell.
        epoch: finished ones.
        examples: in the training set.
    """

    classifier: PyTorchClassifier
    another: Callable[[], PyTorchClassifier]
    recipe: Recipe
    epoch: int
    examples: int

    @property
    def step_size(self) -> float:
        """Of the inner attack; the default is that of our trainers."""
        section = self.recipe.trainer
        return 2.5 * self.recipe.threat.eps / section.steps if section.step_size is None else section.step_size

    def attack(self) -> ProjectedGradientDescent:
        """The inner attack of the recipe, by ART."""
        return ProjectedGradientDescent(
            self.classifier,
            norm=np.inf if self.recipe.threat.norm == "linf" else 2,
            eps=self.recipe.threat.eps,
            eps_step=self.step_size,
            max_iter=self.recipe.trainer.steps,
            num_random_init=1,
            batch_size=self.recipe.trainer.batch_size,
            verbose=False,
        )


class _FBF(AdversarialTrainerFBFPyTorch):
    """FBF for one epoch of many: the learning rate is that of its whole run, up to 0.21 and down to 0."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting.classifier, eps=setting.recipe.threat.eps)
        self._epochs, self._batches = setting.recipe.trainer.nb_epochs, float(setting.epoch)
        self._share = 1 / ceil(setting.examples / setting.recipe.trainer.batch_size)

    def _batch_process(self, x_batch: Any, y_batch: Any, l_r: float) -> tuple[float, float, float]:
        self._batches += self._share
        rate = np.interp(self._batches, [0, self._epochs * 2 // 5, self._epochs], [0, 0.21, 0])
        processed: tuple[float, float, float] = super()._batch_process(x_batch, y_batch, float(rate))
        return processed


def _pgd(setting: Setting, *, ratio: float = 1.0) -> Trainer:
    """AdversarialTrainer with PGD."""
    return AdversarialTrainer(setting.classifier, setting.attack(), ratio=ratio)


def _madry(setting: Setting) -> Trainer:
    """AdversarialTrainerMadryPGD; ℓ∞ only."""
    recipe = setting.recipe
    return AdversarialTrainerMadryPGD(
        setting.classifier,
        nb_epochs=1,
        batch_size=recipe.trainer.batch_size,
        eps=recipe.threat.eps,
        eps_step=setting.step_size,
        max_iter=recipe.trainer.steps,
    )


def _trades(setting: Setting, *, beta: float = 6.0) -> Trainer:
    """AdversarialTrainerTRADESPyTorch; its inner attack maximises cross entropy."""
    return ArtTRADES(setting.classifier, setting.attack(), beta)


def _awp(setting: Setting, *, mode: str = "PGD", gamma: float = 0.005, beta: float = 6.0, warmup: int = 10) -> Trainer:
    """AdversarialTrainerAWPPyTorch; mode PGD or TRADES, weights perturbed after ``warmup`` epochs."""
    left = max(0, warmup - setting.epoch)  # it counts from 0 in each fit
    proxy = setting.another()
    return art_trainer.AdversarialTrainerAWPPyTorch(
        setting.classifier, proxy, setting.attack(), mode, gamma, beta, left
    )


def _fbf(setting: Setting) -> Trainer:
    """AdversarialTrainerFBFPyTorch; ℓ∞ only, a single step, a learning rate of its own up to 0.21."""
    return _FBF(setting)


ART_TRAINERS: dict[str, Callable[..., Trainer]] = {
    "pgd": _pgd,
    "madry-pgd": _madry,
    "trades": _trades,
    "fbf": _fbf,
}
if hasattr(art_trainer, "AdversarialTrainerAWPPyTorch"):  # not in every ART 1.x
    ART_TRAINERS["awp"] = _awp
LINF_ONLY = ("madry-pgd", "fbf")


def check_art(kind: str, options: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse what ART could not do as the recipe says.

    Raises:
        ValueError: an unknown kind or option (the nearest is proposed), a field that ART knows nothing of.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> check_art("trade", {}, load_recipe("fashion-mnist-5k-piat"))
        Traceback (most recent call last):
        ...
        ValueError: unknown trainer of ART 'trade'; did you mean 'trades'? known: awp, fbf, madry-pgd, pgd, trades
    """
    make = lookup(ART_TRAINERS, kind, what="trainer of ART")
    check_options(options, make, f"ART's trainer {kind!r}", given=("setting",))
    if kind in LINF_ONLY and recipe.threat.norm != "linf":
        raise ValueError(f"ART's trainer {kind!r} knows the norm linf only; threat.norm is {recipe.threat.norm!r}")
    for name, without in NOT_ARTS.items():
        if getattr(recipe.trainer, name) != without:
            told = f"trainer.{name} is {getattr(recipe.trainer, name)!r}"
            raise ValueError(f"ART's trainers do not know {told}; set it to {without!r} for this method")


def make_art_trainer(kind: str, options: Mapping[str, Any], setting: Setting) -> Trainer:
    """One of ART's trainers, to be asked for a single epoch."""
    return ART_TRAINERS[kind](setting, **options)
