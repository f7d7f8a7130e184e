"""Some batches of adversarial training that nobody attacks (ours; a practice without a paper that we know of)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import InnerPGD
from art_ext.technique import Technique
from art_ext.techniques.base import register


@register("natural", "a share of the batches is not attacked", paper="ours")
class Natural(Technique):
    """A batch is left as it is with probability ``share``, drawn once for all of it and for all processes.

    The loss then has x for x' too: TRADES is cross entropy, and `train_robust` counts natural accuracy with the share.
    A batch that is not attacked costs no attack.

    Args:
        share: in (0, 1); 0.05.

    Raises:
        ValueError: a share out of its range.

    Example:
        >>> Natural(share=0.1)
        Natural(share=0.1)
    """

    def __init__(self, *, share: float = 0.05) -> None:
        if not 0 < share < 1:
            raise ValueError(f"share must be in (0, 1), of the batches that are not attacked; got {share!r}")
        self.share = share
        self._spares = False

    def __repr__(self) -> str:
        """With its settings."""
        return f"Natural(share={self.share!r})"

    def before_batch(self, done: float, epochs: int) -> None:
        """Draw."""
        self._spares = torch.rand((), generator=self.random).item() < self.share

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """None of this batch."""
        return spared(attack) if self._spares else attack


def spared(attack: Any) -> Any:
    """An attack that returns its inputs; of PGD, one that other techniques may still change."""
    if isinstance(attack, InnerPGD):
        return SparedPGD(**{f.name: getattr(attack, f.name) for f in fields(InnerPGD)})
    return lambda model, x, y, generator=None: x


@dataclass(frozen=True)
class SparedPGD(InnerPGD):
    """No attack, with the settings of one.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> x = torch.rand(2, 3)
        >>> SparedPGD(ThreatModel("linf", 0.1)).within(0.2)(nn.Identity(), x, torch.tensor([0, 1])) is x
        True
    """

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """``x`` itself."""
        return x
