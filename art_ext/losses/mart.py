"""MART, misclassification-aware adversarial training (Wang et al. 2020, https://openreview.net/forum?id=rklOg6EFwS)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from art_ext.losses.base import Loss, register


def boosted_ce(logits_adv: Tensor, y: Tensor) -> Tensor:
    """−log p'_y − log(1.0001 − max_{k≠y} p'_k + 1e-12) per example, (N,)."""
    log_p = logits_adv.log_softmax(1)
    wrong = log_p.exp().scatter(1, y[:, None], 0.0).amax(1)
    return -log_p.gather(1, y[:, None]).squeeze(1) - (1.0001 - wrong + 1e-12).log()


def weighted_kl(logits: Tensor, logits_adv: Tensor, y: Tensor) -> Tensor:
    """(1.0000001 − p_y) · Σ_k p_k (log p_k − log(p'_k + 1e-12)) per example, (N,)."""
    log_p = logits.log_softmax(1)
    p = log_p.exp()
    divergence = (p * (log_p - (logits_adv.softmax(1) + 1e-12).log())).sum(1)
    return (1.0000001 - p.gather(1, y[:, None]).squeeze(1)) * divergence


def mart(logits: Tensor, logits_adv: Tensor, y: Tensor, *, beta: float = 5.0) -> Tensor:
    """Mean boosted cross entropy on x' + β · mean of the KL weighted by the clean error; nothing is detached.

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64.
        beta: 5 for ResNets, 6 for wide ResNets (authors' code).

    Example:
        >>> import torch
        >>> z, y = torch.zeros(2, 2), torch.tensor([0, 1])
        >>> round(mart(z, z, y).item(), 3)  # 2 log 2, less the 0.0001
        1.386
    """
    return boosted_ce(logits_adv, y).mean() + beta * weighted_kl(logits, logits_adv, y).mean()


@register("mart", "boosted CE on x' + β · KL weighted by 1 − p_y", paper="https://openreview.net/forum?id=rklOg6EFwS")
@dataclass(frozen=True, kw_only=True)
class MART(Loss):
    """Boosted CE + β · weighted KL.

    Args:
        beta: 5 (authors' code, ResNet-18; 6 for wide ResNets).
    """

    forwards: ClassVar[str] = "separate"
    beta: float = 5.0

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        return mart(logits, logits_adv, y, beta=self.beta)
