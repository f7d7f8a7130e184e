"""BatchNorm over the batch of all processes, so that training does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeGuard, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Sum(torch.autograd.Function):
    """The sum of the processes' tensors; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return cast(Tensor, _Sum.apply(gradients[0]))


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)
    return total


class _AcrossProcesses(_BatchNorm):
    """Statistics over all processes on any device; torch's own `SyncBatchNorm` works on accelerators only."""

    def forward(self, x: Tensor) -> Tensor:
        """As the BatchNorm it was, with the mean and variance of all processes' rows in train mode."""
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        values, axes = x.float(), [axis for axis in range(x.ndim) if axis != 1]
        count = _sum(values.new_tensor(values.numel() / values.shape[1]))
        mean = _sum(values.sum(axes)) / count
        centred = values - _along_channels(mean, x)
        variance = _sum(centred.square().sum(axes)) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1))
        out = centred * _along_channels((variance + self.eps).rsqrt(), x)
        if self.affine:
            out = out * _along_channels(self.weight, x) + _along_channels(self.bias, x)
        return out.to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        momentum = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (x.ndim - 2))


def is_batchnorm2d(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether it is torch's own `BatchNorm2d`, or was before `batchnorm_across_processes`."""
    return getattr(module, "plain", type(module)) is nn.BatchNorm2d


class _ThenActs:
    """What timm's `BatchNormAct2d` does in the same forward, after the normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalisation of the next class, dropout, activation."""
        layer = cast(Any, self)
        out: Tensor = layer.act(layer.drop(cast(Any, super()).forward(x)))
        return out


def _across(kind: type[_BatchNorm], device: torch.device) -> type[_BatchNorm]:
    """The class that does what ``kind`` does, with statistics over all processes.

    Raises:
        ValueError: it has a forward that is neither torch's nor timm's: what that does would be lost.
    """
    added: dict[str, Any] = {"plain": kind, "process_group": None, "_check_input_dim": kind._check_input_dim}
    base = nn.SyncBatchNorm if device.type == "cuda" else _AcrossProcesses
    bases = (_ThenActs, base) if _acts(kind) else (base,)
    if not _acts(kind) and kind.forward is not _BatchNorm.forward:
        raise ValueError(
            f"sync_batchnorm=True cannot replace {kind.__name__}, which has a forward of its own; "
            "set sync_batchnorm=False"
        )
    return type(f"{kind.__name__}AcrossProcesses", bases, added)


def _acts(kind: type[_BatchNorm]) -> bool:
    """Whether its forward is that of timm's `BatchNormAct2d`; by name, as timm is imported only where it is used."""
    home = kind.forward.__qualname__, (kind.forward.__module__ or "").partition(".")[0]
    return home == ("BatchNormAct2d.forward", "timm")


@contextmanager
def batchnorm_across_processes(network: nn.Module, enabled: bool) -> Iterator[None]:
    """Let BatchNorm layers see the batch of all processes until the block ends; the layers stay the same objects."""
    layers = [m for m in network.modules() if isinstance(m, _BatchNorm) and enabled]
    before = [type(m) for m in layers]
    try:
        for m in layers:
            if not isinstance(m, nn.SyncBatchNorm):
                m.__class__ = _across(type(m), next(m.buffers(), torch.empty(0)).device)
        yield
    finally:
        for m, kind in zip(layers, before, strict=True):
            m.__class__ = kind
