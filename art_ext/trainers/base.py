"""What all trainers share: ART's interface, checked data, and a run of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch.optim import Optimizer

from art_ext.averaging import Averaging
from art_ext.engine import EngineOptions, History, Run, Schedule, Task
from art_ext.engine.batches import Batches, GeneratorBatches, TensorBatches
from art_ext.engine.checkpoint import load_weights
from art_ext.engine.checkpoints import Checkpoints, Saved
from art_ext.engine.loop import InnerAttack, checkpoint_of
from art_ext.engine.validation import Validation, validation_rows
from art_ext.isolation import keeping_random
from art_ext.losses import Loss
from art_ext.model import DefendedModel, require_pytorch_classifier
from art_ext.naming import described
from art_ext.processes import Processes
from art_ext.technique import Technique
from art_ext.threat import ThreatModel
from art_ext.trainers.checks import check_generator, check_sizes, check_threat
from art_ext.validation import check_inputs, check_model_output

Arrays = tuple[np.ndarray, np.ndarray]


class EngineTrainer(Trainer):
    """Training of an ART classifier by the engine; a subclass says with which loss, attack and averaging.

    Args:
        classifier: an ART `PyTorchClassifier` with an optimizer.
        threat: norm, ε (one for all examples) and valid range.
        loss: what is minimised.
        attack: what changes each batch before the loss sees it.
        averaging: of the weights.
        technique: what the method does beside.
        native: the attack calls its model and nothing else, see `art_ext.engine.Task`.
        options: see `art_ext.engine.EngineOptions`.

    Attributes:
        history: figures of each epoch, see `art_ext.engine.History`.
        model: what is trained, as one module.

    Raises:
        TypeError: not a `PyTorchClassifier`; an unknown option; no `ThreatModel`.
        ValueError: an option out of its range; a numpy-only preprocessor; clip values that contradict the threat
            model's.
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        loss: Loss,
        attack: InnerAttack,
        averaging: Averaging,
        native: bool,
        options: dict[str, Any],
        technique: Technique | None = None,
    ) -> None:
        super().__init__(classifier)
        require_pytorch_classifier(classifier)
        check_threat(classifier, threat)
        self.options = EngineOptions.of(options)
        self.threat, self.loss, self.attack, self.averaging, self._native = threat, loss, attack, averaging, native
        self.technique = technique or Technique()
        self.model = self._model()
        self.technique.check_network(self.model, tuple(classifier.input_shape))
        self.history = History()
        self._run: Run | None = None
        self._saved: Saved | None = None

    def _model(self) -> DefendedModel:
        """What is trained."""
        return DefendedModel(self._classifier)

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer that trains, the one to make a scheduler for.

        Raises:
            ValueError: the classifier has none.
        """
        optimizer: Optimizer | None = self._classifier.optimizer
        if optimizer is None:
            raise ValueError("the classifier has no optimizer: give PyTorchClassifier(..., optimizer=...)")
        return optimizer

    def resume(self, folder: str | Path | None = None) -> int:
        """Let the next `fit` go on from the newest whole checkpoint of a run, instead of beginning.

        `fit` then takes the same arguments as the run that was stopped; ``nb_epochs`` counts all epochs, those done
        included. On a CPU the result is bit for bit that of a run never stopped, with as many processes as before;
        another number is refused where more than the rounding of sums hangs on it.

        Args:
            folder: of the run; by default this trainer's ``checkpoint_dir``.

        Returns:
            Finished epochs.

        Raises:
            FileNotFoundError: no checkpoint there.
            ValueError: no ``folder``; all checkpoints are damaged, or of a newer art_ext.
        """
        folder = self.options.checkpoint_dir if folder is None else folder
        if folder is None:
            raise ValueError("resume needs a folder, or a trainer with a checkpoint_dir")
        self._saved = Checkpoints(Path(folder)).newest()
        return int(self._saved.tree["epoch"])

    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        validation_data: Arrays | None = None,
        batch_size: int = 128,
        nb_epochs: int = 20,
        scheduler: Any = None,
        *,
        validation_split: float = 0.0,
        scheduler_step: str = "auto",
        shuffle: bool = True,
    ) -> None:
        """Train.

        Args:
            x: inputs (N, ...), float32 within the clip range; not modified.
            y: labels, (N,) whole numbers or (N, C) one-hot.
            validation_data: held-out (x, y) for the accuracies of each epoch and the choice of the best one.
            batch_size: at least 1.
            nb_epochs: at least 1.
            scheduler: a PyTorch learning-rate scheduler on the classifier's optimizer.
            validation_split: share of ``x`` to hold out instead of ``validation_data``, in [0, 1); drawn with the seed.
            scheduler_step: ``"epoch"``, ``"batch"`` or ``"auto"``, see `art_ext.engine.Schedule`.
            shuffle: draw a new order each epoch.

        Raises:
            ValueError: bad data or arguments; no optimizer; a single example for a network with BatchNorm.
            NonFiniteLossError: the loss became NaN or infinite; the last finished epoch's weights are restored.
        """
        x, y = self._checked(x, y)
        train, held_out = self._split(x, y, validation_data, validation_split)
        self.technique.check_labels(train[1], self._classifier.nb_classes)
        check_sizes(self.model, len(train[0]), batch_size, nb_epochs)
        batches = TensorBatches(
            *train,
            batch_size=batch_size,
            device=self.model.device,
            shuffle=shuffle,
            channels_last=self.options.channels_last,
        )
        self._train(batches, held_out, nb_epochs, Schedule(scheduler, scheduler_step))

    def fit_generator(
        self,
        generator: Any,
        nb_epochs: int = 20,
        scheduler: Any = None,
        *,
        validation_data: Arrays | None = None,
        scheduler_step: str = "auto",
    ) -> None:
        """Train on an ART `DataGenerator`, with its own order and batch size; arguments and errors as `fit`."""
        check_generator(generator)
        if Processes.launched().count > 1:
            raise ValueError("fit_generator works in one process: each would draw an order of its own; use fit")
        check_sizes(self.model, generator.size, generator.batch_size, nb_epochs)
        held_out = None if validation_data is None else self._checked(*validation_data)
        batches = GeneratorBatches(generator, self._checked, device=self.model.device)
        self._train(batches, held_out, nb_epochs, Schedule(scheduler, scheduler_step))

    def fit_stream(
        self,
        batches: Batches,
        nb_epochs: int = 20,
        scheduler: Any = None,
        *,
        validation_data: Arrays | None = None,
        scheduler_step: str = "auto",
    ) -> None:
        """Train on batches that are read while the training runs, images in folders or shards too large for memory.

        Args:
            batches: of `art_ext.engine.streams.ImageBatches` or `art_ext.engine.resident.image_batches`, or what else
                has their methods; inputs within the clip range.
            nb_epochs: as `fit`.
            scheduler: as `fit`.
            validation_data: as `fit`.
            scheduler_step: as `fit`.

        Raises:
            ValueError: bad arguments; batches of another shape, device or number of classes than the classifier's.
        """
        check_sizes(self.model, batches.size, batches.batch_size, nb_epochs)
        self._check_stream(batches)
        held_out = None if validation_data is None else self._checked(*validation_data)
        self._train(batches, held_out, nb_epochs, Schedule(scheduler, scheduler_step))

    def _check_stream(self, batches: Batches) -> None:
        said: list[tuple[str, Any, Any]] = [
            ("shape", getattr(batches, "shape", None), tuple(self._classifier.input_shape)),
            ("num_classes", getattr(batches, "num_classes", None), self._classifier.nb_classes),
            ("device", getattr(batches, "device", None), self.model.device),
        ]
        for name, theirs, ours in said:
            if theirs is not None and theirs != ours:
                raise ValueError(f"batches.{name} is {theirs}, the classifier's is {ours}")

    def predict(self, x: np.ndarray, **kwargs: Any) -> np.ndarray:
        """The classifier's predictions, as in ART."""
        predictions: np.ndarray = self._classifier.predict(x, **kwargs)
        return predictions

    @property
    def best(self) -> dict[str, torch.Tensor] | None:
        """State dict of the network at the epoch of the best robust validation accuracy; None without validation."""
        return None if self._run is None else self._run.best

    def restore(self, which: str = "best") -> None:
        """Put the weights of the ``"best"`` or ``"last"`` epoch of the latest `fit` into the classifier.

        Needs a ``checkpoint_dir``; `art_ext.adapters.timm.timm_classifier` takes the same files as ``checkpoint=``.

        Raises:
            ValueError: no ``checkpoint_dir``, or another word.
            FileNotFoundError: no such checkpoint.
        """
        if self.options.checkpoint_dir is None:
            raise ValueError("restore needs a trainer with a checkpoint_dir")
        load_weights(self.model.network, checkpoint_of(Path(self.options.checkpoint_dir), which))

    def _train(self, batches: Batches, held_out: Arrays | None, epochs: int, schedule: Schedule) -> None:
        schedule.check(self.optimizer)
        validation = self._validation(held_out, batches.batch_size)
        self._run = Run(self._task(schedule), batches, validation, self.options)
        self.history = self._run.history
        saved, self._saved = self._saved, None
        self._run.train(epochs, saved)

    def _task(self, schedule: Schedule) -> Task:
        """What a `fit` optimises."""
        optimizer, about = self.optimizer, self._about(self.optimizer)
        parts = (self.model, optimizer, self.loss, self.attack, self.averaging, schedule, self._native, about)
        return Task(*parts, technique=self.technique, classes=self._classifier.nb_classes)

    def _about(self, optimizer: Optimizer) -> dict[str, str]:
        """What makes a run another one than one that was stopped, as far as text can tell."""
        told = ("seed", "augment", "grad_clip", "accumulate", "channels_last", "compile", "sync_batchnorm")
        return {
            "threat": str(self.threat),
            "loss": described(self.loss),
            "attack": described(self.attack),
            "averaging": described(self.averaging),
            "optimizer": type(optimizer).__name__,
            "network": type(self.model.network).__name__,
            **{name: described(getattr(self.options, name)) for name in told},
            **({} if type(self.technique) is Technique else {"technique": described(self.technique)}),
        }

    def _validation(self, held_out: Arrays | None, batch_size: int) -> Validation | None:
        if held_out is None:
            if self.averaging.needs_validation:
                raise ValueError(
                    f"averaging {type(self.averaging).__name__} judges each epoch on held-out images: give "
                    "validation_data or a validation_split"
                )
            for name in ("early_stopping", "restore_best"):
                if getattr(self.options, name):
                    raise ValueError(f"{name} needs validation_data or a validation_split")
            return None
        x, y = (torch.from_numpy(a).to(self.model.device) for a in held_out)
        steps, seed = self.options.validation_steps, self.options.seed
        rows = validation_rows(batch_size, self.options.accumulate)
        return Validation(x, y, self.threat, steps, rows, seed, Processes.launched())

    def _checked(self, x: np.ndarray, y: np.ndarray, *, trial: bool = True) -> Arrays:
        checked = check_inputs(
            x,
            y,
            num_classes=self._classifier.nb_classes,
            input_shape=self._classifier.input_shape,
            clip=self.threat.clip,
        )
        if trial:
            with keeping_random():  # the model may draw some
                check_model_output(self.model, checked[0][:8], num_classes=self._classifier.nb_classes, stacklevel=4)
        return checked

    def _split(
        self, x: np.ndarray, y: np.ndarray, validation_data: Arrays | None, share: float
    ) -> tuple[Arrays, Arrays | None]:
        if not 0 <= share < 1:
            raise ValueError(f"validation_split must be in [0, 1); got {share!r}")
        if validation_data is not None:
            if share:
                raise ValueError("give validation_data or validation_split, not both")
            return (x, y), self._checked(*validation_data)
        if not share:
            return (x, y), None
        held = max(1, round(share * len(x)))
        if held >= len(x):
            raise ValueError(f"validation_split={share} leaves nothing of {len(x)} examples to train on")
        order = np.random.default_rng(self.options.seed).permutation(len(x))
        out, kept = np.sort(order[:held]), np.sort(order[held:])
        return (x[kept], y[kept]), (x[out], y[out])
