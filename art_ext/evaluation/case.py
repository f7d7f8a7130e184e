"""What the indicators look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.isolation import derive_seed
from art_ext.threat import ThreatModel

PROBED, SURVIVORS = 16, 16  # examples that the checks look at (our decision)


@dataclass(frozen=True)
class Case:
    """What the checks look at: some correctly classified examples, and some that survived the suite.

    Args:
        model: the whole defense, in eval mode, parameters frozen.
        attacked: what attacks differentiate: a faster `Surrogate` of it, or the model itself.
        x: correctly classified inputs (P, ...), on the model's device; ``y`` their labels, ``threat`` theirs.
        left: which of them (P,) the suite did not break.
        broken: indices that each attack of the suite broke, by label, among all ``n`` examples.
        single: labels of the attacks of a single step.
        randomised: two passes disagree.
        averaged: the suite holds the attacks of ``randomized``, and they averaged over enough draws.
        seed: of the checks' own random choices.
        most: examples in a pass.
    """

    model: nn.Module
    attacked: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    left: Tensor
    broken: Mapping[str, set[int]]
    single: frozenset[str]
    n: int
    randomised: bool
    averaged: bool
    seed: int
    most: int = 128

    def survivors(self, count: int) -> tuple[Tensor, Tensor, ThreatModel]:
        """Up to so many examples that the suite did not break."""
        index = self.left.nonzero().squeeze(1)[: min(count, self.most)]
        return self.x[index], self.y[index], self.threat.select(index)

    def first(self, count: int) -> tuple[Tensor, Tensor, ThreatModel]:
        """Up to so many correctly classified examples, broken or not."""
        index = torch.arange(min(count, self.most, len(self.x)), device=self.x.device)
        return self.x[index], self.y[index], self.threat.select(index)

    def generator(self, label: str) -> torch.Generator:
        """Random numbers of their own for each check."""
        return torch.Generator(self.x.device).manual_seed(derive_seed(self.seed, f"indicator {label}"))

    def fooled(self, x_adv: Tensor, y: Tensor) -> int:
        """How many examples the model gets wrong."""
        with torch.no_grad():
            return int((self.model(x_adv).argmax(1) != y).sum()) if len(y) else 0


def chosen(attacked: Tensor, standing: Tensor) -> Tensor:
    """Which of the ``attacked`` examples (indices) a case holds: the first ones, then the first still ``standing``."""
    first, rest = attacked[:PROBED], standing[:SURVIVORS]
    return torch.cat((first, rest[~torch.isin(rest, first)]))
