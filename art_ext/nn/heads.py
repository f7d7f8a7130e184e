"""The last layer of a classifier: finding it, and giving it more classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

Head = nn.Linear | nn.Conv2d


def find_head(network: nn.Module, x: Tensor, *, classes: int, name: str | None = None) -> str:
    """The name of the layer that makes the logits.

    Args:
        network: images to logits (N, ``classes``).
        x: a few images, to see what the layers return.
        classes: outputs.
        name: of the layer, where it is known; it is only checked.

    Returns:
        Its name in ``network.named_modules()``.

    Raises:
        ValueError: no such layer, or none that can be widened: a linear layer or a 1×1 convolution with as many
            outputs as there are classes, whose output is the network's.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Linear(3, 3))
        >>> find_head(net, torch.rand(2, 1, 2, 2), classes=3)
        '2'
    """
    if name is not None:
        return _checked(network, name, classes)
    candidates = {key: module for key, module in network.named_modules() if _can_widen(module, classes)}
    found = _those_that_answer(network, x, candidates)
    if len(found) == 1:
        return found[0]
    seen = ", ".join(map(repr, candidates)) or "none"
    raise ValueError(
        f"the last layer of {type(network).__name__} cannot be found (layers with {classes} outputs: {seen}); give "
        "head= the name of a linear layer or 1×1 convolution whose outputs are the logits, as in named_modules()"
    )


def widen(network: nn.Module, head: str, extra: int, optimizer: Optimizer | None = None) -> None:
    """Give the layer ``head`` so many more outputs, in place; its old rows are kept, the new ones drawn as at birth.

    Args:
        network: whose layer it is.
        head: its name, see `find_head`.
        extra: how many outputs to add.
        optimizer: gets the new parameters in the place of the old ones, its averages padded with zeros.

    Example:
        >>> net = nn.Sequential(nn.Linear(4, 3))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> widen(net, "0", 2, sgd)
        >>> net[0], [tuple(p.shape) for p in sgd.param_groups[0]["params"]]
        (Linear(in_features=4, out_features=5, bias=True), [(5, 4), (5,)])
    """
    layer = network.get_submodule(head)
    assert isinstance(layer, Head)
    fresh = _fresh(layer, extra)
    for name in ("weight", "bias"):
        old = getattr(layer, name)
        if old is None:
            continue
        rows = getattr(fresh, name).detach().to(old)
        new = nn.Parameter(torch.cat((old.detach(), rows)), requires_grad=old.requires_grad)
        setattr(layer, name, new)
        if optimizer is not None:
            _replace(optimizer, old, new)
    if isinstance(layer, nn.Linear):
        layer.out_features += extra
    else:
        layer.out_channels += extra


def _checked(network: nn.Module, name: str, classes: int) -> str:
    modules = dict(network.named_modules())
    if name not in modules:
        last = ", ".join(map(repr, [key for key, module in modules.items() if isinstance(module, Head)][-3:]))
        raise ValueError(f"head={name!r} is no layer of {type(network).__name__}; its last layers are {last or 'none'}")
    if not _can_widen(modules[name], classes):
        raise ValueError(
            f"head={name!r} is {modules[name]}, which cannot be widened: head must be a linear layer or a 1×1 "
            f"convolution with {classes} outputs and a weight of its own"
        )
    return name


def _can_widen(module: nn.Module, classes: int) -> bool:
    own = "weight" in module._parameters  # a parametrised layer computes its weight
    if isinstance(module, nn.Linear):
        return own and module.out_features == classes
    if isinstance(module, nn.Conv2d):
        return own and module.out_channels == classes and module.kernel_size == (1, 1) and module.groups == 1
    return False


@torch.no_grad()
def _those_that_answer(network: nn.Module, x: Tensor, candidates: dict[str, nn.Module]) -> list[str]:
    """The candidates whose output is the network's."""
    outputs: dict[str, list[Tensor]] = {name: [] for name in candidates}
    hooks = [
        module.register_forward_hook(lambda _module, _args, out, name=name: outputs[name].append(out))
        for name, module in candidates.items()
    ]
    try:
        logits = network(x)
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name, outs in outputs.items() if len(outs) == 1 and _same(outs[0], logits)]


def _same(out: Tensor, logits: Tensor) -> bool:
    return out.numel() == logits.numel() and torch.equal(out.flatten(1), logits)


def _fresh(layer: Head, extra: int) -> Head:
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, extra, layer.bias is not None)
    return nn.Conv2d(layer.in_channels, extra, 1, bias=layer.bias is not None)


def _replace(optimizer: Optimizer, old: Tensor, new: Tensor) -> None:
    for group in optimizer.param_groups:
        group["params"] = [new if p is old else p for p in group["params"]]
    state = optimizer.state.pop(old, None)
    if state is not None:
        optimizer.state[new] = {name: _padded(value, old, new) for name, value in state.items()}


def _padded(value: object, old: Tensor, new: Tensor) -> object:
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    padded = torch.zeros_like(new, dtype=value.dtype)
    padded[: len(old)] = value
    return padded
