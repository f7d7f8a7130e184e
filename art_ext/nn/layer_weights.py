"""The weights that mix a layer's inputs: where they are, and taking a parametrization off one of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # of attention, those it has


class LayerWeight(NamedTuple):
    """The weight ``name`` of ``module``, which the whole network calls ``path``."""

    path: str
    module: nn.Module
    name: str


def layer_weights(model: nn.Module) -> list[LayerWeight]:
    """The weights of linear layers, convolutions and attentions, (outputs, inputs, ...) each.

    Not of transposed convolutions, whose weights begin with the inputs.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: it has none; one belongs to a lazy layer before its first input, or is computed by a hook.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
        >>> [weight.path for weight in layer_weights(net)]
        ['0.weight', '3.weight']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}")
    found = [
        LayerWeight(path_of(place, name), module, name)
        for place, module in model.named_modules()
        for name in _names(module)
    ]
    for weight in found:
        _check(weight)
    if not found:
        raise ValueError(f"{type(model).__name__} has no weights of linear layers, convolutions or attentions")
    return found


def path_of(place: str, name: str) -> str:
    """What a network calls the tensor ``name`` of its module ``place``; the network itself is ``""``."""
    return f"{place}.{name}" if place else name


def restore_weight(module: nn.Module, name: str) -> None:
    """Make the parametrised weight an ordinary parameter again, in its old place; of several, the last one first."""
    others = list(module._parameters)
    remove_parametrizations(module, name, leave_parametrized=False)
    for other in others:  # torch has appended the weight, which in these layers comes before the rest
        module._parameters[other] = module._parameters.pop(other)


def _names(module: nn.Module) -> Iterable[str]:
    if isinstance(module, nn.MultiheadAttention):
        return [name for name in _PROJECTIONS if getattr(module, name) is not None]
    return ["weight"] if isinstance(module, _LAYERS) else []


def _check(weight: LayerWeight) -> None:
    path, module, name = weight
    if not is_parametrized(module, name) and name not in module._parameters:
        raise ValueError(
            f"{path} is computed by a hook (an old weight_norm, spectral_norm or pruning), which would overwrite what "
            "is done to it; use torch.nn.utils.parametrizations, or remove the hook"
        )
    if isinstance(module._parameters.get(name), UninitializedParameter):
        raise ValueError(f"{path} belongs to a lazy layer, which has no shape yet: let the model see an input first")
