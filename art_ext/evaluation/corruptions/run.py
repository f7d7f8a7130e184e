"""`evaluate_corruptions`: accuracy on images that went bad by themselves, without an adversary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Generator, Tensor, nn

from art_ext.evaluation.corruptions.kinds import CORRUPTIONS, SEVERITIES, Corruption, check_severity, check_shape
from art_ext.evaluation.corruptions.report import CorruptionReport
from art_ext.evaluation.prepare import check_options, prepare
from art_ext.evaluation.report import environment
from art_ext.isolation import derive_seed, seeded
from art_ext.model import DefendedModel, evaluating
from art_ext.naming import lookup
from art_ext.progress import progress_bar
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

_RANGE = ThreatModel("linf", 1.0, (0.0, 1.0))  # `prepare` reads the range of valid inputs from it, and nothing else


def evaluate_corruptions(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    corruptions: Sequence[str] | None = None,
    severities: Sequence[int] = SEVERITIES,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> CorruptionReport:
    """Accuracy under common corruptions (`CORRUPTIONS`), of the whole defense in eval mode.

    The corruptions are ours, in the style of CIFAR-10-C (Hendrycks & Dietterich 2019,
    https://arxiv.org/abs/1903.12261): compare models by them, not with numbers from the published files. The same seed
    gives the same images, whatever the batch size and the other corruptions. The model's modes and the global random
    generators are afterwards as before.

    Args:
        classifier: an ART `PyTorchClassifier` of [0, 1] images, or a module from images to logits.
        x: images (N, C, H, W), C of 1 or 3, float32 in [0, 1]; not modified.
        y: integer labels (N,) or one-hot (N, classes).
        corruptions: names in `CORRUPTIONS`; None for all that fit (grey images have no saturation).
        severities: of 1 to 5.
        batch_size: images per pass.
        seed: of all random choices.
        progress: show a progress bar.

    Raises:
        TypeError: an argument of the wrong kind, e.g. uint8 images.
        ValueError: an unknown name (the nearest is proposed), a severity outside 1 to 5, inputs that are no images or
            that the model does not take, a classifier whose clip values are not [0, 1].

    Example:
        >>> import numpy as np
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> x, y = np.random.default_rng(0).random((4, 3, 8, 8), np.float32), np.array([0, 1, 0, 1])
        >>> report = evaluate_corruptions(net, x, y, corruptions=["fog", "jpeg"], severities=[1, 3, 5], progress=False)
        >>> {name: len(shares) for name, shares in report.accuracies.items()}
        {'fog': 3, 'jpeg': 3}
    """
    check_options(threat=_RANGE, eot=1, batch_size=batch_size, seed=seed)
    levels = _check_severities(severities)
    _check_clip(classifier)
    _, model, images, labels = prepare(classifier, x, y, _RANGE)
    check_shape(images.shape)
    chosen = _choose(corruptions, images.shape[1])
    batches = _Batches(torch.from_numpy(images), torch.from_numpy(labels), batch_size, seed)
    total = len(images) * (1 + len(chosen) * len(levels))
    with evaluating(model), torch.no_grad(), progress_bar(total, "img", show=progress) as bar:
        clean = batches.accuracy(model, None, 0, bar)
        found = {c.name: tuple(batches.accuracy(model, c, level, bar) for level in levels) for c in chosen}
    return CorruptionReport(
        clean_accuracy=clean,
        severities=levels,
        accuracies=found,
        n_examples=len(images),
        seed=int(seed),
        **environment(model),
    )


@dataclass(frozen=True)
class _Batches:
    x: Tensor
    y: Tensor
    batch_size: int
    seed: int

    def accuracy(self, model: DefendedModel, corruption: Corruption | None, severity: int, bar: Any) -> float:
        """Share of the images that are classified correctly at one severity of one corruption."""
        label = f"{corruption.name}-{severity}" if corruption else "clean"
        bar.set_description(label)
        with seeded(derive_seed(self.seed, label)), torch.autocast(model.device.type, enabled=False):
            right = sum((model(x).argmax(1) == y).sum() for x, y in self._corrupted(model, corruption, severity, bar))
        return int(right) / len(self.x)

    def _corrupted(
        self, model: DefendedModel, corruption: Corruption | None, severity: int, bar: Any
    ) -> Iterator[tuple[Tensor, Tensor]]:
        generator = Generator().manual_seed(derive_seed(self.seed, f"{corruption and corruption.name}/{severity}"))
        for x, y in zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True):
            x = x.to(model.device)
            yield corruption.apply(x, severity, generator) if corruption else x, y.to(model.device)
            bar.update(len(x))


def _choose(names: Sequence[str] | None, channels: int) -> list[Corruption]:
    if names is None:
        return [c for c in CORRUPTIONS.values() if channels > 1 or not c.needs_colour]
    names = [names] if isinstance(names, str) else names
    if not len(names):
        raise ValueError("corruptions must name at least one corruption; got none")
    chosen = [lookup(CORRUPTIONS, name, what="corruption") for name in dict.fromkeys(names)]
    for corruption in chosen:
        corruption.check_channels(channels)
    return chosen


def _check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    if isinstance(severities, str | int) or not len(severities):
        raise ValueError(f"severities must be a list of at least one number from 1 to 5; got {severities!r}")
    for severity in severities:
        check_severity(severity)
    return tuple(int(s) for s in dict.fromkeys(severities))


def _check_clip(classifier: Any) -> None:
    clip = getattr(classifier, "clip_values", None)
    if clip is not None and not all(np.all(np.asarray(value) == end) for value, end in zip(clip, (0, 1), strict=True)):
        low, high = (float(np.asarray(value).flat[0]) for value in clip)
        raise ValueError(
            f"corruptions are defined on images in [0, 1]; the classifier's clip_values are [{low:g}, {high:g}]: let "
            "the network do its own normalisation, and give clip_values=(0, 1)"
        )
