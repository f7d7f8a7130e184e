"""What happens before any work: the arguments of an evaluation are checked and brought into one form."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks.pgd import check_steps
from art_ext.engine.precision import resolve_precision
from art_ext.isolation import seeded
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels, ProbabilitiesWarning, check_images, check_inputs, check_model_output

TRIED = 8  # examples for the trial of the model


def check_options(*, threat: Any, eot: Any, batch_size: Any, seed: Any, precision: str = "auto") -> None:
    """Refuse options out of their range, by name; see `evaluate` for the ranges."""
    if not isinstance(threat, ThreatModel):
        raise TypeError(f"threat must be a ThreatModel, e.g. ThreatModel('linf', 8/255); got {threat!r}")
    check_steps(batch_size=batch_size)
    resolve_precision(precision, torch.device("cpu"))
    if eot != "auto" and (not isinstance(eot, Integral) or eot < 1):
        raise ValueError(f"eot must be 'auto' or a whole number of at least 1; got {eot!r}")
    if not isinstance(seed, Integral) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0; got {seed!r}")


def check_extent(*, n_examples: Any, time_budget: Any) -> None:
    """Refuse what bounds an evaluation where it is out of its range, by name."""
    if n_examples is not None and (not isinstance(n_examples, Integral) or n_examples < 1):
        raise ValueError(f"n_examples must be None or a whole number of at least 1; got {n_examples!r}")
    if time_budget is not None and (not isinstance(time_budget, Real) or not float(time_budget) > 0):
        raise ValueError(f"time_budget must be None or a number of seconds > 0; got {time_budget!r}")


def check_sources(sources: Any) -> None:
    """Refuse what cannot be attacked in place of the model."""
    for source in sources:
        if not isinstance(source, nn.Module):
            raise TypeError(f"sources must be modules from inputs to logits; got {type(source).__name__}")


def prepare(
    classifier: Any, x: Any, y: Any, threat: ThreatModel
) -> tuple[PyTorchClassifier, DefendedModel, Images, Labels]:
    """The classifier in ART's form, its whole chain as a module, and inputs and labels that they take."""
    if isinstance(classifier, nn.Module):
        classifier = _as_classifier(classifier, check_images(x, input_shape=None, clip=threat.clip), threat)
    model = DefendedModel(classifier)
    classes = classifier.nb_classes
    images, labels = check_inputs(x, y, num_classes=classes, input_shape=classifier.input_shape, clip=threat.clip)
    if isinstance(threat.eps, Tensor) and len(threat.eps) != len(images):
        raise ValueError(f"eps has {len(threat.eps)} values for {len(images)} examples; give one or one per example")
    _try(model, images, classes)
    return classifier, model, images, labels


def _as_classifier(module: nn.Module, images: Images, threat: ThreatModel) -> PyTorchClassifier:
    """A plain module as a `PyTorchClassifier` on the device where it lies."""
    logits = _try(module, images, None)
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    on_gpu = device.type == "cuda"
    with torch.cuda.device(device.index if on_gpu else -1):  # ART takes the current one; -1 changes nothing
        return PyTorchClassifier(
            module,
            nn.CrossEntropyLoss(),
            images.shape[1:],
            logits.shape[1],
            clip_values=threat.clip,
            preprocessing=None,
            device_type="gpu" if on_gpu else "cpu",
        )


def _try(module: nn.Module, images: Images, classes: int | None) -> Tensor:
    with seeded(0), warnings.catch_warnings():
        if classes is None:  # the same module will be tried again as a classifier
            warnings.simplefilter("ignore", ProbabilitiesWarning)
        return check_model_output(module, images[:TRIED], num_classes=classes, stacklevel=5)
