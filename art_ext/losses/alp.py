"""Adversarial logit pairing (Kannan et al. 2018, https://arxiv.org/abs/1803.06373)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from art_ext.losses.base import Loss, register


def alp(logits: Tensor, logits_adv: Tensor) -> Tensor:
    """Mean over batch and classes of (z − z')².

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).

    Example:
        >>> import torch
        >>> alp(torch.zeros(2, 4), torch.ones(2, 4)).item()
        1.0
    """
    return F.mse_loss(logits_adv, logits)


@register(
    "alp", "CE on clean and adversarial inputs + w · squared logit difference", paper="https://arxiv.org/abs/1803.06373"
)
@dataclass(frozen=True, kw_only=True)
class ALP(Loss):
    """Mean of CE over [clean; adversarial] + w · mean (z − z')².

    Args:
        weight: w, 0.5 in the authors' code.
        ce_on: ``"both"`` (authors' code) or ``"adv"`` (the baseline of the PIAT paper: CE on x', and the squared norm
            summed over classes).
    """

    forwards: ClassVar[str] = "joint"
    soft_labels: ClassVar[bool] = True
    weight: float = 0.5
    ce_on: str = "both"

    def __post_init__(self) -> None:
        """Refuse an unknown ``ce_on``."""
        if self.ce_on not in ("both", "adv"):
            raise ValueError(f"ce_on must be 'both' or 'adv'; got {self.ce_on!r}")

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        ce_adv, pairing = F.cross_entropy(logits_adv, y), alp(logits, logits_adv)
        if self.ce_on == "adv":
            return ce_adv + self.weight * logits.shape[1] * pairing
        return (F.cross_entropy(logits, y) + ce_adv) / 2 + self.weight * pairing
