"""A twin of the model for the attack: BatchNorm folded into the convolutions, weights in bf16 already.

The attack of adversarial training sees a frozen network in eval mode ten times per step. There BatchNorm is a
multiplication and an addition that the convolution before it can do by itself, and the weights need be cast to bf16
once and not in each forward. The twin shares every other tensor with the model.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from art_ext.engine.syncbn import is_batchnorm2d
from art_ext.isolation import keeping_random, seeded
from art_ext.model import DefendedModel, evaluating

Layer = nn.Conv2d | nn.Linear
_PROBES = 4  # examples that must come out alike
_TOLERANCE = 1e-3  # of float32 logits, relative to the largest


@dataclass(frozen=True)
class _Link:
    """A layer of the twin, the tensors it is made of, and the BatchNorm that it swallows."""

    layer: Layer
    weight: Tensor
    bias: Tensor | None
    batchnorm: nn.BatchNorm2d | None

    def refresh(self) -> None:
        weight, bias, bn = self.weight, self.bias, self.batchnorm
        if bn is not None:
            assert bn.running_var is not None
            assert bn.running_mean is not None
            scale = (bn.running_var + bn.eps).rsqrt()
            scale = scale if bn.weight is None else scale * bn.weight
            shift = -bn.running_mean if bias is None else bias - bn.running_mean
            bias = shift * scale if bn.bias is None else shift * scale + bn.bias
            weight = weight * scale.view(-1, 1, 1, 1)
        self.layer.weight.copy_(weight)
        if self.layer.bias is not None:
            assert bias is not None
            self.layer.bias.copy_(bias)


class Twin:
    """What `attack_twin` returns: the module ``model``, and `refresh` to give it the weights of now."""

    def __init__(self, model: DefendedModel, x: Tensor, dtype: torch.dtype) -> None:
        original = model.network
        shared: dict[int, object] = {id(t): t for t in (*original.parameters(), *original.buffers())}
        network = copy.deepcopy(original, shared)
        self.model = model.around(network)
        pairs = dict(_foldable(self.model, x))
        self._links = [_link(m, pairs.get(m), dtype) for m in network.modules() if _castable(m)]
        gone = set(pairs.values())
        for module in network.modules():
            for name, child in module._modules.items():
                if child in gone:
                    module._modules[name] = nn.Identity()
        network.eval()
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the model's weights and statistics."""
        for link in self._links:
            link.refresh()


def attack_twin(model: DefendedModel, x: Tensor, in_precision: Callable[[nn.Module], nn.Module]) -> Twin | None:
    """A twin for attacks on ``model`` in bf16, or None where the network does not allow one.

    It is compared with the model on a few of ``x`` first, so a network that uses its convolutions in another way (a
    shortcut around a BatchNorm, say) is left as it is.

    Args:
        model: what is attacked.
        x: inputs (N, ...).
        in_precision: puts a module under bf16 autocast.
    """
    probe = x[:_PROBES]
    try:
        with seeded(0), evaluating(model), torch.no_grad():
            expected = model(probe)
        with keeping_random(), torch.no_grad():
            exact, twin = (Twin(model, probe, dtype) for dtype in (torch.float32, torch.bfloat16))
        with seeded(0), torch.no_grad():  # the draws of ``expected``, for a model that draws
            folded = exact.model(probe)
            in_precision(twin.model)(probe)
    except Exception:  # not copyable, a layer that wants float32, …: whatever stops a shortcut must not stop the run
        return None
    same = torch.allclose(folded, expected, rtol=0, atol=_TOLERANCE * max(1.0, float(expected.abs().max())))
    return twin if same else None


def _castable(module: nn.Module) -> TypeGuard[Layer]:
    """A plain layer with its own float32 weight; subclasses and parametrised layers compute theirs."""
    weight = module._parameters.get("weight") if type(module) in (nn.Conv2d, nn.Linear) else None
    return weight is not None and weight.dtype == torch.float32


def _link(layer: Layer, batchnorm: nn.BatchNorm2d | None, dtype: torch.dtype) -> _Link:
    link = _Link(layer, layer.weight, layer.bias, batchnorm)
    empty = torch.empty_like(layer.weight, dtype=dtype)
    layer.weight = nn.Parameter(empty, requires_grad=False)
    if link.bias is not None or batchnorm is not None:
        layer.bias = nn.Parameter(empty.new_empty(len(empty)), requires_grad=False)
    return link


def _foldable(model: DefendedModel, x: Tensor) -> Iterator[tuple[Layer, nn.BatchNorm2d]]:
    """Pairs of a convolution and the BatchNorm that alone reads its output, both used once and watched by no hook."""
    calls: dict[nn.Module, list[tuple[Tensor, Tensor]]] = {}

    def note(module: nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        calls.setdefault(module, []).append((args[0], out))

    plain = [m for m in model.network.modules() if not (m._forward_hooks or m._forward_pre_hooks)]
    convolutions = [m for m in plain if type(m) is nn.Conv2d and _castable(m)]
    norms = [m for m in plain if is_batchnorm2d(m) and m.running_mean is not None]
    hooks = [m.register_forward_hook(note) for m in (*convolutions, *norms)]
    try:
        with evaluating(model), torch.enable_grad():
            readers = _readers(model(x.detach().requires_grad_()))
    finally:
        for hook in hooks:
            hook.remove()
    outputs = {m: calls[m][0][1] for m in convolutions if len(calls.get(m, ())) == 1}
    made_by = {id(out): m for m, out in outputs.items() if readers[out.grad_fn] == 1}
    for norm in norms:
        if len(calls.get(norm, ())) == 1 and (convolution := made_by.get(id(calls[norm][0][0]))):
            yield convolution, norm


def _readers(out: Tensor) -> Counter[Any]:
    """How many operations of the graph behind ``out`` read the result of each."""
    root, count = out.grad_fn, Counter[Any]()
    todo = [root]
    while todo:
        for node, _ in getattr(todo.pop(), "next_functions", ()):
            count[node] += 1
            if node is not None and count[node] == 1:
                todo.append(node)
    return count
