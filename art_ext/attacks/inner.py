"""PGD with its settings, as the inner attack of adversarial training: an object that a technique can change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from art_ext.attacks.objectives import Objective
from art_ext.attacks.pgd import BeforeStep, pgd
from art_ext.threat import ThreatModel


@dataclass(frozen=True)
class InnerPGD:
    """`art_ext.attacks.pgd` as a function (model, x, y, generator) → x_adv.

    Args:
        threat: norm, ε and valid range.
        steps: iterations.
        step_size: on the scale of the inputs; None for 2.5 · ε / steps.
        objective: as `pgd`.
        start: as ``random_start`` of `pgd`.
        before_step: as `pgd`.
        begin: where to begin in place of ``start``, shaped like the inputs; it is projected onto the threat model.

    Example:
        >>> attack = InnerPGD(ThreatModel("linf", 0.1), steps=3)
        >>> attack.within(torch.tensor([0.05, 0.1])).threat.eps
        tensor([0.0500, 0.1000])
    """

    threat: ThreatModel
    steps: int = 10
    step_size: float | Tensor | None = None
    objective: str | Objective | Callable[[Tensor, Tensor], Tensor] = "ce"
    start: bool | str = "uniform"
    before_step: BeforeStep | None = None
    begin: Tensor | None = field(default=None, repr=False, compare=False)
    forward_only: ClassVar[bool] = True  # it calls its model and nothing else, so it may be given a faster one

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The adversarial inputs; see `pgd`."""
        return pgd(
            model,
            x,
            y,
            threat=self.threat,
            steps=self.steps,
            step_size=self.step_size,
            objective=self.objective,
            random_start=self.start if self.begin is None else False,
            generator=generator,
            start=self.begin,
            before_step=self.before_step,
        )

    def within(self, eps: float | Tensor, step_size: float | Tensor | None = None) -> InnerPGD:
        """The same attack within another radius, of all examples or of each (N,), which must be positive.

        Its step size stays, unless another one is given or it is that of the radius.
        """
        size = self.step_size if step_size is None else step_size
        return replace(self, threat=self.threat.with_eps(eps, check=False), step_size=size)

    def beginning_at(self, x_adv: Tensor) -> InnerPGD:
        """The same attack from there, shaped like the inputs, and from no random start."""
        return replace(self, begin=x_adv)

    def before_each_step(self, change: BeforeStep) -> InnerPGD:
        """The same attack, where each step starts from ``change(x_adv, x)``, after what it did before already."""
        earlier = self.before_step
        both = change if earlier is None else lambda x_adv, x: change(earlier(x_adv, x), x)
        return replace(self, before_step=both)
