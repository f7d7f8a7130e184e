"""A detector that says whether an image was attacked, and by which family of attacks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.defences.detector.evasion.evasion_detector import EvasionDetector
from art.estimators.classification import PyTorchClassifier
from sklearn.exceptions import NotFittedError
from torch import Tensor

from art_ext.detectors.checks import (
    check_design,
    check_families,
    check_share,
    check_taught,
    check_training,
    family_indices,
    sources,
)
from art_ext.detectors.families import FAMILIES, NONE, Craft, attack_families, crafted
from art_ext.detectors.module import Forensics, Guarded, in_batches
from art_ext.detectors.observed import Observed
from art_ext.detectors.stored import read_network, write_network
from art_ext.detectors.training import Row, check_enough, conformal_threshold, held_out, score, train, verdict
from art_ext.isolation import derive_seed, seeded
from art_ext.model import require_pytorch_classifier
from art_ext.nn.forensics import ForensicNet
from art_ext.threat import ThreatModel
from art_ext.validation import check_images, check_inputs

UNIT = (0.0, 1.0)


class AttackForensics(EvasionDetector):
    """Says whether an image was attacked, and by which family: a small network over pixels and evidence.

    The outlook of the adversarial-training report, after Bonnet, Furon & Bas 2020 (https://arxiv.org/abs/2010.07542);
    network and training are our design. The threshold keeps a rate of false alarms by split conformal prediction. It
    finds attackers who do not know of it; one who does can go past it, and `art_ext.detectors.evasion` says how often.

    Args:
        classifier: the ART `PyTorchClassifier` to protect, of images in [0, 1]. It is shared and stays as it is.
        threat: norm and ε of the strongest attacks to learn, see `art_ext.detectors.attack_families`.
        families: names in `art_ext.detectors.FAMILIES`, or functions and ART attacks by names of your own.
        false_positive_rate: share of clean images that may be taken for attacked, in (0, 1).
        held_out: share of the images of `fit` that choose the threshold and are not trained on, in (0, 1).
        features: of the classifier: ``"penultimate"`` (with the logits), or ``"logits"`` alone.
        head: name of the classifier's last layer, where it cannot be found.
        width: channels of the first convolutions.
        learning_rate: of Adam, at first.
        eight_bit: images are looked at, and attacks learnt, as picture files hold them, in 256 levels. Else the
            detector would learn that clean images are made of whole levels and attacked ones are not.
        seed: of all random choices.
        progress: show progress bars.

    Attributes:
        families: ``"none"``, then the attacks.
        history: loss and accuracy of each epoch.
        module: images to logits of families, for those who attack it; see also `guarded`.

    Raises:
        TypeError: not a `PyTorchClassifier`, no `ThreatModel`, families of another kind.
        ValueError: an argument out of its range, an unknown or a repeated family, none at all; a classifier of other
            inputs than images in [0, 1], or whose last layer cannot be found.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 3, clip_values=(0, 1))
        >>> detector = AttackForensics(classifier, threat=ThreatModel("linf", 0.1), families=["fgsm"], progress=False)
        >>> x, y = np.random.default_rng(0).random((100, 1, 8, 8), np.float32), np.arange(100) % 3
        >>> detector.fit(x, y, nb_epochs=2)
        >>> report, is_adversarial = detector.detect(x[:4])
        >>> is_adversarial.shape, report["probabilities"].shape, detector.families
        ((4,), (4, 2), ('none', 'fgsm'))
    """

    defence_params = ["false_positive_rate"]  # noqa: RUF012  (ART's own convention)

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        families: Sequence[str] | Mapping[str, Craft] = tuple(FAMILIES),
        false_positive_rate: float = 0.05,
        held_out: float = 0.2,
        features: str = "penultimate",
        head: str | None = None,
        width: int = 16,
        learning_rate: float = 2e-3,
        eight_bit: bool = True,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        super().__init__()
        require_pytorch_classifier(classifier)
        check_design(classifier, threat, held_out=held_out, learning_rate=learning_rate, width=width)
        check_families(families)
        self.crafts: dict[str, Craft] = (
            dict(families) if isinstance(families, Mapping) else attack_families(families, threat=threat)
        )
        self.families = (NONE, *self.crafts)
        self.classifier, self.threat, self.false_positive_rate = classifier, threat, false_positive_rate
        self.seed, self.progress, self._held_out, self._learning_rate = seed, progress, held_out, learning_rate
        self._check_params()
        self._width, self._observed = width, Observed(classifier, features=features, head=head)
        self.module = Forensics(self._observed, self._network(), eight_bit=eight_bit)
        self.history: list[Row] = []
        self._clean_scores: Tensor | None = None

    def fit(
        self,
        x: npt.NDArray[Any],
        y: npt.NDArray[Any],
        batch_size: int = 128,
        nb_epochs: int = 20,
        *,
        calibration: npt.NDArray[Any] | None = None,
    ) -> None:
        """Attack images of the classifier with each family, and learn to tell the results apart, and from the images.

        Args:
            x: images (N, C, H, W) in [0, 1]; not modified.
            y: their classes, (N,) or one-hot.
            batch_size: of attacks and training, at least 2.
            nb_epochs: at least 1.
            calibration: clean images that choose the threshold instead of a part of ``x``. Where the classifier was
                trained on ``x``, give images that it has not seen: it is surer of those that it has, and the rate of
                false alarms would be too low for all others.

        Raises:
            TypeError: no arrays of floating point and of labels.
            ValueError: images or labels that the classifier does not take; too few for the rate of false alarms.
        """
        images, labels = map(
            torch.from_numpy,
            check_inputs(
                x, y, num_classes=self.classifier.nb_classes, input_shape=self.classifier.input_shape, clip=UNIT
            ),
        )
        check_training(batch_size, nb_epochs)
        held = self._held(torch.arange(len(images)), calibration)
        clean = self._calibration(images[held], calibration)
        made = crafted(
            self.module.observed.model,
            self.module.seen(images[~held]),
            labels[~held],
            self.crafts,
            batch_size=batch_size,
            eight_bit=self.module.eight_bit,
            seed=self.seed,
            progress=self.progress,
        )
        self._learn(made.x, made.family, clean, batch_size, nb_epochs)

    def fit_crafted(
        self,
        x: npt.NDArray[Any],
        family: npt.NDArray[Any],
        batch_size: int = 128,
        nb_epochs: int = 20,
        *,
        source: npt.NDArray[Any] | None = None,
        calibration: npt.NDArray[Any] | None = None,
    ) -> None:
        """As `fit`, on images that are attacked already, or not.

        Args:
            x: images (N, C, H, W) in [0, 1]; not modified.
            family: of each, (N,) names or indices in `families`.
            batch_size: as in `fit`.
            nb_epochs: as in `fit`.
            source: number of the clean image that each was made of, (N,): all that comes from one image is trained on
                or held out together. None: each from another.
            calibration: as in `fit`.

        Raises:
            TypeError: as in `fit`.
            ValueError: as in `fit`; an unknown family, or one alone.
        """
        images = torch.from_numpy(check_images(x, input_shape=self.classifier.input_shape, clip=UNIT))
        given = torch.from_numpy(family_indices(family, self.families, len(images)))
        check_training(batch_size, nb_epochs)
        held = self._held(torch.from_numpy(sources(source, len(images))), calibration, among=given == 0)
        clean = self._calibration(images[held & (given == 0)], calibration)
        self._learn(images[~held], given[~held], clean, batch_size, nb_epochs)

    def detect(self, x: npt.NDArray[Any], batch_size: int = 128) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
        """Which images were attacked.

        Args:
            x: images (N, C, H, W) in [0, 1].
            batch_size: images per pass.

        Returns:
            A report: ``family`` (N,) names, ``"none"`` where nothing is detected, else the most likely attack;
            ``probabilities`` as of `predict`; ``score`` (N,), the log-odds of an attack; ``threshold`` of the score.
            And whether each image is taken for attacked, (N,) bool.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            TypeError: as in `fit`.
            ValueError: as in `fit`.
        """
        threshold = self.threshold
        logits = self._logits(x, batch_size)
        family = verdict(logits, threshold).numpy()
        report = {
            "family": np.array(self.families)[family],
            "probabilities": logits.softmax(1).numpy(),
            "score": score(logits).numpy(),
            "threshold": threshold,
        }
        return report, family > 0

    def predict(self, x: npt.NDArray[Any], batch_size: int = 128) -> npt.NDArray[np.float32]:
        """Probabilities of `families`, (N, F), as if all were equally frequent; arguments and errors as `detect`."""
        self._scores()
        return self._logits(x, batch_size).softmax(1).numpy()

    @property
    def threshold(self) -> float:
        """Score above which an image is taken for attacked; it follows ``false_positive_rate``.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: the rate is too low for the number of clean images that were kept for this.
        """
        return conformal_threshold(self._scores(), self.false_positive_rate)

    def guarded(self) -> Guarded:
        """Classifier and detector as one module: logits, and the distance of the score to the threshold, (N, C + 1)."""
        return Guarded(self.module, self.threshold)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write what was learnt, as safetensors; the classifier is not in it.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            OSError: ``path`` cannot be written.
        """
        write_network(path, self.module.net, self._scores(), self.families)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over what `save` wrote, by a detector with the same arguments on the same classifier.

        Raises:
            OSError: there is no such file.
            ValueError: of other families; of a network of another shape.
        """
        self._clean_scores = read_network(path, self.module.net, self.families)

    def _held(self, source: Tensor, calibration: Any, *, among: Tensor | None = None) -> Tensor:
        """Which rows (N,) are not trained on; none where others choose the threshold."""
        return held_out(source, 0.0 if calibration is not None else self._held_out, among=among, seed=self.seed)

    def _calibration(self, held: Tensor, given: Any) -> Tensor:
        """The clean images that choose the threshold: enough of them, or an error before long work."""
        if given is not None:
            held = torch.from_numpy(check_images(given, input_shape=self.classifier.input_shape, clip=UNIT))
        check_enough(len(held), self.false_positive_rate)
        return held

    def _learn(self, x: Tensor, family: Tensor, clean: Tensor, batch_size: int, epochs: int) -> None:
        """Train a new network, and let it score the clean images."""
        check_taught(family, self.families)
        self._clean_scores, self.module.net, x = None, self._network(), self.module.seen(x)
        self.history = train(
            self.module.net,
            x,
            in_batches(self.module, self.module.evidence, x, batch_size),
            family,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=self._learning_rate,
            generator=torch.Generator().manual_seed(derive_seed(self.seed, "order")),
            progress=self.progress,
        )
        self._clean_scores = score(in_batches(self.module, self.module, clean, batch_size))

    def _scores(self) -> Tensor:
        """Of the clean images that choose the threshold."""
        if self._clean_scores is None:
            raise NotFittedError("this AttackForensics is not fitted: call fit, fit_crafted or load first")
        return self._clean_scores

    def _network(self) -> ForensicNet:
        channels, evidence = self.classifier.input_shape[0], self._observed.size
        with seeded(derive_seed(self.seed, "network")):
            net = ForensicNet(channels=channels, evidence=evidence, families=len(self.families), width=self._width)
        return net.to(self._observed.model.device).eval()

    def _logits(self, x: npt.NDArray[Any], batch_size: int) -> Tensor:
        """Logits of families (N, F) on the CPU."""
        images = torch.from_numpy(check_images(x, input_shape=self.classifier.input_shape, clip=UNIT))
        return in_batches(self.module, self.module, images, batch_size)

    def _check_params(self) -> None:
        check_share("false_positive_rate", self.false_positive_rate)
