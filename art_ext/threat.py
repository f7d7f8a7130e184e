"""The threat model: which perturbations the attacker may use, and the geometry that follows from it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np
import torch
from torch import Tensor

from art_ext.processes import drawn_like

NORMS = ("linf", "l2")
_ALIASES = {"linf": "linf", "inf": "linf", "l_inf": "linf", "l2": "l2", "l_2": "l2", "2": "l2"}


def per_example(values: Tensor, like: Tensor) -> Tensor:
    """View ``values`` of shape (N,) so that it broadcasts over ``like`` of shape (N, ...).

    Example:
        >>> per_example(torch.ones(4), torch.zeros(4, 3, 8, 8)).shape
        torch.Size([4, 1, 1, 1])
    """
    return values.view(-1, *(1,) * (like.ndim - 1))


def _rows(x: Tensor) -> Tensor:
    return x.flatten(1) if x.ndim > 1 else x[:, None]


def _l2_norms(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(_rows(x), dim=1)


def _divisors(x: Tensor) -> Tensor:
    """ℓ2 norms, bounded below where the squares would underflow: an example of zeros is divided by no zero."""
    return per_example(_l2_norms(x).clamp_(min=torch.finfo(x.dtype).tiny ** 0.5), x)


@dataclass(frozen=True, eq=False)
class ThreatModel:
    """An ℓ∞ or ℓ2 ball of radius ε around each example, cut by the range of valid inputs.

    Args:
        norm: ``"linf"`` or ``"l2"``; ART's spellings ``np.inf``, ``"inf"`` and ``2`` are understood.
        eps: radius on the scale of the inputs (images: the [0, 1] scale, so ``8/255``); one number for all examples,
            or one per example, shape (N,). Must be positive and finite.
        clip: lowest and highest valid input value, or None where inputs are not bounded (points in a plane).

    Raises:
        ValueError: unknown norm, ε ≤ 0, infinite or NaN, or an empty clip range.

    Example:
        >>> threat = ThreatModel("linf", 8 / 255)
        >>> x = torch.zeros(2, 3, 4, 4)
        >>> threat.project(x + 1.0, x).max().item() == torch.tensor(8 / 255).item()
        True
    """

    norm: str
    eps: float | Tensor
    clip: tuple[float, float] | None = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Normalise the spellings and refuse what cannot be a threat model."""
        object.__setattr__(self, "norm", _canonical_norm(self.norm))
        object.__setattr__(self, "eps", _canonical_eps(self.eps))
        if self.clip is not None:
            low, high = (float(v) for v in self.clip)
            if not low < high:
                raise ValueError(f"clip must be (low, high) with low < high, or None; got {self.clip!r}")
            object.__setattr__(self, "clip", (low, high))

    def __str__(self) -> str:
        """``ℓ∞ ε=0.0314`` — short enough for the head of a table."""
        ball = "ℓ∞" if self.norm == "linf" else "ℓ2"
        return f"{ball} ε={self.eps:.4g}" if isinstance(self.eps, float) else f"{ball} ε per example"

    def select(self, index: Tensor) -> ThreatModel:
        """The threat model of the examples ``index`` (indices or mask); ``self`` where ε is one number."""
        return self if isinstance(self.eps, float) else self.with_eps(self.eps[index.to(self.eps.device)])

    def with_eps(self, eps: float | Sequence[float] | Tensor, *, check: bool = True) -> ThreatModel:
        """The same norm and range with another radius; without ``check`` a tensor (N,) is taken as it is.

        To look at the values of a tensor is to wait for its device: not in the middle of a training.
        """
        if check or not isinstance(eps, Tensor):
            return ThreatModel(self.norm, eps, self.clip)  # type: ignore[arg-type]  # __post_init__ takes sequences
        other = copy.copy(self)
        object.__setattr__(other, "eps", eps)
        return other

    def radius(self, x: Tensor) -> float | Tensor:
        """ε as a number, or as a tensor that broadcasts over ``x`` (N, ...).

        Raises:
            ValueError: ε was given per example and not for as many examples as ``x`` has.
        """
        if isinstance(self.eps, float):
            return self.eps
        if len(self.eps) != len(x):
            raise ValueError(
                f"eps has {len(self.eps)} values for {len(x)} examples; give one number or one per example"
            )
        return per_example(self.eps.to(x), x)

    def bounds(self, x: Tensor) -> tuple[Tensor, Tensor] | None:
        """Elementwise lowest and highest allowed values around ``x``; None where nothing bounds single elements."""
        eps = self.radius(x) if self.norm == "linf" else inf
        low, high = self.clip or (-inf, inf)
        if self.norm != "linf" and self.clip is None:
            return None
        return (x - eps).clamp_(min=low), (x + eps).clamp_(max=high)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The point of the ball around ``x``, and of the valid range, that belongs to ``x_adv`` (a new tensor)."""
        return self.project_(x_adv.clone(), x, self.bounds(x))

    def project_(self, x_adv: Tensor, x: Tensor, bounds: tuple[Tensor, Tensor] | None) -> Tensor:
        """As `project`, in place and with the ``bounds(x)`` of an earlier call: what a loop wants."""
        if self.norm == "l2":
            delta = x_adv - x
            scale = (self.radius(x) / _divisors(delta)).clamp(max=1.0)
            torch.addcmul(x, delta, scale, out=x_adv)
        return x_adv if bounds is None else torch.clamp(x_adv, *bounds, out=x_adv)

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A point drawn uniformly from the ball around ``x``, cut to the valid range."""
        eps = self.radius(x)
        if self.norm == "linf":
            delta = drawn_like(x, lambda t: t.uniform_(-1, 1, generator=generator), generator).mul_(eps)
        else:
            delta = drawn_like(x, lambda t: t.normal_(generator=generator), generator)
            # a direction uniform on the sphere at radius u^(1/d): uniform in the volume of the ball
            u = drawn_like(x.new_empty(len(x)), lambda t: t.uniform_(generator=generator), generator)
            u.pow_(1 / x.shape[1:].numel())
            delta.mul_(per_example(u, x) / _divisors(delta) * eps)
        x_adv = delta.add_(x)
        return x_adv if self.clip is None else x_adv.clamp_(*self.clip)

    def steepest(self, grad: Tensor) -> Tensor:
        """The unit step that raises a linear function most: the sign (ℓ∞), the gradient over its norm (ℓ2)."""
        if self.norm == "linf":
            return grad.sign()
        return grad / _divisors(grad)

    def distance(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Size of each perturbation in this norm, shape (N,)."""
        delta = x_adv - x
        return _rows(delta).abs().amax(1) if self.norm == "linf" else _l2_norms(delta)


def _canonical_norm(norm: Any) -> str:
    key = str(norm).lower().replace("∞", "inf").replace("ℓ", "l").removesuffix(".0")
    if key not in _ALIASES:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}")
    return _ALIASES[key]


def _canonical_eps(eps: Any) -> float | Tensor:
    if isinstance(eps, Tensor | np.ndarray | list | tuple):
        values = torch.as_tensor(eps, dtype=torch.float32)
        if values.ndim > 0:
            if values.ndim != 1 or not bool(((values > 0) & values.isfinite()).all()):
                raise ValueError(f"eps per example must be a vector of positive, finite numbers; got {values}")
            return values
        eps = values.item()
    if not 0 < float(eps) < inf:
        raise ValueError(f"eps must be > 0 and finite (on the scale of the inputs, e.g. 8/255); got {eps!r}")
    return float(eps)
