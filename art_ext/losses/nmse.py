"""Normalised mean square error (PIAT, https://arxiv.org/abs/2511.00836)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from art_ext.losses.base import Loss, register
from art_ext.scores import belief


def nmse(logits: Tensor, logits_adv: Tensor, y: Tensor) -> Tensor:
    """mean_i (1 − p_{i,y}) · ‖ z'_i/‖z'_i‖₂ − z_i/‖z_i‖₂ ‖₂², with p the clean probability.

    The weight is taken from the clean prediction and carries gradient, the sum runs over classes and the mean over
    the batch, as in a third party's implementation (the paper leaves it open). Norms are bounded below by 1e-12.

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64, or shares of the classes (N, C), whose p_y is Σ_c y_c p_c (ours).

    Returns:
        A scalar in [0, 4].

    Example:
        >>> import torch
        >>> z = torch.tensor([[3.0, 0.0]])
        >>> nmse(z, 2 * z, torch.tensor([0])).item()  # only the direction counts
        0.0
    """
    weight = 1 - belief(logits.softmax(1), y)
    distance = F.normalize(logits_adv, dim=1) - F.normalize(logits, dim=1)
    return (weight * distance.square().sum(1)).mean()


@register("nmse", "CE on x' + μ · NMSE between the normalised logits", paper="https://arxiv.org/abs/2511.00836")
@dataclass(frozen=True, kw_only=True)
class NMSE(Loss):
    """CE(z', y) + μ · NMSE(z, z', y).

    Args:
        mu: weight of the regulariser; 4 is a third party's value (the paper finds the result stable in μ).
        ce_on: ``"adv"`` (paper) or ``"clean"`` (a third party's variant).
    """

    forwards: ClassVar[str] = "joint"
    soft_labels: ClassVar[bool] = True
    mu: float = 4.0
    ce_on: str = "adv"

    def __post_init__(self) -> None:
        """Refuse an unknown ``ce_on``."""
        if self.ce_on not in ("adv", "clean"):
            raise ValueError(f"ce_on must be 'adv' or 'clean'; got {self.ce_on!r}")

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        ce = F.cross_entropy(logits_adv if self.ce_on == "adv" else logits, y)
        return ce + self.mu * nmse(logits, logits_adv, y)
