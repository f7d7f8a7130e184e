"""A linear warm-up of the attack's radius: the baseline to hold a curriculum such as A&P against (ours)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from art_ext.attacks import InnerPGD
from art_ext.technique import Technique
from art_ext.techniques.attention_patches import check_warm_up
from art_ext.techniques.base import register


@register("eps-warm-up", "radius and step size of the attack grow over the first epochs", paper="ours")
class EpsWarmUp(Technique):
    """The inner attack has the radius s · ε and the step size s · α, s growing linearly from ``start`` to 1.

    s changes with each batch. The loss, and everything after the warm-up, is as without.

    Args:
        warm_up: epochs until s is 1, > 0; 10, as A&P's.
        start: s at the first batch, in (0, 1]: no attack has the radius 0.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> technique = EpsWarmUp(warm_up=10, start=0.01)
        >>> technique.before_batch(done=5.0, epochs=40)
        >>> technique.attack_for(InnerPGD(ThreatModel("linf", 0.1)), None, None).threat.eps
        0.0505
    """

    def __init__(self, *, warm_up: float = 10, start: float = 0.01) -> None:
        check_warm_up(warm_up)
        if not 0 < start <= 1:
            raise ValueError(f"start must be in (0, 1], the share of ε at the first batch; got {start!r}")
        self.warm_up, self.start_share = warm_up, start
        self.share = start

    def __repr__(self) -> str:
        """With its settings."""
        return f"EpsWarmUp(warm_up={self.warm_up!r}, start={self.start_share!r})"

    def check(self, loss: Any, attack: Any) -> None:
        """The inner attack must have a radius that can be changed.

        Raises:
            ValueError: it has none.
        """
        if not isinstance(attack, InnerPGD):
            raise ValueError(
                "technique 'eps-warm-up' changes the radius of the trainer's own PGD, and that of "
                f"{type(attack).__name__} is its own affair: leave attack out, or eps-warm-up"
            )

    def before_batch(self, done: float, epochs: int) -> None:
        """Set s."""
        self.share = self.start_share + (1 - self.start_share) * min(1.0, done / self.warm_up)

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """With s times the radius and the step."""
        if self.share >= 1 or not isinstance(attack, InnerPGD):
            return attack
        size = attack.step_size
        return attack.within(self.share * attack.threat.eps, None if size is None else self.share * size)

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """The s of the epoch's last batch, as ``eps_share``."""
        return {"eps_share": self.share}
