"""Interference neural networks (INN): training under backgrounds and noise, and a vote of the last epochs."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch.optim import Optimizer

from art_ext.engine import EngineOptions, Schedule
from art_ext.engine.batches import Batches
from art_ext.engine.loop import checkpoint_of
from art_ext.losses import PGDAT
from art_ext.model import DefendedModel, require_pytorch_classifier
from art_ext.nn.backgrounds import Source, load_backgrounds
from art_ext.nn.interference import Interference
from art_ext.nn.ranges import check_count
from art_ext.nn.soft_vote import SoftVote
from art_ext.threat import ThreatModel
from art_ext.trainers.appended import WithBackgrounds
from art_ext.trainers.base import Arrays, EngineTrainer
from art_ext.trainers.interfered import InterferedModel, Interfering
from art_ext.trainers.snapshots import FOLDER, SnapshotLoader, Snapshots, find_snapshots


def _snapshots(keep: int, options: EngineOptions) -> Snapshots:
    """In the folder of the run, with those that its checkpoints may name; else in a temporary one."""
    if options.checkpoint_dir is None:
        return Snapshots(keep)
    return Snapshots(keep, Path(options.checkpoint_dir) / FOLDER, spare=options.keep_checkpoints)


class INNTrainer(EngineTrainer):
    """Fine-tunes a network under interference, as a network that votes (https://arxiv.org/abs/2310.05947).

    Each batch: images under a fresh draw of α · background + β · white noise + γ · salt and pepper, and all backgrounds
    by themselves under noise, as classes of their own. The classifier given stays as it is: a copy of its network,
    widened by those classes, is trained by a copy of its optimizer. `get_classifier` returns an ART classifier of the
    image classes whose ``model`` is the vote over the weights of the last epochs, the backgrounds and draws of noise.

    The paper's robustness is that under an attacker who does not know of the interference, or sees one draw of it;
    `art_ext.evaluate` averages over draws and attacks the vote.

    Args:
        classifier: an ART `PyTorchClassifier` of images in [0, 1] with an optimizer; pre-trained, as a rule.
        backgrounds: None for the two photographs of scikit-learn, a folder, or arrays, see
            `art_ext.nn.backgrounds.load_backgrounds`; ``()`` for none. The paper has 8.
        alpha: weight of the background, in [0, 1]; 0 for none. Paper: 0.1.
        beta: standard deviation of the white noise, in [0, 1]; 0 for none. Paper: 0.1.
        gamma: size of the salt and pepper, in [0, 1]; 0 for none. Paper: 0.1.
        density: share of the pixels with a grain of it, in [0, 1]; our decision: 0.05.
        label_backgrounds: backgrounds are classes of their own; False trains on images alone.
        snapshots: of how many of the last epochs the weights vote, at least 1; 4 in the paper, 8 in an ablation.
        draws: of the noise, for each snapshot and background; more cost as many more passes. Our decision: 1.
        vote_backgrounds: each background has its votes; False draws one at random for each image and pass.
        head: name of the last layer in ``named_modules()``, where it cannot be found.
        threat: attack for the accuracies on held-out images, nothing else; None for ℓ∞ 8/255.
        **options: see `art_ext.engine.EngineOptions`. The snapshots are kept in ``checkpoint_dir/snapshots``, in a
            temporary folder without a ``checkpoint_dir``; there, older ones stay as long as a checkpoint may name them.
            ``early_stopping`` and ``restore_best`` choose the weights of the single network; the vote is over the last
            epochs, so ``early_stopping`` must leave time for the snapshots.

    Attributes:
        backgrounds: (K, C, H, W) in [0, 1].
        history: figures of each epoch; ``clean`` and ``robust`` are those of the single network under one draw.

    Raises:
        TypeError: not a `PyTorchClassifier`; an unknown option; backgrounds of another kind.
        ValueError: a value out of its range; backgrounds with another number of channels, none in the folder, an
            unreadable one; a last layer that cannot be found or widened; another number of outputs than classes. In
            `fit`, fewer epochs than snapshots.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> given = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 4, optimizer=sgd, clip_values=(0, 1))
        >>> trainer = INNTrainer(given, snapshots=2, progress=False)
        >>> trainer.fit(np.random.rand(16, 3, 2, 2).astype("float32"), np.arange(16) % 4, nb_epochs=3, batch_size=8)
        >>> voting = trainer.get_classifier()
        >>> voting.predict(np.zeros((5, 3, 2, 2), "float32")).shape, voting.model.passes  # 2 snapshots, 2 backgrounds
        ((5, 4), 4)
    """

    model: InterferedModel
    averaging: Snapshots

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        backgrounds: Source = None,
        alpha: float = 0.1,
        beta: float = 0.1,
        gamma: float = 0.1,
        density: float = 0.05,
        label_backgrounds: bool = True,
        snapshots: int = 4,
        draws: int = 1,
        vote_backgrounds: bool = True,
        head: str | None = None,
        threat: ThreatModel | None = None,
        **options: Any,
    ) -> None:
        require_pytorch_classifier(classifier)
        check_count(1, snapshots=snapshots, draws=draws)
        self.backgrounds = load_backgrounds(backgrounds, input_shape=classifier.input_shape)
        self._interference = Interference(self.backgrounds, alpha=alpha, beta=beta, gamma=gamma, density=density)
        self._labelled = label_backgrounds and len(self.backgrounds) > 0
        self._head, self._draws, self._vote_backgrounds = head, draws, vote_backgrounds
        self._voting: PyTorchClassifier | None = None
        engine = EngineOptions.of(options)
        super().__init__(
            classifier,
            threat=threat or ThreatModel("linf", 8 / 255),
            loss=PGDAT(),
            attack=Interfering(self._interference, int(classifier.nb_classes)),
            averaging=_snapshots(snapshots, engine),
            native=False,
            options=options,
        )

    @property
    def optimizer(self) -> Optimizer:
        """The copy of the classifier's optimizer that trains the copy of its network; make schedulers for this one.

        Raises:
            ValueError: the classifier has none.
        """
        return self.model.optimizer or super().optimizer

    def resume(self, folder: str | Path | None = None) -> int:
        """As `EngineTrainer.resume`; snapshots of another folder are copied when the run goes on."""
        epochs = super().resume(folder)
        self.averaging.source = None if folder is None else Path(folder) / FOLDER
        return epochs

    def get_classifier(self) -> PyTorchClassifier:
        """The classifier that votes; before the first `fit`, with the network alone."""
        if self._voting is None:
            self._voting = self._vote(self.averaging.loaders(self._plain()) or [self._plain()])
        return self._voting

    def predict(self, x: np.ndarray, **kwargs: Any) -> np.ndarray:
        """What the vote says, as in ART; noise is drawn anew in each call."""
        predictions: np.ndarray = self.get_classifier().predict(x, **kwargs)
        return predictions

    def restore(self, which: str = "last") -> None:
        """Let the snapshots vote that a `fit` left in ``checkpoint_dir``, or the ``"best"`` epoch alone.

        The network has the weights of that epoch, or of the last, too.

        Raises:
            ValueError: no ``checkpoint_dir``, another word, or fewer snapshots than this trainer asks for.
            FileNotFoundError: no such checkpoint.
        """
        super().restore(which)
        folder = Path(str(self.options.checkpoint_dir))
        chosen = [checkpoint_of(folder, which)] if which == "best" else self._snapshots_in(folder)
        self._voting = self._vote([SnapshotLoader(self._plain(), path) for path in chosen])

    def _snapshots_in(self, folder: Path) -> list[Path]:
        return find_snapshots(folder / FOLDER, self.averaging.keep)

    def _model(self) -> InterferedModel:
        """The copy that is trained."""
        return InterferedModel(
            self._classifier,
            self._interference,
            extra=len(self.backgrounds) if self._labelled else 0,
            head=self._head,
            seed=self.options.seed,
        )

    def _plain(self) -> DefendedModel:
        """The classifier's preprocessors around the trained network, without the interference."""
        return DefendedModel(self._classifier).around(self.model.network).eval()

    def _vote(self, models: list[Any]) -> PyTorchClassifier:
        given = self._classifier
        vote = SoftVote(
            models,
            transform=self._interference,
            draws=self._draws,
            classes=self.model.classes,
            every_outcome=self._vote_backgrounds,
        ).eval()
        device = self.model.device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            return PyTorchClassifier(
                vote,
                given._loss,
                given.input_shape,
                self.model.classes,
                channels_first=given.channels_first,
                clip_values=given.clip_values,
                preprocessing=None,  # the vote has the classifier's own inside, behind the interference
                device_type=given.device_type,
            )

    def _train(self, batches: Batches, held_out: Arrays | None, epochs: int, schedule: Schedule) -> None:
        if epochs < self.averaging.keep:
            raise ValueError(f"{self.averaging.keep} snapshots need as many epochs; nb_epochs is {epochs}")
        patience = self.options.early_stopping
        if patience is not None and patience + 1 < self.averaging.keep:  # the first epoch may be the best
            raise ValueError(
                f"early_stopping={patience} may end the training after {patience + 1} epochs, before there are "
                f"snapshots={self.averaging.keep}; it must be at least {self.averaging.keep - 1}, or None"
            )
        if self._labelled:
            batches = WithBackgrounds(batches, self.backgrounds.to(self.model.device), self.model.classes)
        self._voting = None
        super()._train(batches, held_out, epochs, schedule)
