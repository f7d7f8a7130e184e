"""One training on the toy problem, with the weights of every epoch kept."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.averaging import Averaging, Recalibrate, snapshot
from art_ext.isolation import derive_seed, seeded
from art_ext.losses import get_loss
from art_ext.reproduce.piat_toy.data import Labels, Points
from art_ext.reproduce.piat_toy.settings import Method, Settings
from art_ext.trainers import PIATTrainer, RobustTrainer

Weights = dict[str, Tensor]


class Album(Averaging):
    """Another averaging, and the weights at the end of each epoch: as trained, and as that averaging left them.

    Args:
        inner: what averages.

    Attributes:
        trained: a state dict for each epoch from 1 on, before the averaging; at 0 the initial weights.
        kept: the same after it: what the next epoch starts from, if the averaging feeds back.

    Example:
        >>> album = Album(Averaging())
        >>> album.start(nn.Linear(1, 1))
        >>> album.after_epoch(0, 1, lambda network: None), len(album.kept)
        ({}, 2)
    """

    def __init__(self, inner: Averaging) -> None:
        self.inner, self.feeds_back = inner, inner.feeds_back

    def start(self, network: nn.Module) -> None:
        """Begin with the weights as they are."""
        super().start(network)
        self.inner.start(network)
        self.trained, self.kept = [snapshot(network)], [snapshot(network)]

    def after_step(self) -> None:
        """Tell the other."""
        self.inner.after_step()

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Let the other average; keep the weights before and after."""
        self.trained.append(snapshot(self.network))
        figures = self.inner.after_epoch(epoch, epochs, recalibrate)
        self.kept.append(snapshot(self.inner.averaged()))
        return figures

    def averaged(self) -> nn.Module:
        """The other's."""
        return self.inner.averaged()


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What came out.

    Args:
        network: in eval mode, with the weights of the last epoch.
        album: those of all epochs.
        seconds: of the training alone.
    """

    network: nn.Module
    album: Album
    seconds: float


def perceptron(width: int) -> nn.Sequential:
    """The network: three coordinates, one hidden layer of ReLUs, two logits."""
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2))


def with_weights(network: nn.Module, weights: Weights) -> nn.Module:
    """Another network like it, with these weights, in eval mode."""
    other = copy.deepcopy(network).eval()
    other.load_state_dict(weights)
    return other


def points(settings: Settings, seed: int, split: str) -> tuple[Points, Labels]:
    """The ``"train"`` or ``"test"`` points of a seed, all methods' alike."""
    n = {"train": settings.train, "test": settings.test}[split]
    return settings.circles.draw(n, seed=derive_seed(seed, f"circles, {split}"))


def train(method: Method, seed: int, settings: Settings) -> Trained:
    """Train from the initial weights of that seed, on the CPU in float32."""
    with seeded(derive_seed(seed, "perceptron")):
        network = perceptron(settings.width)
    sgd = torch.optim.SGD(network.parameters(), lr=settings.lr, momentum=settings.momentum)
    classifier = PyTorchClassifier(network, nn.CrossEntropyLoss(), (3,), 2, optimizer=sgd, device_type="cpu")
    trainer = _trainer(method, classifier, settings, seed)
    trainer.averaging = album = Album(trainer.averaging)
    trainer.fit(*points(settings, seed, "train"), batch_size=settings.batch_size, nb_epochs=settings.epochs)
    return Trained(network=network, album=album, seconds=sum(trainer.history.column("seconds")))


def _trainer(method: Method, classifier: PyTorchClassifier, settings: Settings, seed: int) -> RobustTrainer:
    options: dict[str, Any] = {
        "threat": settings.threat,
        "loss": get_loss("nmse", mu=method.mu) if method.mu else "pgd-at",
        "steps": settings.steps,
        "precision": "fp32",
        "seed": seed,
        "progress": False,
    }
    if method.weight == 0:
        return RobustTrainer(classifier, **options)
    return PIATTrainer(classifier, schedule=method.weight, **options)
