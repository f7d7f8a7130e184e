"""Soft quantization: a staircase with differentiable steps, its hard form, and what an attacker differentiates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from art_ext.bpda import straight_through
from art_ext.nn.ranges import check_count, check_temperature
from art_ext.nn.thresholds import uniform_thresholds

Surrogate = str | float
Thresholds = Tensor | NDArray[Any] | Sequence[Any]


class SoftQuantizer(nn.Module):
    """Q(x) = (S(x) − S(0)) / (S(1) − S(0)) with S(x) = Σ sigmoid((x − tᵢ) / T), a staircase from 0 to 1.

    Far from all thresholds a sharp staircase has a gradient of exactly 0 in float32: what looks like robustness there
    is masking. `attacked_through` gives an attacker something better.

    Args:
        levels: L ≥ 2, so L − 1 thresholds (our decision: 2 on grey images such as MNIST's, 4 to 8 on colour).
        temperature: T in (0, 100] on the [0, 1] scale; small is sharp.
        thresholds: (L − 1,) for all channels or (C, L − 1), ascending in (0, 1); None: (i − ½) / (L − 1).
        hard: exact steps, the limit T → 0; the gradient is then that of ``surrogate``, declared as ``bpda``.
        surrogate: ``"identity"``, or the temperature of a soft staircase.

    Raises:
        ValueError: an argument out of its range.

    References:
        https://arxiv.org/abs/1810.05665; the form of Q and the thresholds are our reading of it.

    Example:
        >>> x = torch.tensor([0.0, 0.2, 0.4, 0.6, 1.0])
        >>> SoftQuantizer(levels=2, temperature=0.1)(x)
        tensor([0.0000, 0.0413, 0.2658, 0.7342, 1.0000])
        >>> SoftQuantizer(levels=3, hard=True)(x)
        tensor([0.0000, 0.0000, 0.5000, 0.5000, 1.0000])
    """

    thresholds: Tensor

    def __init__(
        self,
        *,
        levels: int = 2,
        temperature: float = 0.1,
        thresholds: Thresholds | None = None,
        hard: bool = False,
        surrogate: Surrogate = "identity",
    ) -> None:
        super().__init__()
        check_count(2, levels=levels)
        check_temperature(temperature=temperature)
        _check_surrogate(surrogate)
        self.levels, self.temperature, self.hard, self.surrogate = int(levels), float(temperature), hard, surrogate
        self.attacked: Surrogate | None = None
        given = uniform_thresholds(self.levels) if thresholds is None else _as_thresholds(thresholds, self.levels)
        self.register_buffer("thresholds", given)

    @property
    def bpda(self) -> str | None:
        """What stands in for the gradient of the hard steps; None for soft ones."""
        if not self.hard:
            return None
        return "identity" if self.surrogate == "identity" else f"temperature {self.surrogate:g}"

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, ...) in [0, 1], or (N, C, ...) where each channel has its thresholds; of the same precision."""
        stand_in = self.attacked if self.attacked is not None else self.surrogate if self.hard else None
        exact = hard_levels(x, self.thresholds) if self.hard else soft_levels(x, self.thresholds, self.temperature)
        if stand_in is None:
            return exact
        return straight_through(exact, x if isinstance(stand_in, str) else soft_levels(x, self.thresholds, stand_in))

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        kind = f"hard=True, surrogate={self.surrogate!r}" if self.hard else f"temperature={self.temperature:g}"
        return f"levels={self.levels}, {kind}"


def soft_levels(x: Tensor, thresholds: Tensor, temperature: float) -> Tensor:
    """The staircase of `SoftQuantizer`, differentiable in ``x``.

    Args:
        x: (N, ...) in [0, 1].
        thresholds: (L − 1,), or (C, L − 1) for ``x`` (N, C, ...).
        temperature: T > 0.

    Example:
        >>> soft_levels(torch.tensor([0.0, 0.5, 1.0]), torch.tensor([0.5]), 0.1)
        tensor([0.0000, 0.5000, 1.0000])
    """
    each = _each(thresholds, x)
    low, high = (_rise(torch.full_like(each[0], end), each, temperature) for end in (0.0, 1.0))
    return (_rise(x, each, temperature) - low) / (high - low)


def hard_levels(x: Tensor, thresholds: Tensor) -> Tensor:
    """The share of the thresholds below each element: the limit of `soft_levels` for T → 0, without a gradient.

    Example:
        >>> hard_levels(torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.25, 0.75]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    each = _each(thresholds, x)
    total = torch.zeros_like(x, requires_grad=False)
    for threshold in each:
        total += x > threshold
    return total / len(each)


@contextmanager
def attacked_through(model: nn.Module, surrogate: Surrogate) -> Iterator[list[SoftQuantizer]]:
    """Inside, the soft quantizers of ``model`` keep their values and have the gradient of ``surrogate``.

    Args:
        model: a module with some quantizers in it; they are what the block is given.
        surrogate: ``"identity"``, or a temperature.

    Example:
        >>> x = torch.zeros(1, requires_grad=True)
        >>> quantizer = SoftQuantizer(temperature=0.001)
        >>> torch.autograd.grad(quantizer(x).sum(), x)[0].item()
        0.0
        >>> with attacked_through(quantizer, "identity"):
        ...     torch.autograd.grad(quantizer(x).sum(), x)[0].item()
        1.0
    """
    _check_surrogate(surrogate)
    found = [part for part in model.modules() if isinstance(part, SoftQuantizer)]
    before = [part.attacked for part in found]
    try:
        for part in found:
            part.attacked = surrogate
        yield found
    finally:
        for part, was in zip(found, before, strict=True):
            part.attacked = was


def _rise(x: Tensor, thresholds: list[Tensor], temperature: float) -> Tensor:
    total = torch.sigmoid((x - thresholds[0]) / temperature)
    for threshold in thresholds[1:]:
        total = total + torch.sigmoid((x - threshold) / temperature)
    return total


def _each(thresholds: Tensor, x: Tensor) -> list[Tensor]:
    """The thresholds one by one, in ``x``'s precision and ready to be compared with it."""
    if thresholds.ndim == 1:
        return list(thresholds.to(x).unbind())
    if x.ndim < 2 or x.shape[1] != len(thresholds):
        raise ValueError(f"x must be (N, {len(thresholds)}, ...), as thresholds have; got {tuple(x.shape)}")
    return [t.view(-1, *(1,) * (x.ndim - 2)) for t in thresholds.to(x).unbind(1)]


def _check_surrogate(surrogate: Any) -> None:
    if isinstance(surrogate, str):
        if surrogate != "identity":
            raise ValueError(f"surrogate must be 'identity' or a temperature in (0, 100]; got {surrogate!r}")
    else:
        check_temperature(surrogate=surrogate)


def _as_thresholds(thresholds: Thresholds, levels: int) -> Tensor:
    try:
        given = torch.as_tensor(thresholds, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        told = f"({levels - 1},) or (C, {levels - 1}) numbers for {levels} levels, or None"
        raise ValueError(f"thresholds must be {told}; got {thresholds!r}") from None
    if given.ndim not in (1, 2) or given.shape[-1] != levels - 1:
        shape = tuple(given.shape)
        raise ValueError(f"thresholds must be ({levels - 1},) or (C, {levels - 1}) for {levels} levels; got {shape}")
    inside = ((given > 0) & (given < 1)).all() & (given.diff(dim=-1) > 0).all()
    if not bool(inside):
        raise ValueError(f"thresholds must ascend strictly within (0, 1); got {given.tolist()}")
    return given
