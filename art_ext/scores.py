"""Scores of logits, one number per example: what attacks maximise and losses are made of."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def ce(logits: Tensor, y: Tensor) -> Tensor:
    """Cross entropy (PGD, FGSM)."""
    return F.cross_entropy(logits, y, reduction="none")


def kl(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(p_clean ‖ p_adv) from the clean logits ``reference`` (TRADES)."""
    return F.kl_div(logits.log_softmax(1), reference.log_softmax(1), reduction="none", log_target=True).sum(1)


def hard(y: Tensor) -> Tensor:
    """Labels (N,): ``y`` itself, or the largest share of each row of (N, C), as mixed images have them.

    Example:
        >>> import torch
        >>> hard(torch.tensor([[0.3, 0.7], [0.9, 0.1]])), hard(torch.tensor([1, 0]))
        (tensor([1, 0]), tensor([1, 0]))
    """
    return y if y.ndim == 1 else y.argmax(1)


def belief(p: Tensor, y: Tensor) -> Tensor:
    """p_y for each row of ``p`` (N, C), (N,); for shares (N, C) as labels, Σ_c y_c p_c.

    Example:
        >>> import torch
        >>> p = torch.tensor([[0.25, 0.75]])
        >>> belief(p, torch.tensor([1])).item(), belief(p, torch.tensor([[0.5, 0.5]])).item()
        (0.75, 0.5)
    """
    return p.gather(1, y[:, None]).squeeze(1) if y.ndim == 1 else (p * y).sum(1)


def _best_other(logits: Tensor, y: Tensor) -> Tensor:
    return logits.scatter(1, y[:, None], float("-inf")).amax(1)


def _of_class(logits: Tensor, y: Tensor) -> Tensor:
    return logits.gather(1, y[:, None]).squeeze(1)


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the true one (Carlini & Wagner 2017 without confidence): positive exactly when fooled."""
    return _best_other(logits, y) - _of_class(logits, y)


def dlr(logits: Tensor, y: Tensor) -> Tensor:
    """Difference of logits ratio (Croce & Hein 2020): the margin over z₁ − z₃, invariant to shift and scale.

    Raises:
        ValueError: fewer than three classes, for which the ratio is not defined.
    """
    if logits.shape[1] < 3:
        raise ValueError(f"objective 'dlr' needs at least 3 classes; the model has {logits.shape[1]}; use 'margin'")
    top = logits.topk(3, dim=1).values
    return margin(logits, y) / (top[:, 0] - top[:, 2]).clamp(min=1e-12)


def dlr_targeted(logits: Tensor, pair: Tensor) -> Tensor:
    """Targeted difference of logits ratio (Croce & Hein 2020), towards the class ``pair[:, 1]``.

    Args:
        logits: (N, C).
        pair: true label and target class, (N, 2) int64.

    Raises:
        ValueError: fewer than four classes, for which the ratio is not defined.
    """
    if logits.shape[1] < 4:
        raise ValueError(f"the targeted DLR needs at least 4 classes; the model has {logits.shape[1]}")
    top = logits.topk(4, dim=1).values
    return margin_towards(logits, pair) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp(min=1e-12)


def margin_towards(logits: Tensor, pair: Tensor) -> Tensor:
    """Logit of the target class minus that of the true one; ``pair`` as in `dlr_targeted`."""
    return _of_class(logits, pair[:, 1]) - _of_class(logits, pair[:, 0])
