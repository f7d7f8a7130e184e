"""TRADES (Zhang et al. 2019, https://arxiv.org/abs/1901.08573)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from art_ext.losses.base import Loss, register
from art_ext.scores import kl


def trades(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float = 6.0) -> Tensor:
    """CE(z, y) + β · mean_i KL(p_i ‖ p'_i); nothing is detached.

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64, or shares of the classes (N, C).
        beta: weight of the divergence; 6 in the paper.

    Example:
        >>> import torch
        >>> z, y = torch.zeros(2, 4), torch.tensor([0, 1])
        >>> round(trades(z, z, y).item(), 4)  # log 4
        1.3863
    """
    return F.cross_entropy(logits, y) + beta * kl(logits_adv, logits).mean()


@register("trades", "CE on x + β · KL(p ‖ p')", paper="https://arxiv.org/abs/1901.08573")
@dataclass(frozen=True, kw_only=True)
class TRADES(Loss):
    """CE(z, y) + β · KL(p ‖ p'); its attack maximises the same divergence from a Gaussian start.

    Args:
        beta: 6 (paper).
    """

    objective: ClassVar[str] = "kl"
    start: ClassVar[str] = "gaussian"
    forwards: ClassVar[str] = "separate"
    soft_labels: ClassVar[bool] = True
    beta: float = 6.0

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        return trades(logits, logits_adv, y, beta=self.beta)
