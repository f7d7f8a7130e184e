"""FGSM from a random start (Wong et al. 2020, https://arxiv.org/abs/2001.03994), as an inner attack of one step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor

from art_ext.attacks.inner import InnerPGD

STEP = 1.25  # of ε (paper)


@dataclass(frozen=True)
class FGSMRS(InnerPGD):
    """A point drawn from the ball, one step of 1.25 · ε along the sign of the gradient there, back onto the ball.

    Adversarial training at two forwards and two backwards a batch. It may break down within an epoch (catastrophic
    overfitting: the network withstands the one step and nothing else), so the technique ``"overfitting-alarm"`` comes
    with it. The authors' code takes the step in train mode, ours in eval mode, as all attacks of art_ext.

    Args:
        threat: norm, ε and valid range; for ℓ2 the step follows the normalised gradient.
        steps: 1.
        step_size: on the scale of the inputs; 1.25 · ε (paper).
        objective: as `art_ext.attacks.pgd`.
        start: ``"uniform"`` (paper); False, the plain FGSM, is what breaks down soonest.
        before_step: as `art_ext.attacks.pgd`.
        begin: as `InnerPGD`.
        alarm: whether the alarm comes with it.

    Raises:
        ValueError: more than one step, a step size ≤ 0.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> FGSMRS(ThreatModel("linf", 0.08)).step_size
        0.1
    """

    steps: int = 1
    alarm: bool = True

    def __post_init__(self) -> None:
        """Refuse what is another attack; make the step size a number."""
        if self.steps != 1:
            raise ValueError(f"fgsm-rs takes one step; for {self.steps!r} leave attack out, which is PGD")
        if self.step_size is None:
            object.__setattr__(self, "step_size", STEP * self.threat.eps)
        elif not isinstance(self.step_size, Tensor) and not self.step_size > 0:
            raise ValueError(f"step_size must be > 0 (on the scale of the inputs, e.g. 10/255); got {self.step_size!r}")

    @property
    def brings(self) -> tuple[str, ...]:
        """Techniques that come with it."""
        return ("overfitting-alarm",) if self.alarm else ()

    def within(self, eps: float | Tensor, step_size: float | Tensor | None = None) -> FGSMRS:
        """See `InnerPGD.within`; the step keeps its ratio to ε."""
        threat = self.threat.with_eps(eps, check=False)
        assert self.step_size is not None
        size = self.step_size * (threat.eps / self.threat.eps) if step_size is None else step_size
        return replace(self, threat=threat, step_size=size)
