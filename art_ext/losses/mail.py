"""MAIL, margin-aware instance reweighting (Liu et al. 2021, https://arxiv.org/abs/2106.07904), in its three forms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from art_ext.losses.base import Loss, register
from art_ext.losses.mart import boosted_ce, weighted_kl
from art_ext.scores import kl, margin

PAPER = "https://arxiv.org/abs/2106.07904"


def margin_weights(logits_adv: Tensor, y: Tensor, *, slope: float, bias: float, normalise: bool = False) -> Tensor:
    """3 · sigmoid(slope · (max_{k≠y} p'_k − p'_y + bias)), detached, (N,); with ``normalise``, of mean 1."""
    weights = 3 * (slope * (margin(logits_adv.detach().softmax(1), y) + bias)).sigmoid()
    return weights / weights.mean() if normalise else weights


def mail(logits_adv: Tensor, y: Tensor, *, slope: float = 10.0, bias: float = -0.5, normalise: bool = False) -> Tensor:
    """MAIL-AT: mean_i ω_i · CE(z'_i, y_i), the weight growing as the adversarial margin shrinks.

    Args:
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64.
        slope: 10 (authors' code).
        bias: −0.5 (authors' code).
        normalise: divide the weights by their mean (the paper's text; the code does not).

    Example:
        >>> import torch
        >>> z, y = torch.zeros(1, 2), torch.tensor([0])
        >>> round(mail(z, y, slope=10.0, bias=0.0).item(), 4)  # 3/2 · log 2
        1.0397
    """
    weights = margin_weights(logits_adv, y, slope=slope, bias=bias, normalise=normalise)
    return (weights * F.cross_entropy(logits_adv, y, reduction="none")).mean()


@dataclass(frozen=True, kw_only=True)
class _Reweighted(Loss):
    slope: float = 10.0
    bias: float = -0.5
    normalise: bool = False
    burn_in: float = 0.625  # share of the epochs with all weights 1: 75 of 120 in the authors' code

    def weights(self, logits_adv: Tensor, y: Tensor, progress: float) -> Tensor:
        if progress < self.burn_in:
            return logits_adv.new_ones(len(y))
        return margin_weights(logits_adv, y, slope=self.slope, bias=self.bias, normalise=self.normalise)


@register("mail", "CE on x', reweighted by the adversarial margin (MAIL-AT)", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class MAIL(_Reweighted):
    """Mean ω · CE(z', y).

    Args:
        slope: 10, bias: −0.5, burn_in: 0.625 of the epochs (authors' code); normalise: the paper's text, off.
    """

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        return (self.weights(logits_adv, y, progress) * F.cross_entropy(logits_adv, y, reduction="none")).mean()


@register("mail-trades", "TRADES with its KL reweighted by the adversarial margin", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class MAILTRADES(_Reweighted):
    """CE(z, y) + β · mean ω · KL(p ‖ p').

    Args:
        beta: 5, slope: 2, bias: 0, burn_in: 0.625 of the epochs (authors' code); normalise: as MAIL-AT.
    """

    objective: ClassVar[str] = "kl"
    start: ClassVar[str] = "gaussian"
    forwards: ClassVar[str] = "separate"
    slope: float = 2.0
    bias: float = 0.0
    beta: float = 5.0

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        divergence = self.weights(logits_adv, y, progress) * kl(logits_adv, logits)
        return F.cross_entropy(logits, y) + self.beta * divergence.mean()


@register("mail-mart", "MART with its CE reweighted by the adversarial margin", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class MAILMART(_Reweighted):
    """Mean ω · boosted CE + β · the unweighted KL term of MART.

    Args:
        beta: 5 and slope, bias, burn_in, normalise as MAIL-AT (authors' code).
    """

    forwards: ClassVar[str] = "separate"
    beta: float = 5.0

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        boosted = (self.weights(logits_adv, y, progress) * boosted_ce(logits_adv, y)).mean()
        return boosted + self.beta * weighted_kl(logits, logits_adv, y).mean()
