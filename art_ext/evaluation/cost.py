"""What an attack costs: seconds, and images passed forward and backward through the network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn


@dataclass
class Cost:
    """Seconds, and how many examples went forward and backward through the network (a batch of 128 counts 128)."""

    seconds: float = 0.0
    forwards: int = 0
    backwards: int = 0


@contextmanager
def counting(module: nn.Module, cost: Cost | None = None, *, also: Sequence[nn.Module] = ()) -> Iterator[Cost]:
    """Count what passes through ``module`` inside the block, whoever calls it: native, ART's or adapted attacks.

    A forward hook counts the rows of each output and hangs a gradient hook on it; values and gradients are untouched,
    and the module has no hook left afterwards. ART calls the children of an `nn.Sequential` one by one, so there the
    last child is watched. Passes of a copy of the module are seen only where ``also`` names it.

    Args:
        module: the network, e.g. ``classifier.model``.
        cost: add to this one instead of starting at zero.
        also: copies of the network whose passes count too.

    Yields:
        The `Cost`, whose seconds are complete when the block ends.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> with counting(net) as cost:
        ...     _ = torch.autograd.grad(net(torch.rand(8, 4)).sum(), net.weight)
        >>> cost.forwards, cost.backwards
        (8, 8)
    """
    cost = Cost() if cost is None else cost
    handles = [_exit_of(m).register_forward_hook(_hook(cost)) for m in (module, *also)]
    start = perf_counter()
    try:
        yield cost
        _synchronize(module)
    finally:
        for handle in handles:
            handle.remove()
        cost.seconds += perf_counter() - start


def _exit_of(module: nn.Module) -> nn.Module:
    return module[-1] if isinstance(module, nn.Sequential) and len(module) else module


def _hook(cost: Cost) -> Any:
    def count_backward(grad: Tensor) -> None:
        cost.backwards += len(grad)

    def count_forward(_module: nn.Module, _args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        cost.forwards += len(output)
        # a hook on the tensor, not an identity Function around it: callers may still write into their logits
        if output.requires_grad:
            output.register_hook(count_backward)

    return count_forward


def _synchronize(module: nn.Module) -> None:
    tensor = next(module.parameters(), None)
    if tensor is not None and tensor.device.type == "cuda":  # pragma: no cover
        torch.cuda.synchronize(tensor.device)
