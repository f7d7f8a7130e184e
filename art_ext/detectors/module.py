"""What an attacker differentiates: a detector of families, and the classifier that it stands beside."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from art_ext.bpda import straight_through
from art_ext.detectors.families import to_levels
from art_ext.detectors.observed import Observed
from art_ext.detectors.training import score
from art_ext.model import evaluating
from art_ext.nn.forensics import ForensicNet


class Forensics(nn.Module):
    """Images (N, C, H, W) in [0, 1] to logits of families (N, F), by way of the classifier's evidence.

    Args:
        observed: the classifier.
        net: the detector's own network.
        eight_bit: look at images as they are in a picture file; the rounding has the gradient of the identity.
    """

    def __init__(self, observed: Observed, net: ForensicNet, *, eight_bit: bool) -> None:
        super().__init__()
        self.observed, self.net, self.eight_bit = observed, net, eight_bit
        if eight_bit:
            self.bpda = "identity"

    def evidence(self, x: Tensor) -> Tensor:
        """The classifier's evidence (N, E), see `art_ext.detectors.observed.Observation`."""
        return self.observed(self.seen(x)).evidence

    def seen(self, x: Tensor) -> Tensor:
        """Images as the detector looks at them."""
        return straight_through(to_levels(x), x) if self.eight_bit else x

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the classifier (N, C), and of families (N, F)."""
        x = self.seen(x)
        logits, evidence = self.observed(x)
        return logits, self.net(x, evidence)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of families (N, F)."""
        return self.both(x)[1]


class Guarded(nn.Module):
    """A classifier with its detector: logits (N, C), then how far below the threshold the score is; (N, C + 1).

    Nothing is reported where the last column is at least 0. Unlike the extra class of Carlini & Wagner 2017
    (https://arxiv.org/abs/1705.07263), it can be given any weight in an objective.

    Args:
        forensics: the detector.
        threshold: of its score.
    """

    def __init__(self, forensics: Forensics, threshold: float) -> None:
        super().__init__()
        self.forensics, self.threshold = forensics, threshold

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classifier and the distance to the threshold, (N, C + 1)."""
        logits, families = self.forensics.both(x)
        return torch.cat((logits, (self.threshold - score(families))[:, None]), 1)


@torch.no_grad()
def in_batches(module: Forensics, function: Callable[[Tensor], Tensor], x: Tensor, batch_size: int) -> Tensor:
    """``function`` of images on the CPU, so many at a time on the device of ``module``, which is in eval mode."""
    device = module.observed.model.device
    with evaluating(module):
        return torch.cat([function(part.to(device)).float().cpu() for part in x.split(batch_size)])
