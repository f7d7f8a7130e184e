"""A run of one of ART's trainers, epoch by epoch: it leaves the same files as ours, and can be gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import redirect_stderr, suppress
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from art_ext.averaging import snapshot
from art_ext.comparison.art_trainers import Setting, make_art_trainer
from art_ext.engine import EngineOptions, History, Schedule
from art_ext.engine.augment import get_augmentation
from art_ext.engine.checkpoints import Checkpoints, Saved, require_same
from art_ext.engine.keeper import Keeper
from art_ext.engine.meter import is_finite
from art_ext.engine.resume import load_best
from art_ext.engine.validation import Validation, validation_rows
from art_ext.isolation import derive_seed, seeded
from art_ext.model import DefendedModel
from art_ext.processes import Processes
from art_ext.progress import progress_bar
from art_ext.recipes import Recipe, make_data
from art_ext.recipes.build import engine_options, make_classifier, make_threat
from art_ext.recipes.folder import RESULT, claim, record, write_json
from art_ext.recipes.optimizers import make_schedule
from art_ext.recipes.run import summary

Arrays = tuple[np.ndarray, np.ndarray]
ART = "trainer-of-art.json"
WATCHED = 500  # training images that are attacked after each epoch where none are held out


def run_art(recipe: Recipe, kind: str, options: Mapping[str, Any], folder: Path) -> History:
    """Train with one of ART's trainers as a recipe says, as far as ART takes it; go on where it was stopped.

    Data, held-out split, initial weights, optimizer and learning rate per epoch are those of our trainers, and so is
    the augmentation, drawn anew before each epoch. ART trains in float32 and in its own order. The best epoch is chosen
    as for ours, by PGD on the held-out images.

    Args:
        recipe: complete.
        kind: of ART's trainer, see `ART_TRAINERS`.
        options: of that trainer.
        folder: of this run alone; afterwards as `art_ext.recipes.run_recipe` leaves it.

    Raises:
        ValueError: the folder holds another run; what ART cannot do; several processes.
        FloatingPointError: the weights became NaN or infinite.
        OSError: the folder cannot be written.
    """
    if Processes.launched().count > 1:
        raise ValueError("ART's trainers work in one process; start this cell without torchrun")
    with claim(recipe, folder, resume=True):
        write_json(folder / ART, art_mark(kind, options))
        record(recipe, folder, None)
        history = _ArtRun(recipe, kind, options, folder).train()
        write_json(folder / RESULT, summary(history))
    return history


def art_mark(kind: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's folder says about ART's trainer, as JSON gives it back; empty for ours."""
    return {} if kind is None else {"trainer": kind, "options": json.loads(json.dumps(dict(options)))}


def art_of(folder: Path) -> dict[str, Any]:
    """The mark of the run in this folder."""
    path = folder / ART
    mark: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return mark


class _ArtRun:
    """What the epochs of one run share."""

    def __init__(self, recipe: Recipe, kind: str, options: Mapping[str, Any], folder: Path) -> None:
        self.recipe, self.kind, self.options, self.folder = recipe, kind, options, folder
        self.data = make_data(recipe.data, seed=recipe.trainer.seed)
        if self.data.streamed is not None:
            raise ValueError(f"ART's trainers take images in memory; data.name {recipe.data.name!r} is streamed")
        self.classifier = self._classifier()
        self.network, self.history = self.classifier.model, History()
        self.best: dict[str, Tensor] | None = None
        self.optimizer = self.classifier.optimizer
        epochs = recipe.trainer.nb_epochs
        self.schedule = Schedule(make_schedule(recipe.schedule, self.optimizer, epochs=epochs))
        self.train_set, self.held_out = (self.data.x_train, self.data.y_train), self.data.held_out
        self.identity = {"trainer of ART": art_mark(kind, options), "seed": recipe.trainer.seed}
        self.keeper = Keeper(
            EngineOptions(**engine_options(recipe.trainer), checkpoint_dir=folder), True, self.identity
        )

    def train(self) -> History:
        """All epochs that are left."""
        section = self.recipe.trainer
        self._check_last_batch()
        with self.keeper.held():
            saved: Saved | None = None
            with suppress(FileNotFoundError):  # killed before its first checkpoint, or never begun
                saved = Checkpoints(self.folder).newest()
            begin = 0 if saved is None else self._restore(saved)
            self.keeper.begin(self.history, saved, self.best)
            with progress_bar(section.nb_epochs, "epoch", show=section.progress, done=begin) as bar:
                for epoch in range(begin, section.nb_epochs):
                    # a seed for each epoch: what follows does not depend on whether the run was stopped before
                    with seeded(derive_seed(section.seed, f"epoch {epoch}")):
                        self._epoch(epoch)
                    bar.update(1)
        self.network.eval()
        return self.history

    def _epoch(self, epoch: int) -> None:
        x, y = self.train_set
        self.schedule.before_batch(epoch + 1)  # an epoch of ART has one rate
        rate, began = self.optimizer.param_groups[0]["lr"], perf_counter()
        setting = Setting(
            classifier=self.classifier, another=self._classifier, recipe=self.recipe, epoch=epoch, examples=len(x)
        )
        trainer = make_art_trainer(self.kind, self.options, setting)
        one_hot = np.eye(self.classifier.nb_classes, dtype=np.float32)[y]
        with redirect_stderr(StringIO()):  # ART shows bars of its own for every single epoch
            trainer.fit(self._augmented(x), one_hot, batch_size=self.recipe.trainer.batch_size, nb_epochs=1)
        seconds = perf_counter() - began
        self._require_finite(epoch)
        row = {"epoch": epoch + 1, "lr": rate, "seconds": seconds, "images_per_second": len(x) / seconds}
        self._finish(row | self._judged())

    def _finish(self, row: dict[str, float]) -> None:
        self.schedule.after_epoch(row)
        self.history.append(row)
        if self.history.best("robust") is row:
            self.best = snapshot(self.network)
        self.keeper.epoch(row, self.history, self.network, self.best)
        epochs = int(row["epoch"])
        tree = {
            "epoch": epochs,
            "batch": 0,
            "finished": epochs == self.recipe.trainer.nb_epochs,
            "history": self.history.rows,
            "network": dict(self.network.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        self.keeper.save(tree, self.network, self.best)

    def _restore(self, saved: Saved) -> int:
        require_same(saved.identity, self.identity, saved.path)
        self.network.load_state_dict(saved.tree["network"])
        self.optimizer.load_state_dict(saved.tree["optimizer"])
        self.schedule.load_state_dict(saved.tree["schedule"])
        self.history.restore(saved.tree["history"])
        self.best = load_best(saved, self.classifier.device)
        return int(saved.tree["epoch"])

    def _judged(self) -> dict[str, float]:
        """Accuracies on the held-out images; where there are none, under attack on some training images."""
        section = self.recipe.trainer
        x, y = self.held_out or tuple(a[:WATCHED] for a in self.train_set)
        judge = Validation(
            self._tensor(x),
            self._tensor(y),
            make_threat(self.recipe),
            section.validation_steps,
            validation_rows(section.batch_size),
            section.seed,
        )
        clean, robust = judge.accuracies(DefendedModel(self.classifier))
        return {"train_robust": robust} if self.held_out is None else {"clean": clean, "robust": robust}

    def _augmented(self, x: np.ndarray) -> np.ndarray:
        """The images as the trainer is to see them in this epoch; by batches, as the device's memory may be small."""
        augment = get_augmentation(self.recipe.trainer.augment)
        if augment is None:
            return x
        generator = torch.Generator(self.classifier.device)
        generator.manual_seed(int(torch.randint(2**31, (1,))))
        parts = (augment(self._tensor(part), generator) for part in np.array_split(x, max(1, len(x) // 1024)))
        return np.concatenate([part.cpu().numpy() for part in parts])

    def _classifier(self) -> PyTorchClassifier:
        return make_classifier(self.recipe, self.data)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.classifier.device)

    def _require_finite(self, epoch: int) -> None:
        if not is_finite(self.network):
            raise FloatingPointError(f"ART's {self.kind}: weights are NaN or infinite after epoch {epoch + 1}")

    def _check_last_batch(self) -> None:
        examples, size = len(self.train_set[0]), self.recipe.trainer.batch_size
        has_batchnorm = any(isinstance(m, _BatchNorm) for m in self.network.modules())
        if has_batchnorm and examples % size == 1:
            raise ValueError(
                f"trainer.batch_size {size} leaves one of {examples} examples over, which ART gives to BatchNorm by "
                "itself: choose another"
            )
