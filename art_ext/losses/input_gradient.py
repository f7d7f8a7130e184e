"""Cross entropy and the ℓ1 norm of its gradient with respect to the input (https://arxiv.org/abs/1810.05665)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from numbers import Real
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from art_ext.losses.base import Loss, LossOutput


def input_gradient_l1(losses: Tensor, x: Tensor) -> Tensor:
    """mean_i ‖∇_{x_i} L_i‖₁, which can be differentiated once more (double backward).

    To first order, ε times this is what an ℓ∞ attacker of radius ε adds to the loss.

    Args:
        losses: L, (N,), made of ``x`` by operations that know their second derivative.
        x: (N, ...), requires grad.

    Returns:
        A scalar.

    Example:
        >>> x = torch.ones(2, 3, requires_grad=True)
        >>> input_gradient_l1(x.square().sum(1), x).item()
        6.0
    """
    (gradient,) = torch.autograd.grad(losses.sum(), x, create_graph=True)
    return gradient.float().abs().flatten(1).sum(1).mean()


@dataclass(frozen=True, kw_only=True)
class NoisyCE(Loss):
    """CE(f(x'), y) + λ · mean ‖∇_{x'} CE(f(x'), y)‖₁, with x' as the trainer's noise has made it.

    Not in the registry: it is no loss of adversarial training, `art_ext.NoisyTrainer` uses it.

    Args:
        gradient_penalty: λ ≥ 0; at 0 the gradient is not computed.

    Raises:
        ValueError: λ negative, infinite, or no number.
    """

    name: ClassVar[str] = "noisy-ce"
    description: ClassVar[str] = "CE on noisy inputs + λ · ℓ1 norm of its input gradient"
    paper: ClassVar[str] = "https://arxiv.org/abs/1810.05665"
    gradient_penalty: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a weight that is none."""
        value: object = self.gradient_penalty
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) < inf:
            raise ValueError(f"gradient_penalty must be a finite number ≥ 0; got {value!r}")

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """The cross entropy alone."""
        return F.cross_entropy(logits_adv, y)

    def compute(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> LossOutput:
        """One forward; with the penalty, its value is among the figures as ``gradient_l1``."""
        if not self.gradient_penalty:
            return super().compute(model, x, x_adv, y, progress=progress)
        leaf = x_adv.detach().requires_grad_(True)
        with sdpa_kernel(SDPBackend.MATH):  # the fused attention kernels have no second derivative
            logits = model(leaf)
            losses = F.cross_entropy(logits, y, reduction="none")
            penalty = input_gradient_l1(losses, leaf)
        ce = losses.mean()
        figures = {"cross_entropy": ce.detach(), "gradient_l1": penalty.detach()}
        return LossOutput(ce + self.gradient_penalty * penalty, logits, figures)
