"""PGD adversarial training (Madry et al. 2018, https://arxiv.org/abs/1706.06083)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from art_ext.losses.base import Loss, register


@register("pgd-at", "cross entropy on the adversarial inputs", paper="https://arxiv.org/abs/1706.06083")
@dataclass(frozen=True, kw_only=True)
class PGDAT(Loss):
    """CE(z', y).

    Args:
        label_smoothing: in [0, 1); default 0 (paper).
    """

    soft_labels: ClassVar[bool] = True
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        return F.cross_entropy(logits_adv, y, label_smoothing=self.label_smoothing)
