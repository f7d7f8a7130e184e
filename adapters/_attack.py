"""What every adapted attack needs around the call: checked inputs, untouched models and generators, checked outputs."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_ext.evaluation.runner import inspect
from art_ext.isolation import seeded
from art_ext.model import DefendedModel, evaluating
from art_ext.threat import ThreatModel
from art_ext.validation import check_images, check_labels

UNIT = (0.0, 1.0)
ANYWHERE = ThreatModel("linf", 1.0, clip=UNIT)


class TensorAttack(EvasionAttack):
    """Base of the adapters: an attack on tensors, written for another library, as an ART `EvasionAttack`.

    It attacks `DefendedModel`, so the whole defense with its normalisation, in eval mode. It leaves training modes,
    ``requires_grad``, ``.grad`` and the global random generators (torch, numpy, python) as they were. Adversarial
    examples with NaN or infinite pixels are replaced by the clean image, those outside ``threat`` by their projection;
    ``n_failed`` and ``n_projected`` count them for the last call.

    Args:
        estimator: an ART `PyTorchClassifier` over images in [0, 1].
        threat: the ball that every adversarial example must lie in; None leaves the attack to its own bounds.
        batch_size: images per call of the attack.
        seed: of the random generators while the attack runs; the same seed gives the same adversarial examples.

    Raises:
        art.exceptions.EstimatorError: ``estimator`` is not a `PyTorchClassifier`.
        ValueError: clip values other than (0, 1), a radius given per example, batch size < 1.
    """

    attack_params = [*EvasionAttack.attack_params, "batch_size", "seed"]  # noqa: RUF012  (ART's own convention)
    _estimator_requirements = (PyTorchClassifier,)

    label: str
    n_failed: int = 0
    n_projected: int = 0

    def __init__(
        self, *, estimator: PyTorchClassifier, threat: ThreatModel | None = None, batch_size: int = 128, seed: int = 0
    ) -> None:
        super().__init__(estimator=estimator)
        self.threat = threat
        self.batch_size = batch_size
        self.seed = seed
        self._check_params()

    def generate(
        self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None = None, **kwargs: Any
    ) -> npt.NDArray[np.float32]:
        """Adversarial examples.

        Args:
            x: images (N, C, H, W) in [0, 1], floating point; never modified.
            y: labels, (N,) integers or (N, classes) one-hot; the targets of a targeted attack. None: the predictions.
            kwargs: must be empty; ART's ``mask`` is not supported.

        Returns:
            (N, C, H, W) float32 images in [0, 1].

        Raises:
            TypeError: ``x`` or ``y`` is not an array of the right kind, or an argument is unknown.
            ValueError: ``x`` is not finite or leaves [0, 1]; ``x`` and ``y`` do not fit each other or the classifier.
        """
        if kwargs:
            raise TypeError(f"{self.label} takes no {', '.join(sorted(kwargs))}")
        images, labels = self._tensors(x, y)
        model = DefendedModel(self.estimator)
        with evaluating(model), seeded(self.seed):
            labels = self._predictions(model, images) if labels is None else labels
            adversarial = self._perturb(model, images, labels)
        checked, self.n_failed, self.n_projected = inspect(adversarial.float(), images, self.threat or ANYWHERE)
        return checked.clamp_(*UNIT).numpy()

    @abstractmethod
    def _perturb(self, model: DefendedModel, images: Tensor, labels: Tensor) -> Tensor:
        """Adversarial examples, on the CPU, for ``images`` (N, C, H, W) and ``labels`` (N,) on the CPU."""

    def _tensors(self, x: npt.NDArray[Any], y: npt.NDArray[Any] | None) -> tuple[Tensor, Tensor | None]:
        images = torch.tensor(check_images(x, input_shape=self.estimator.input_shape, clip=UNIT)).clamp_(*UNIT)
        if y is None:
            if self.targeted:
                raise ValueError(f"{self.label} is targeted: give the target labels as y")
            return images, None
        labels = torch.from_numpy(check_labels(y, num_classes=self.estimator.nb_classes))
        if len(labels) != len(images):
            raise ValueError(f"x and y must have the same length; got {len(images)} images and {len(labels)} labels")
        return images, labels

    @torch.no_grad()
    def _predictions(self, model: DefendedModel, images: Tensor) -> Tensor:
        predictions = [model(batch.to(model.device)).argmax(1).cpu() for batch in chunks(images, self.batch_size)]
        return torch.cat(predictions)

    def _check_params(self) -> None:
        super()._check_params()
        if int(self.batch_size) < 1:
            raise ValueError(f"batch_size must be at least 1; got {self.batch_size}")
        clip = self.estimator.clip_values
        if clip is not None and not (np.all(clip[0] == 0) and np.all(clip[1] == 1)):
            raise ValueError(f"the attack works on images in [0, 1]; the classifier's clip_values are {clip}")
        if self.threat is None:
            return
        if self.threat.clip != UNIT:
            raise ValueError(f"the attack works on images in [0, 1]; the threat model's clip is {self.threat.clip}")
        if not isinstance(self.threat.eps, float):
            raise ValueError(f"the attack needs one radius for all examples; got eps={self.threat.eps}")


def chunks(x: Tensor, size: int) -> list[Tensor]:
    """``x`` in pieces of ``size`` rows, the last one shorter."""
    return [x[i : i + size] for i in range(0, len(x), size)]
