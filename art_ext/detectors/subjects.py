"""Images on which a detector is examined, and what classifier and detector say of them and of what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from art_ext.detectors.forensics import UNIT, AttackForensics
from art_ext.detectors.module import Guarded, in_batches
from art_ext.detectors.training import verdict
from art_ext.evaluation.prepare import check_options
from art_ext.model import DefendedModel
from art_ext.validation import check_inputs


class Judged(NamedTuple):
    """Of M images: the classifier is wrong, (M,) bool; the family that the detector says, (M,) int64, 0 for none."""

    wrong: Tensor
    family: Tensor

    def counts(self, families: int) -> tuple[int, ...]:
        """How many images were taken for which family, (F,)."""
        return tuple(torch.bincount(self.family, minlength=families).tolist())


@dataclass(frozen=True)
class Subjects:
    """Clean images as the detector looks at them.

    Args:
        guarded: classifier and detector.
        x: images (N, C, H, W), on the CPU.
        y: labels (N,).
        batch_size: images per pass.
        seed: of all random choices.
    """

    guarded: Guarded
    x: Tensor
    y: Tensor
    batch_size: int
    seed: int

    @property
    def model(self) -> DefendedModel:
        """The classifier."""
        return self.guarded.forensics.observed.model

    @property
    def eight_bit(self) -> bool:
        """Whether images are those of a picture file."""
        return self.guarded.forensics.eight_bit

    @property
    def right(self) -> Tensor:
        """Which images the classifier gets right, (N,) bool."""
        return ~self.judge(self.x, self.y).wrong

    def judge(self, x: Tensor, y: Tensor) -> Judged:
        """What classifier and detector say about images with the labels ``y``."""
        if not len(x):
            return Judged(torch.zeros(0, dtype=torch.bool), torch.zeros(0, dtype=torch.int64))
        forensics = self.guarded.forensics
        out = in_batches(forensics, lambda part: torch.cat(forensics.both(part), 1), x, self.batch_size)
        families = forensics.net.verdict.out_features
        logits, said = out.split((out.shape[1] - families, families), 1)
        return Judged(logits.argmax(1) != y, verdict(said, self.guarded.threshold))


def subjects(
    detector: AttackForensics, x: npt.NDArray[Any], y: npt.NDArray[Any], *, batch_size: int, seed: int
) -> Subjects:
    """Checked images and labels, rounded as the detector rounds them.

    Raises:
        TypeError: no `AttackForensics`, or no arrays.
        sklearn.exceptions.NotFittedError: before `AttackForensics.fit`.
        ValueError: images or labels that the classifier does not take, an option out of its range.
    """
    if not isinstance(detector, AttackForensics):
        raise TypeError(f"detector must be an AttackForensics; got {type(detector).__name__}")
    guarded, classifier = detector.guarded(), detector.classifier
    check_options(threat=detector.threat, eot=1, batch_size=batch_size, seed=seed)
    images, labels = check_inputs(
        x, y, num_classes=classifier.nb_classes, input_shape=classifier.input_shape, clip=UNIT
    )
    seen = guarded.forensics.seen(torch.from_numpy(images))
    return Subjects(guarded, seen, torch.from_numpy(labels), batch_size, int(seed))
