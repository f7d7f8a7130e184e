"""A timm model as an ART `PyTorchClassifier`, ready to be trained, attacked and defended on images in [0, 1]."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from statistics import fmean
from typing import Any, Literal

import timm
import torch
from art.estimators.classification import PyTorchClassifier
from timm.data.config import resolve_model_data_config
from timm.models.resnet import ResNet
from torch import nn
from torch.optim import SGD, Optimizer

import art_ext.nn.cifar  # noqa: F401  (registers the CIFAR networks with timm)
from art_ext.naming import lookup
from art_ext.nn.normalize import Normalized
from art_ext.nn.parametric_noise import (
    GRANULARITIES,
    add_parametric_noise,
    has_noise,
    noise_scales,
    parameter_groups,
)
from art_ext.processes import Processes

from ._optimizers import LayerwiseOptimizer
from ._weights import load_into, read_state_dict, resampled_convit

__all__ = ["LayerwiseOptimizer", "timm_classifier"]

SMALL = 64  # pixels, up to which a ResNet gets the CIFAR stem
OptimizerLike = Optimizer | Callable[[Iterable[nn.Parameter]], Optimizer]


def timm_classifier(
    name: str,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    stem: Literal["auto", "cifar", "imagenet"] = "auto",
    pretrained: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    parametric_noise: str | None = None,
    optimizer: OptimizerLike | None = None,
    device: str = "auto",
    loss: nn.Module | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **timm_kwargs: Any,
) -> PyTorchClassifier:
    """A timm model as a `PyTorchClassifier` that takes [0, 1] images and normalises them inside the network.

    The classifier has clip values (0, 1), channels first and no ART preprocessing: attacks see images, and the whole
    gradient. ``classifier.model`` is a `Normalized`, ``classifier.model.model`` the timm model.

    Args:
        name: a timm name, with or without tag (``"resnet18"``, ``"vit_tiny_patch16_224"``), or a network of
            `art_ext.nn.cifar` (``"preact_resnet18_cifar"``).
        num_classes: outputs.
        input_shape: (C, H, W) of the images; handed on as ``img_size`` to architectures that are built for one size.
        stem: of a timm ResNet: ``"imagenet"`` as it is, ``"cifar"`` a new 3×3 convolution of stride 1 and no pooling;
            ``"auto"`` chooses ``"cifar"`` for ResNets without pretrained weights up to 64 pixels.
        pretrained: load timm's weights (from its cache, or from the network).
        checkpoint: a ``.safetensors`` file or a PyTorch state dict, loaded last, strictly, without executing code. Of a
            transformer for other patches or another size of images, embeddings and position tables are resampled, with
            a warning. To replace the head: ``pretrained=True, pretrained_cfg_overlay={"file": ...}``.
        parametric_noise: ``"layer"``, ``"channel"`` or ``"element"``: noise of learnable size on the weights, see
            `art_ext.nn.add_parametric_noise`; the checkpoint may be of a network with or without it.
        optimizer: a callable from parameters to an optimizer (``functools.partial(torch.optim.AdamW, lr=1e-3)``), an
            optimizer whose class and default settings are taken over, or a `LayerwiseOptimizer`, whose learning rate
            falls with the distance of a layer from the head. Default: SGD, lr 0.1, momentum 0.9, weight decay 5e-4.
            With parametric noise it gets parameter groups: the sizes of the noise have no weight decay.
        device: ``"auto"`` (a GPU if there is one), ``"cpu"``, ``"gpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; under
            ``torchrun``, ``"auto"``, ``"gpu"`` and ``"cuda"`` are a GPU for each process.
        loss: what ART minimises in ``fit``; default cross entropy.
        mean: per channel on the [0, 1] scale, or one for all; default what the weights were trained with, averaged over
            the channels where the images have another number of them.
        std: as ``mean``.
        timm_kwargs: for the architecture (``patch_size=4``, ``drop_path_rate=0.1``).

    Raises:
        ValueError: unknown name (the nearest are listed), a stem that does not fit, a checkpoint of another
            architecture, an unknown granularity of noise, a device that is not there.
        FileNotFoundError: no such checkpoint.
        RuntimeError: the pretrained weights cannot be had.

    Example:
        >>> classifier = timm_classifier("resnet18", num_classes=10, input_shape=(3, 32, 32), device="cpu")
        >>> classifier.model.model.conv1.stride, classifier.predict(torch.rand(1, 3, 32, 32).numpy()).shape
        ((1, 1), (1, 10))
    """
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must be (channels, height, width); got {input_shape!r}")
    if parametric_noise is not None:
        lookup(GRANULARITIES, parametric_noise, what="granularity of parametric_noise")
    place = _device(device)
    network = _create(name, pretrained, num_classes, input_shape, timm_kwargs)
    _fit_stem(network, name, stem, input_shape, pretrained)
    config = resolve_model_data_config(network)
    channels = input_shape[0]
    model = Normalized(network, _spread(mean, config["mean"], channels), _spread(std, config["std"], channels))
    _fill(model, checkpoint, parametric_noise, name)
    model.to(place)
    return _classifier(model, place, loss or nn.CrossEntropyLoss(), input_shape, num_classes, optimizer)


def _create(name: str, pretrained: bool, num_classes: int, shape: tuple[int, int, int], kwargs: dict[str, Any]) -> Any:
    if not timm.is_model(name):
        near = get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else "; timm.list_models() lists them"
        raise ValueError(f"unknown timm model {name!r}{hint}")
    arguments = {"num_classes": num_classes, "in_chans": shape[0], "img_size": shape[1:], **kwargs}
    if pretrained and name.startswith("convit"):
        arguments = {"pretrained_filter_fn": resampled_convit, **arguments}
    try:
        try:
            return timm.create_model(name, pretrained=pretrained, **arguments)
        except TypeError as error:  # only architectures built for one size know img_size, and nothing lists them
            if "img_size" not in str(error) or "img_size" in kwargs:
                raise
            del arguments["img_size"]
            return timm.create_model(name, pretrained=pretrained, **arguments)
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        reason = str(error).split("\n")[0]
        raise RuntimeError(
            f"no pretrained weights for {name!r}: {reason} Give pretrained=False, or checkpoint= with a file."
        ) from error


def _fit_stem(network: nn.Module, name: str, stem: str, shape: tuple[int, int, int], pretrained: bool) -> None:
    if stem not in ("auto", "cifar", "imagenet"):
        raise ValueError(f"stem must be 'auto', 'cifar' or 'imagenet'; got {stem!r}")
    if stem == "auto":
        stem = "cifar" if isinstance(network, ResNet) and max(shape[1:]) <= SMALL and not pretrained else "imagenet"
    if stem == "imagenet":
        return
    if not isinstance(network, ResNet):
        raise ValueError(f"stem='cifar' replaces the stem of timm's ResNets; {name!r} is a {type(network).__name__}")
    resnet: Any = network
    conv = nn.Conv2d(shape[0], resnet.bn1.num_features, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # as timm initialises a ResNet
    resnet.conv1, resnet.maxpool = conv, nn.Identity()


def _fill(model: nn.Module, checkpoint: str | os.PathLike[str] | None, noise: str | None, name: str) -> None:
    """Weights and noise: in the order of the file, which may be of a network with noise or without."""
    state = {} if checkpoint is None else read_state_dict(checkpoint)
    noise_first = has_noise(state)
    if noise_first and noise is None:
        raise ValueError(f"{checkpoint} is of a network with parametric noise: say of which, by parametric_noise")
    if noise is not None and noise_first:
        add_parametric_noise(model, noise)
    if checkpoint is not None:
        load_into(model, state, source=str(checkpoint), name=name)
    if noise is not None and not noise_first:
        add_parametric_noise(model, noise)


def _spread(given: Sequence[float] | None, known: Sequence[float], channels: int) -> tuple[float, ...]:
    """One number per channel."""
    if given is not None and len(given) not in (1, channels):
        raise ValueError(f"mean and std must be 1 or {channels} numbers; got {tuple(given)}")
    values = tuple(known if given is None else given)
    return values if len(values) == channels else (fmean(values),) * channels


def _device(device: str) -> torch.device:
    """The device; where ``torchrun`` has started several processes, each takes a GPU of its own for ``"cuda"``."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        place = torch.device(device.replace("gpu", "cuda"))
    except RuntimeError as error:
        raise ValueError(f"device must be 'auto', 'cpu', 'gpu', 'cuda', 'cuda:1' or 'mps'; got {device!r}") from error
    available = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (place.index or 0) >= available.get(place.type, 0):
        raise ValueError(f"device {device!r} is not available here")
    if place.type == "cuda" and place.index is None:
        Processes.launched()  # makes this process's GPU the current one
    return place


def _classifier(
    model: nn.Module,
    place: torch.device,
    loss: nn.Module,
    shape: tuple[int, int, int],
    num_classes: int,
    optimizer: OptimizerLike | None,
) -> PyTorchClassifier:
    # ART knows "cpu" and "the current GPU" only
    with torch.cuda.device(place) if place.type == "cuda" else nullcontext():
        classifier = PyTorchClassifier(
            model,
            loss,
            shape,
            num_classes,
            optimizer=_optimizer(optimizer, model),
            clip_values=(0.0, 1.0),
            preprocessing=None,
            device_type="gpu" if place.type == "cuda" else "cpu",
        )
    if place.type == "mps":
        classifier._device = place
        model.to(place)
    return classifier


def _optimizer(given: OptimizerLike | None, model: nn.Module) -> Optimizer:
    parameters: Any = parameter_groups(model) if noise_scales(model) else model.parameters()
    if given is None:
        return SGD(parameters, lr=0.1, momentum=0.9, weight_decay=5e-4)
    if isinstance(given, LayerwiseOptimizer):
        return given.of(model)
    if not isinstance(given, Optimizer):
        return given(parameters)
    # it cannot hold the parameters of a model that did not exist yet
    accepted = inspect.signature(type(given)).parameters
    return type(given)(parameters, **{k: v for k, v in given.defaults.items() if k in accepted})
