"""Training on noisy natural images, through a soft quantization layer: robustness without an inner attack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.averaging import Averaging, get_averaging
from art_ext.model import DefendedModel, require_pytorch_classifier
from art_ext.naming import lookup
from art_ext.nn.noise import noise_like
from art_ext.nn.ranges import check_temperature
from art_ext.preprocessors import SoftQuantization
from art_ext.threat import ThreatModel
from art_ext.trainers.annealing import Anneal, AnnealedCE
from art_ext.trainers.base import EngineTrainer
from art_ext.trainers.checks import check_threat

NOISES = {"uniform": "uniform in the ball of the threat model", "signs": "ε or −ε in each element"}


@dataclass(frozen=True)
class AddNoise:
    """What stands in the place of the inner attack: noise of the threat model's size.

    Args:
        noise: ``"uniform"``, ``"signs"`` or None.
        threat: norm, ε and valid range.
    """

    noise: str | None
    threat: ThreatModel

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy ``x`` (N, ...), within the valid range."""
        if self.noise is None:
            return x
        if self.noise == "uniform":
            return self.threat.random_start(x, generator)
        noisy = x + self.threat.radius(x) * noise_like(x, "signs", generator=generator)
        return noisy if self.threat.clip is None else noisy.clamp_(*self.threat.clip)


class NoisyTrainer(EngineTrainer):
    """Training on noisy natural images, as fast as ordinary training (https://arxiv.org/abs/1810.05665).

    The paper's claim is that a soft quantization layer behind the input, trained with noise as large as the attack,
    stands for the objective CE + ‖∇ₓ CE‖₁, hence for PGD training. What it is worth under an attack that knows the
    layer, `art_ext.evaluate` says; what the layer does to gradients, `SoftQuantization`.

    Args:
        classifier: an ART `PyTorchClassifier` with an optimizer. Its preprocessors with ``apply_fit`` act in training,
            so one with `NoiseInjection` is trained under that noise; ``noise=None`` then adds no other.
        threat: norm, ε and valid range; ε is the size of the noise.
        noise: ``"uniform"`` in the ball, ``"signs"`` (±ε in each element, ℓ∞ only), or None for natural images.
        quantization: a layer for the classifier, which becomes the first of its preprocessors, unless it is one of
            them already. None for the layers that the classifier has, if any.
        anneal: temperature of the first epoch, from where it falls along a geometric line to the layer's own, reached
            after three quarters of the epochs; or a function of the share of epochs done; or None for the layer's own
            throughout. A hard layer is trained as a soft one. (All of it our decision.)
        gradient_penalty: λ of the exact objective CE + λ · ‖∇ₓ CE‖₁, by a second backward pass at the noisy images; the
            history then has ``gradient_l1`` and ``cross_entropy`` beside the loss. ε is its natural size; 0 is off.
        averaging: as `RobustTrainer`.
        **options: see `art_ext.engine.EngineOptions`.

    Raises:
        TypeError: not a `PyTorchClassifier`; an unknown option; a quantization of another class.
        ValueError: a value out of its range; signs in an ℓ2 ball; a second quantization layer; one that does not act
            both in training and at prediction.

    Example:
        >>> import numpy as np
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> given = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 2, 2), 2, optimizer=sgd, clip_values=(0, 1))
        >>> layer = SoftQuantization(levels=2, temperature=0.1)
        >>> trainer = NoisyTrainer(given, threat=ThreatModel("linf", 0.1), quantization=layer, progress=False)
        >>> trainer.fit(np.random.rand(16, 1, 2, 2).astype("float32"), np.arange(16) % 2, nb_epochs=4, batch_size=8)
        >>> [round(value, 2) for value in trainer.history.column("temperature")]
        [1.0, 0.46, 0.22, 0.1]
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        noise: str | None = "uniform",
        quantization: SoftQuantization | None = None,
        anneal: Anneal = 1.0,
        gradient_penalty: float = 0.0,
        averaging: str | Averaging | None = None,
        **options: Any,
    ) -> None:
        require_pytorch_classifier(classifier)
        check_threat(classifier, threat)
        _check_noise(noise, threat)
        _check_quantization(classifier, quantization)
        _check_objective(anneal, gradient_penalty, options)
        self._quantization = quantization
        super().__init__(
            classifier,
            threat=threat,
            loss=AnnealedCE(gradient_penalty=gradient_penalty, anneal=anneal),
            attack=AddNoise(noise, threat),
            averaging=get_averaging(averaging),
            native=False,
            options=options,
        )

    def _model(self) -> DefendedModel:
        """With the quantization layer in the classifier, once nothing else can be wrong with the arguments."""
        given, there = self._quantization, list(self._classifier.preprocessing_defences or [])
        if given is not None and all(given is not one for one in there):
            self._classifier.set_params(preprocessing_defences=[given, *there])
        return super()._model()


def _check_noise(noise: Any, threat: ThreatModel) -> None:
    if noise is None:
        return
    lookup(NOISES, noise, what="noise")
    if noise == "signs" and threat.norm != "linf":
        raise ValueError(f"noise='signs' belongs to an ℓ∞ ball; the threat model is {threat}: use 'uniform'")


def _check_quantization(classifier: PyTorchClassifier, given: Any) -> None:
    if given is not None and not isinstance(given, SoftQuantization):
        raise TypeError(f"quantization must be a SoftQuantization or None; got {type(given).__name__}")
    there = [one for one in classifier.preprocessing_defences or [] if isinstance(one, SoftQuantization)]
    if given is not None and there and all(given is not one for one in there):
        raise ValueError("the classifier has a SoftQuantization already: quantization=None takes that one")
    for one in [*there, *filter(None, [given])]:
        if not (one.apply_fit and one.apply_predict):
            seen = f"apply_fit={one.apply_fit}, apply_predict={one.apply_predict}"
            raise ValueError(f"the SoftQuantization must act in training and at prediction; it has {seen}: set both")


def _check_objective(anneal: Any, gradient_penalty: float, options: dict[str, Any]) -> None:
    if anneal is not None and not callable(anneal):
        check_temperature(anneal=anneal)
    if gradient_penalty and options.get("compile"):
        raise ValueError("gradient_penalty needs second derivatives, which compile=True does not have")
