"""Parametric noise injection: Gaussian noise on the weights, of a size that is learnt (PNI; He, Rakin, Fan 2019).

https://arxiv.org/abs/1811.09310. The noise, where its size starts and what is free of weight decay are as in the
authors' code, https://github.com/elliothe/CVPR_2019_PNI. The mechanism is `torch.nn.utils.parametrize`: whatever reads
a weight reads it under noise, fused kernels too, and copies, averages and state dicts treat the sizes as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, register_parametrization
from torch.optim import Optimizer

from art_ext.naming import lookup
from art_ext.nn.layer_weights import LayerWeight, layer_weights, path_of, restore_weight
from art_ext.nn.ranges import check_positive

# the shape of α beside a weight (outputs, inputs, ...)
GRANULARITIES: Mapping[str, Callable[[Tensor], tuple[int, ...]]] = {
    "layer": lambda weight: (1,) * weight.ndim,
    "channel": lambda weight: (len(weight),) + (1,) * (weight.ndim - 1),
    "element": lambda weight: tuple(weight.shape),
}


class ParametricNoise(nn.Module):
    """A weight under noise: w + α · η with η ~ N(0, std(w)²), drawn anew whenever the weight is read.

    In training and at test time alike. α is a parameter; no gradient goes through std(w), that of all numbers in w. The
    random numbers come from torch's global generator.

    Args:
        weight: w, (outputs, inputs, ...).
        granularity: one α for the ``"layer"``, for each output ``"channel"`` or for each ``"element"``.
        alpha: where α starts, > 0 (authors' code: 0.25).

    Raises:
        ValueError: an unknown granularity (the nearest is proposed), an ``alpha`` that is not positive.

    Example:
        >>> noise = ParametricNoise(torch.zeros(4, 3, 3, 3), "channel")
        >>> noise, noise.alpha.shape
        (ParametricNoise(granularity='channel'), torch.Size([4, 1, 1, 1]))
        >>> bool(noise(torch.zeros(4, 3, 3, 3)).any())  # std(w) = 0
        False
    """

    def __init__(self, weight: Tensor, granularity: str = "layer", *, alpha: float = 0.25) -> None:
        super().__init__()
        check_positive(alpha=alpha)
        shape = lookup(GRANULARITIES, granularity, what="granularity")(weight)
        self.granularity = granularity
        self.alpha = nn.Parameter(weight.detach().new_full(shape, alpha))

    def forward(self, weight: Tensor) -> Tensor:
        """The ``weight`` under fresh noise."""
        # a single number has no sample deviation: no noise then, instead of NaN
        spread = weight.detach().std(correction=min(1, weight.numel() - 1))
        return torch.addcmul(weight, self.alpha, torch.randn_like(weight).mul_(spread))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"granularity={self.granularity!r}"


def add_parametric_noise(
    model: nn.Module, granularity: str = "layer", *, alpha: float = 0.25, optimizer: Optimizer | None = None
) -> None:
    """Put noise of learnable size on the weights of all linear layers, convolutions and attentions, in place.

    Biases, normalisations, embeddings and transposed convolutions have none. The weights stay the same parameters; the
    state dict calls them ``….parametrizations.weight.original``. torch saves such a network by its state dict only.

    Args:
        model: to be trained on ½ CE(x) + ½ CE(x'), as the authors do: ``get_loss("alp", weight=0)``.
        granularity: one α for each ``"layer"``, output ``"channel"`` or ``"element"``.
        alpha: where α starts, > 0 (authors' code: 0.25).
        optimizer: of ``model``; gets α as a group without weight decay, as in the authors' code. Learning-rate
            schedules are made afterwards. An optimizer that is made afterwards takes `parameter_groups`.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: an unknown granularity (the nearest is proposed); an ``alpha`` that is not positive; a model with
            noise already, without such layers, with a lazy one before its first input, or with one whose weight a hook
            computes. The model is then as it was.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=5e-4)
        >>> add_parametric_noise(net, "channel", optimizer=sgd)
        >>> x = torch.rand(1, 4)
        >>> torch.equal(net(x), net(x)), [group["weight_decay"] for group in sgd.param_groups]
        (False, [0.0005, 0.0])
        >>> remove_parametric_noise(net, optimizer=sgd)
        >>> torch.equal(net(x), net(x)), len(sgd.param_groups)
        (True, 1)
    """
    check_positive(alpha=alpha)
    lookup(GRANULARITIES, granularity, what="granularity")
    weights = layer_weights(model)
    if noise_scales(model):
        raise ValueError(f"{type(model).__name__} has parametric noise already; remove_parametric_noise takes it off")
    for _, module, name in weights:
        noise = ParametricNoise(getattr(module, name), granularity, alpha=alpha)
        register_parametrization(module, name, noise, unsafe=True)  # its checks would draw random numbers
    if optimizer is not None:
        optimizer.add_param_group({"params": list(noise_scales(model).values()), "weight_decay": 0.0})


def remove_parametric_noise(model: nn.Module, *, optimizer: Optimizer | None = None) -> None:
    """Take the noise of `add_parametric_noise` off again: layers, weights and state dict are those without it.

    Args:
        model: with such noise.
        optimizer: that was told of it; forgets α.

    Raises:
        ValueError: the model has none.
    """
    placed = list(_placed(model))
    if not placed:
        raise ValueError(
            f"{type(model).__name__} has no parametric noise to remove; add_parametric_noise puts it there"
        )
    if optimizer is not None:
        _forget(optimizer, [place.noise.alpha for place in placed])
    for place in reversed(placed):
        place.clear()


def noise_scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """α of each weight under parametric noise, by the weight's name.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3))
        >>> add_parametric_noise(net)
        >>> noise_scales(net)["0.weight"].tolist()
        [[0.25]]
    """
    return {place.weight.path: place.noise.alpha for place in _placed(model)}


def parameter_groups(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters of ``model`` as groups for any torch optimizer: α of the noise apart, without weight decay.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> add_parametric_noise(net)
        >>> sgd = torch.optim.SGD(parameter_groups(net), lr=0.1, weight_decay=5e-4)
        >>> [(len(group["params"]), group["weight_decay"]) for group in sgd.param_groups]
        [(2, 0.0005), (1, 0.0)]
    """
    scales = list(noise_scales(model).values())
    apart = set(map(id, scales))
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if id(p) not in apart]}]
    return [*groups, {"params": scales, "weight_decay": 0.0}] if scales else groups


def has_noise(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict is that of a network with parametric noise.

    Example:
        >>> has_noise(nn.Linear(2, 2).state_dict())
        False
    """
    return any(".parametrizations." in f".{key}" and key.endswith(".alpha") for key in state)


class _Place(NamedTuple):
    """A noise, and the weight it acts on."""

    weight: LayerWeight
    noise: ParametricNoise

    def clear(self) -> None:
        chain: Any = getattr(self.weight.module.parametrizations, self.weight.name)
        if len(chain) > 1:  # somebody else's parametrizations stay
            del chain[list(chain).index(self.noise)]
        else:
            restore_weight(self.weight.module, self.weight.name)


def _placed(model: nn.Module) -> Iterator[_Place]:
    for place, module in model.named_modules():
        chains: Any = module.parametrizations if is_parametrized(module) else {}
        for name, chain in chains.items():
            weight = LayerWeight(path_of(place, name), module, name)
            yield from (_Place(weight, noise) for noise in chain if isinstance(noise, ParametricNoise))


def _forget(optimizer: Optimizer, gone: list[nn.Parameter]) -> None:
    apart = set(map(id, gone))
    for group in optimizer.param_groups:
        group["params"] = [p for p in group["params"] if id(p) not in apart]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
    for scale in gone:
        optimizer.state.pop(scale, None)
