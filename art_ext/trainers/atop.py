"""Adversarial training on purification (AToP): a purifier made robust in front of a classifier that stays as it is."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer

from art_ext.averaging import Averaging, get_averaging
from art_ext.engine import EngineOptions, History, Run, Schedule, Task
from art_ext.engine.batches import Batches, TensorBatches
from art_ext.engine.checkpoint import or_warn
from art_ext.engine.checkpoints import Checkpoints, Saved
from art_ext.engine.history import Row
from art_ext.evaluation.figures import save, stages
from art_ext.isolation import fingerprint, seeded
from art_ext.losses import PGDAT
from art_ext.model import require_pytorch_classifier
from art_ext.naming import described, lookup
from art_ext.nn.purifiers import AutoEncoder, PatchDiscriminator, make_purifier
from art_ext.nn.ranges import check_between, check_count
from art_ext.preprocessors.purifier import PurifierPreprocessor, Transform, as_masking, check_purifier
from art_ext.processes import Processes
from art_ext.threat import ThreatModel
from art_ext.trainers.base import Arrays, EngineTrainer
from art_ext.trainers.checks import check_sizes, check_threat
from art_ext.trainers.gan_health import GANHealth
from art_ext.trainers.inner import inner_attack
from art_ext.trainers.purifying import OnTheClassifier, PurificationLoss, PurifyingModel, Seen, Trained, WithoutAttack

PRETRAINING = "pretraining"  # folder of its checkpoints, within that of the run
PICTURE = "purified.png"
PLACES = {"pipeline": "through purifier and classifier", "classifier": "the classifier alone"}
MakeOptimizer = Callable[[Any], Optimizer]


class AToPTrainer(EngineTrainer):
    """Trains a purifier for a classifier that is not touched (https://arxiv.org/abs/2401.16352).

    `pretrain` teaches the purifier g to make whole images of what a random transform t leaves of natural ones:
    ‖x − g(t(x))‖₁ + GAN. `fit` then tunes it on adversarial images x', with the frozen classifier f as a judge:
    the same of x', + λ · CE(y, f(g(t(x')))). `get_classifier` returns the given network behind the purifier.

    Args:
        classifier: an ART `PyTorchClassifier`, trained; it needs no optimizer. Its weights and buffers stay bit for bit
            what they are: a frozen copy of it judges.
        threat: norm, ε and valid range to train against.
        purifier: ``"unet"``, ``"inpainting"`` (the authors'), ``"autoencoder"``, ``"diffusers"``, or a module
            (image, mask) → image with images in [0, 1], see `art_ext.nn.purifiers.Purifier`; trained in place.
        purifier_options: arguments of a purifier given by name, such as ``{"width": 16}``.
        transform: ``"rt1"``, ``"rt2"``, ``"rt3"``, an `art_ext.nn.masking.Masking`, or None.
        transform_options: of a transform given by name, such as ``{"grid": 4}``; the authors' numbers by default.
        gan: train with a discriminator. None: with all but the auto-encoder (authors' code).
        gan_weight: of the purifier's GAN term (our decision: 1).
        discriminator_options: of `art_ext.nn.purifiers.PatchDiscriminator`.
        weight: λ of the cross entropy in `fit`, ≥ 0 (authors' code: 0.05 on CIFAR, 0.1 on Imagenette).
        attacked: what the inner attack knows: ``"pipeline"`` is purifier and classifier (paper), ``"classifier"`` the
            classifier alone (the paper's released code).
        steps: PGD steps of the inner attack (authors' code: 1, FGSM; here with a random start).
        step_size: on the scale of the inputs; default ε for one step, else 2.5 · ε / steps.
        attack: another inner attack, a function (model, x, y) → x_adv or an ART `EvasionAttack` (which attacks the
            classifier that it was made for, whatever ``attacked`` says).
        pretrain_epochs: `fit` pre-trains so long first, unless `pretrain` did; with the images and batches of `fit`.
        vote: draws whose purified images are averaged, in what `get_classifier` returns.
        averaging: of the trained weights, as `RobustTrainer`; in `fit`.
        optimizer: from parameters to an optimizer, for purifier and discriminator together; None for
            Adam(1e-4, betas=(0.5, 0.999)) (authors' code).
        **options: see `art_ext.engine.EngineOptions`. ``checkpoint_dir/pretraining`` holds the pre-training's files;
            ``purified.png`` in both shows some images on their way through the purifier, drawn anew after each epoch.

    Attributes:
        history: figures of each epoch of `fit`; with ``reconstruction``, ``cross_entropy``, ``discriminator``,
            ``saturated`` (share of patches of which the discriminator is certain) and ``diversity`` (how far apart the
            purified images are, beside the originals).
        pretraining: the same of `pretrain`, without cross entropy.

    Raises:
        TypeError: not a `PyTorchClassifier`; an unknown option; no module or transform.
        ValueError: a value out of its range; a purifier that changes shape or leaves [0, 1]; images smaller than the
            grid of the transform.

    Warns:
        UserWarning: `fit` without pre-training; a collapsed purifier; a saturated discriminator; a classifier in
            training mode (it is copied in eval mode).

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        >>> given = PyTorchClassifier(net.eval(), nn.CrossEntropyLoss(), (1, 8, 8), 4, clip_values=(0, 1))
        >>> trainer = AToPTrainer(given, threat=ThreatModel("linf", 0.1), purifier_options={"width": 4}, progress=False)
        >>> x, y = np.random.rand(16, 1, 8, 8).astype("float32"), np.arange(16) % 4
        >>> trainer.pretrain(x, nb_epochs=1, batch_size=8)
        >>> trainer.fit(x, y, nb_epochs=1, batch_size=8)
        >>> trainer.get_classifier().predict(x).shape
        (16, 4)
    """

    model: PurifyingModel

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        purifier: str | nn.Module = "unet",
        purifier_options: Mapping[str, Any] | None = None,
        transform: Transform = "rt2",
        transform_options: Mapping[str, Any] | None = None,
        gan: bool | None = None,
        gan_weight: float = 1.0,
        discriminator_options: Mapping[str, Any] | None = None,
        weight: float = 0.05,
        attacked: str = "pipeline",
        steps: int = 1,
        step_size: float | None = None,
        attack: Any = None,
        pretrain_epochs: int = 0,
        vote: int = 1,
        averaging: str | Averaging | None = None,
        optimizer: MakeOptimizer | None = None,
        **options: Any,
    ) -> None:
        require_pytorch_classifier(classifier)
        check_threat(classifier, threat)
        check_between(0, 1e6, weight=weight, gan_weight=gan_weight)
        check_count(0, pretrain_epochs=pretrain_epochs)
        check_count(1, vote=vote)
        _warn_of_training_mode(classifier.model)
        self.pretrain_epochs, self.vote = pretrain_epochs, vote
        self.pretraining = History()
        self._transform = as_masking(transform, **(transform_options or {}))
        seed, shape = EngineOptions.of(options).seed, tuple(classifier.input_shape)
        if len(shape) != 3:
            raise ValueError(f"purification is of images (C, H, W); the classifier's input_shape is {shape}")
        if self._transform is not None:
            self._transform.check(shape)
        chosen = _made(purifier, purifier_options, shape, seed)
        discriminator = _discriminator(chosen, gan, discriminator_options, shape[0], seed)
        self._trained = Trained(chosen, discriminator)
        loss = self._loss = PurificationLoss(weight=weight, gan_weight=gan_weight)
        size = float(threat.eps) if attack is None and step_size is None and steps == 1 else step_size
        lookup(PLACES, attacked, what="value of attacked")
        inner = inner_attack(attack, classifier, PGDAT(), threat, steps, size)
        super().__init__(
            classifier,
            threat=threat,
            loss=loss,
            attack=inner,
            averaging=get_averaging(averaging),
            native=False,
            options=options,
        )
        if attacked == "classifier":
            self.attack = OnTheClassifier(inner, self.model.classifier)
        self._optimizer = (optimizer or partial(torch.optim.Adam, lr=1e-4, betas=(0.5, 0.999)))(
            self.model.network.parameters()
        )
        self._made: PyTorchClassifier | None = None
        self._ready = isinstance(purifier, nn.Module)  # it may come with weights
        self._saved_early: Saved | None = None

    @property
    def optimizer(self) -> Optimizer:
        """Of purifier and discriminator; make schedulers for this one."""
        return self._optimizer

    @property
    def purifier(self) -> nn.Module:
        """The network that is trained."""
        return self._trained.purifier

    def pretrain(
        self,
        x: np.ndarray,
        nb_epochs: int = 20,
        batch_size: int = 128,
        scheduler: Any = None,
        *,
        scheduler_step: str = "auto",
    ) -> None:
        """Teach the purifier to make whole images of what the transform leaves of natural ones.

        Args:
            x: natural images (N, C, H, W), float32 within the clip range; not modified.
            nb_epochs: at least 1.
            batch_size: at least 1.
            scheduler: a PyTorch learning-rate scheduler on `optimizer`.
            scheduler_step: as `fit`.

        Raises:
            ValueError: bad data or arguments.
            NonFiniteLossError: as `fit`.
        """
        x, y = self._checked(x, np.zeros(len(x), dtype=np.int64))
        check_sizes(self.model, len(x), batch_size, nb_epochs)
        device, channels_last = self.model.device, self.options.channels_last
        batches = TensorBatches(x, y, batch_size=batch_size, device=device, shuffle=True, channels_last=channels_last)
        self._pretrain(batches, nb_epochs, Schedule(scheduler, scheduler_step))

    def resume(self, folder: str | Path | None = None) -> int:
        """As `EngineTrainer.resume`; where `fit` has left no checkpoint yet, the pre-training goes on."""
        folder = self.options.checkpoint_dir if folder is None else folder
        if folder is not None and not Checkpoints(Path(folder)).found() and self._early(folder).found():
            self._saved_early = self._early(folder).newest()
            return 0
        return super().resume(folder)

    def get_classifier(self) -> PyTorchClassifier:
        """The given network behind the purifier, as one ART classifier: `PurifierPreprocessor` comes first."""
        if self._made is None:
            given = self._classifier
            first = PurifierPreprocessor(
                purifier=self.purifier, transform=self._transform, vote=self.vote, device_type=given.device_type
            )
            self._made = PyTorchClassifier(
                given.model,
                given._loss,
                given.input_shape,
                given.nb_classes,
                channels_first=given.channels_first,
                clip_values=given.clip_values,
                preprocessing_defences=[first, *(given.preprocessing_defences or [])],
                preprocessing=given.preprocessing,
                device_type=given.device_type,
            )
        return self._made

    def predict(self, x: np.ndarray, **kwargs: Any) -> np.ndarray:
        """What the classifier says of the purified inputs, as in ART; drawn anew in each call."""
        predictions: np.ndarray = self.get_classifier().predict(x, **kwargs)
        return predictions

    def _model(self) -> PurifyingModel:
        """The whole: transform, purifier, frozen copy of the classifier."""
        return PurifyingModel(self._classifier, self._transform, self._trained)

    def _train(self, batches: Batches, held_out: Arrays | None, epochs: int, schedule: Schedule) -> None:
        if self._saved is None and not self._ready:
            if self.pretrain_epochs:
                self._pretrain(batches, self.pretrain_epochs, Schedule(None))
            else:
                warnings.warn(
                    "fit without pre-training: a purifier that does not yet make images gives the classifier nothing "
                    "to judge and the attack nothing to break; call pretrain(x) first, or give pretrain_epochs",
                    stacklevel=4,
                )
        super()._train(batches, held_out, epochs, schedule)

    def _pretrain(self, batches: Batches, epochs: int, schedule: Schedule) -> None:
        schedule.check(self.optimizer)
        loss, nothing, plain = replace(self._loss, weight=0.0), WithoutAttack(), get_averaging(None)
        task = replace(super()._task(schedule), loss=loss, attack=nothing, averaging=plain)
        task.about |= {"loss": described(loss), "attack": described(nothing), "averaging": described(plain)}
        folder = self.options.checkpoint_dir
        place = None if folder is None else Path(folder) / PRETRAINING
        options = replace(self.options, early_stopping=None, restore_best=None, checkpoint_dir=place)
        run = Run(self._watched(task, place), batches, None, options)
        self.pretraining = run.history
        saved, self._saved_early = self._saved_early, None
        run.train(epochs, saved)
        self._ready = True

    def _task(self, schedule: Schedule) -> Task:
        return self._watched(super()._task(schedule), self.options.checkpoint_dir)

    def _watched(self, task: Task, folder: str | Path | None) -> Task:
        """With a look at the GAN after each epoch, and a picture of the latest images in the folder of the run."""
        health, seen = GANHealth(), Seen(task.attack)

        def watch(row: Row) -> None:
            health(row)
            if folder is not None and seen.latest is not None and Processes.launched().is_first:
                shown = stages(task.averaging.averaged().get_submodule("purifier"), self._transform, *seen.latest)
                with or_warn(Path(folder) / PICTURE):
                    save(shown, Path(folder) / PICTURE)

        return replace(task, attack=seen, watch=watch)

    def _about(self, optimizer: Optimizer) -> dict[str, str]:
        network = self._classifier.model
        return {
            **super()._about(optimizer),
            "network": str(self._trained),
            "transform": str(self._transform),
            "classifier": fingerprint(*network.state_dict().values()),
        }

    @staticmethod
    def _early(folder: str | Path) -> Checkpoints:
        return Checkpoints(Path(folder) / PRETRAINING)


def _made(purifier: Any, options: Mapping[str, Any] | None, shape: tuple[int, ...], seed: int) -> nn.Module:
    if isinstance(purifier, nn.Module):
        if options:
            raise ValueError(f"purifier_options {dict(options)} go with a purifier given by name")
        made = purifier
    elif isinstance(purifier, str):
        with seeded(seed):
            made = make_purifier(purifier, shape[0], **(options or {}))
    else:
        raise TypeError(f"purifier must be a name or a torch.nn.Module; got {type(purifier).__name__}")
    check_purifier(made, shape)
    return made


def _discriminator(
    purifier: nn.Module, gan: bool | None, options: Mapping[str, Any] | None, channels: int, seed: int
) -> PatchDiscriminator | None:
    if gan is None:
        gan = not isinstance(purifier, AutoEncoder)
    if not gan:
        if options:
            raise ValueError(f"discriminator_options {dict(options)} need gan=True")
        return None
    with seeded(seed):
        return PatchDiscriminator(channels, **(options or {}))


def _warn_of_training_mode(network: nn.Module) -> None:
    if any(m.training for m in network.modules() if isinstance(m, _BatchNorm | _DropoutNd)):
        warnings.warn(
            "the classifier is in training mode, where BatchNorm and dropout depend on the batch; the purifier is "
            "trained for it in eval mode: call classifier.model.eval() if it is finished",
            stacklevel=3,
        )
