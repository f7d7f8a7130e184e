"""Mixup (arXiv 1710.09412) and CutMix (arXiv 1905.04899) of whole batches, as timm's ``Mixup`` does them."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.losses import LOSSES
from art_ext.technique import Technique
from art_ext.techniques.base import register

Box = tuple[slice, slice]


def mixed(x: Tensor, share: float) -> Tensor:
    """Each example (N, ...) with another one of the batch: share · x + (1 − share) · x in reverse order.

    Example:
        >>> mixed(torch.tensor([[0.0], [1.0]]), 0.75).tolist()
        [[0.25], [0.75]]
    """
    return share * x + (1 - share) * x.flip(0)


def cut_in(x: Tensor, box: Box) -> Tensor:
    """Images (N, C, H, W) with the ``box`` (rows, columns) of those in reverse order.

    Example:
        >>> cut_in(torch.tensor([[[[0.0, 0.0]]], [[[1.0, 1.0]]]]), (slice(0, 1), slice(1, 2))).flatten().tolist()
        [0.0, 1.0, 1.0, 0.0]
    """
    out = x.clone()
    out[:, :, box[0], box[1]] = x.flip(0)[:, :, box[0], box[1]]
    return out


def draw_box(height: int, width: int, share: float, rng: np.random.Generator) -> Box:
    """A box of (1 − share) of the area with its centre anywhere in the image, cut off at the edges.

    Example:
        >>> draw_box(8, 8, 0.0, np.random.default_rng(0)) != draw_box(8, 8, 1.0, np.random.default_rng(0))
        True
    """
    sides = []
    for length in (height, width):
        cut, centre = int(length * sqrt(1 - share)), int(rng.integers(length))
        sides.append(slice(max(0, centre - cut // 2), min(length, centre + (cut + 1) // 2)))
    return sides[0], sides[1]


@register(
    "mixup",
    "mixes two images and their labels in some batches, by mixup or CutMix",
    paper="https://arxiv.org/abs/1710.09412",
)
class Mixup(Technique):
    """Batches are mixed with themselves in reverse order before the attack; labels become shares of the classes.

    One share λ ~ Beta(α, α) for the whole batch, and for CutMix one box; the loss and the attack then take shares
    (N, C), also where nothing is mixed. With several processes each mixes its own rows. Training accuracies count the
    class of the largest share. Which losses take shares: `art_ext.losses.Loss.soft_labels`. An inner attack of the
    user's own is given the shares.

    Args:
        mixup_alpha: α of mixup, ≥ 0; 0 for CutMix only. 0.8 (Mo et al. 2022).
        cutmix_alpha: α of CutMix, ≥ 0; 0 for mixup only. 1.0 (Mo et al. 2022).
        prob: share of the batches that are mixed, in (0, 1]; 0.3 (Mo et al. 2022).
        switch_prob: where both are on, share of the mixed batches that CutMix mixes, in [0, 1]; 0.5.

    Raises:
        ValueError: an argument out of its range, or both α zero.

    Example:
        >>> technique = Mixup(prob=1.0)
        >>> technique.start(nn.Identity(), classes=3, seed=0)
        >>> x, shares = technique.batch(torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0]))
        >>> shares.shape, shares.sum(1).tolist()
        (torch.Size([4, 3]), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(
        self, *, mixup_alpha: float = 0.8, cutmix_alpha: float = 1.0, prob: float = 0.3, switch_prob: float = 0.5
    ) -> None:
        for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if not 0 <= alpha < float("inf"):
                raise ValueError(f"{name} must be ≥ 0, of a Beta distribution; got {alpha!r}")
        if not mixup_alpha and not cutmix_alpha:
            raise ValueError("mixup_alpha and cutmix_alpha are both 0, so nothing is mixed: leave mixup out")
        if not 0 < prob <= 1:
            raise ValueError(f"prob must be in (0, 1], the share of the batches that are mixed; got {prob!r}")
        if not 0 <= switch_prob <= 1:
            raise ValueError(f"switch_prob must be in [0, 1], the share of CutMix; got {switch_prob!r}")
        self.mixup_alpha, self.cutmix_alpha, self.prob, self.switch_prob = mixup_alpha, cutmix_alpha, prob, switch_prob

    def __repr__(self) -> str:
        """With its settings."""
        settings = {name: getattr(self, name) for name in ("mixup_alpha", "cutmix_alpha", "prob", "switch_prob")}
        return f"Mixup({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

    def check(self, loss: Any, attack: Any) -> None:
        """Loss and attack must take shares.

        Raises:
            ValueError: one does not.
        """
        if not loss.soft_labels:
            able = ", ".join(name for name, known in LOSSES.items() if known.soft_labels)
            raise ValueError(
                f"technique 'mixup' makes labels shares of the classes, which loss {loss.name!r} does not take: leave "
                f"mixup out, or choose one of {able}"
            )
        objective = getattr(attack, "objective", "ce")
        if objective not in ("ce", "kl"):
            raise ValueError(
                f"technique 'mixup' makes labels shares of the classes, which the attack's objective {objective!r} "
                "does not take: leave mixup out, or attack by 'ce' or 'kl'"
            )

    def check_network(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """CutMix is for images.

        Raises:
            ValueError: other inputs.
        """
        if self.cutmix_alpha and len(shape) != 3:
            raise ValueError(
                f"CutMix needs images (channels, height, width), got inputs {shape}: set cutmix_alpha to 0"
            )

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mixed, or as it is, with shares (N, C)."""
        shares = F.one_hot(y, self.classes).to(x.dtype) if y.ndim == 1 else y
        rng = np.random.default_rng(int(torch.randint(2**62, (), generator=self.random)))
        if rng.random() >= self.prob:
            return x, shares
        cuts = not self.mixup_alpha or (self.cutmix_alpha > 0 and rng.random() < self.switch_prob)
        alpha = self.cutmix_alpha if cuts else self.mixup_alpha
        share = float(rng.beta(alpha, alpha))
        if not cuts:
            return mixed(x, share), mixed(shares, share)
        height, width = x.shape[2:]
        rows, columns = draw_box(height, width, share, rng)
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return cut_in(x, (rows, columns)), mixed(shares, 1 - area / (height * width))
