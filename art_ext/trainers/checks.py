"""What trainers refuse before any work begins."""

from __future__ import annotations

from typing import Any

import numpy as np
from art.data_generators import DataGenerator
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from art_ext.threat import ThreatModel


def check_sizes(model: nn.Module, examples: int, batch_size: int, epochs: int) -> None:
    """Refuse counts below one, and batches of one example for BatchNorm.

    Raises:
        ValueError: as said.
    """
    for name, value in (("batch_size", batch_size), ("nb_epochs", epochs)):
        if not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")
    has_batchnorm = any(isinstance(m, _BatchNorm) for m in model.modules())
    if has_batchnorm and min(examples, batch_size) == 1:
        raise ValueError(
            f"BatchNorm cannot train on batches of one example (x has {examples}, batch_size is {batch_size}); "
            "use a batch_size of at least 2"
        )


def check_generator(generator: Any) -> None:
    """Refuse what is no ART `DataGenerator`, or does not know its size.

    Raises:
        TypeError: no generator.
        ValueError: no size.
    """
    if not isinstance(generator, DataGenerator):
        raise TypeError(f"generator must be an art.data_generators.DataGenerator; got {type(generator).__name__}")
    if generator.size is None:
        raise ValueError("generator must know the size of its data set; give its constructor a size")


def check_threat(classifier: PyTorchClassifier, threat: Any) -> None:
    """Refuse a threat model that the classifier's clip values contradict, or with an ε for each example.

    Raises:
        TypeError: no `ThreatModel`.
        ValueError: as said.
    """
    if not isinstance(threat, ThreatModel):
        raise TypeError(f"threat must be a ThreatModel, e.g. ThreatModel('linf', 8/255); got {threat!r}")
    if not isinstance(threat.eps, float):
        raise ValueError(f"eps must be one number for all training examples; got {len(threat.eps)}, one per example")
    if classifier.clip_values is None:
        return
    low, high = (float(np.min(classifier.clip_values[0])), float(np.max(classifier.clip_values[1])))
    if threat.clip is None or not np.allclose(threat.clip, (low, high), rtol=1e-6):  # ART keeps them in float32
        raise ValueError(f"the classifier's clip_values are {(low, high)}, the threat model's clip is {threat.clip}")
