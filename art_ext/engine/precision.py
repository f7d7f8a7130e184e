"""Number formats, memory layout and compilation of a model, decided once per run."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

PRECISIONS = ("auto", "fp32", "bf16")
_CPU_BF16 = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; emulation does not count, it is slower than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and any(capabilities.get(name) for name in _CPU_BF16)


def resolve_precision(precision: str, device: torch.device) -> str:
    """``"fp32"`` or ``"bf16"``; ``"auto"`` is bf16 where the hardware has it.

    Raises:
        ValueError: unknown precision.

    Example:
        >>> resolve_precision("fp32", torch.device("cpu"))
        'fp32'
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}")
    return ("bf16" if has_bf16(device) else "fp32") if precision == "auto" else precision


class InPrecision(nn.Module):
    """A model whose forward runs under bf16 autocast, or not, and whose logits are float32 in either case.

    On a CPU in bf16, attention is made of plain matrix products: the backward of the fused kernel takes longer there
    than all the rest of a small vision transformer.
    """

    def __init__(self, model: nn.Module, device: torch.device, precision: str) -> None:
        super().__init__()
        self.model, self.device_type, self.enabled = model, device.type, precision == "bf16"
        self.plain_attention = self.enabled and device.type == "cpu"
        self.training = model.training

    def forward(self, x: Tensor, *more: Any) -> Any:
        """Logits (N, C), float32; of a model that returns several tensors by name, all of them."""
        attention = sdpa_kernel(SDPBackend.MATH) if self.plain_attention else nullcontext()
        with torch.autocast(self.device_type, torch.bfloat16, enabled=self.enabled), attention:
            out = self.model(x, *more)
        return out.float() if isinstance(out, Tensor) else type(out)(*(part.float() for part in out))


class Compiled(nn.Module):
    """`torch.compile` for full batches, the eager model for the others, and for all once compilation has failed.

    A full batch may be doubled, clean and adversarial inputs in one forward. Batches of another size (the last one,
    validation) would cost a recompilation each.

    Args:
        model: what is compiled.
        sizes: rows of a full batch, or of the parts of it that go through this process's model.
    """

    def __init__(self, model: nn.Module, sizes: Iterable[int]) -> None:
        super().__init__()
        self.eager, self.sizes = model, frozenset(times * size for size in sizes for times in (1, 2))
        self._fast: Any = torch.compile(model, dynamic=False)
        self.rests = False
        self.training = model.training

    def forward(self, x: Tensor, *more: Any) -> Any:
        """As the eager model."""
        if self._fast is None or self.rests or len(x) not in self.sizes:
            return self.eager(x, *more)
        try:
            return self._fast(x, *more)
        except Exception as error:  # the compiler has no common base class; the eager model raises what is ours
            warnings.warn(f"torch.compile failed, going on without it: {_first_line(error)}", stacklevel=2)
            self._fast = None
            return self.eager(x, *more)


@contextmanager
def eager(model: nn.Module) -> Iterator[None]:
    """Every `Compiled` in ``model`` calls its eager model meanwhile: a compiled one does not see hooks added later."""
    compiled = [m for m in model.modules() if isinstance(m, Compiled)]
    before = [m.rests for m in compiled]
    try:
        for m in compiled:
            m.rests = True
        yield
    finally:
        for m, rested in zip(compiled, before, strict=True):
            m.rests = rested


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"


def to_memory_format(model: nn.Module, channels_last: bool) -> None:
    """Lay the 4-D weights of ``model`` out in place; values and identities of its tensors do not change."""
    model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
