"""Mixed adversaries: each example gets one of several (Araujo et al. 2020, https://arxiv.org/abs/2012.02632)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import e, inf, pi, sqrt
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext.attacks.assigned import Assigned
from art_ext.attacks.objectives import Objective, get_objective
from art_ext.attacks.pgd import BeforeStep, check_steps, pgd
from art_ext.model import evaluating, frozen
from art_ext.naming import lookup
from art_ext.processes import drawn
from art_ext.threat import ThreatModel, per_example

CHOICES = ("max", "rand")
Goal = str | Objective | Callable[[Tensor, Tensor], Tensor]
StepSizes = Sequence[float | None]


def equal_volume_radius(eps: float, dimension: int) -> float:
    """ε₂ of the ℓ2 ball that is about as large as the ℓ∞ ball of radius ε: ε √(2d / (πe)).

    The limit of many dimensions, by Stirling's formula: at d = 3072 the exact radius is 0.15 % larger.

    Args:
        eps: ε > 0, of the ℓ∞ ball.
        dimension: d, numbers in an input, at least 1; 3072 for 3 · 32 · 32.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> round(equal_volume_radius(0.031, 3072), 2)
        0.83
    """
    check_steps(dimension=dimension)
    if not 0 < eps < inf:
        raise ValueError(f"eps must be > 0 and finite, the radius of the ℓ∞ ball; got {eps!r}")
    return eps * sqrt(2 * dimension / (pi * e))


def mixed_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threats: Sequence[ThreatModel],
    choose: str = "max",
    steps: int = 10,
    step_size: StepSizes | None = None,
    objective: Goal = "ce",
    random_start: bool | str = True,
    generator: torch.Generator | None = None,
    before_step: BeforeStep | None = None,
) -> Tensor:
    """PGD where each example has one of several adversaries, and stays within the ball of that one.

    With T threat models, ``"rand"`` costs one PGD: all examples go through the network together, each on its own way.
    ``"max"`` costs T of them and T forwards to compare them by. The objective ``"kl"`` costs one forward more.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...), within the clip range of the threat models; not modified.
        y: labels (N,), int64.
        threats: at least two, of one clip range.
        choose: ``"max"``: the adversary whose last iterate has the larger objective; ``"rand"``: one drawn, all with
            the same probability.
        steps: iterations of each, at least 1.
        step_size: a number for each threat model, None there for 2.5 · ε / steps of its own ε; None for all of them.
        objective: as `pgd`.
        random_start: as `pgd`; the uniform one is in the ball of the example's adversary.
        generator: of choice and start, on ``x``'s device; default: torch's global one.
        before_step: as `pgd`.

    Returns:
        Adversarial inputs, shaped like ``x``.

    Raises:
        TypeError: a threat that is no `ThreatModel`; one step size for all.
        ValueError: fewer than two threat models, different clip ranges, an unknown choice, a value out of its range.

    Example:
        >>> threats = [ThreatModel("linf", 0.03), ThreatModel("l2", 0.1)]
        >>> net = nn.Linear(12, 4)
        >>> x, y = torch.rand(8, 12), torch.arange(8) % 4
        >>> x_adv = mixed_pgd(net, x, y, threats=threats, steps=3)
        >>> sizes = torch.stack([threat.distance(x_adv, x) / threat.eps for threat in threats])
        >>> bool((sizes.amin(0) <= 1 + 1e-5).all())  # each is within one of the balls
        True
    """
    check_mixed(threats, choose, steps, step_size)
    x, goal = x.detach(), get_objective(objective)
    given = [None] * len(threats) if step_size is None else step_size
    sizes = [2.5 * t.radius(x) / steps if s is None else s for t, s in zip(threats, given, strict=True)]
    with evaluating(model), frozen(model):
        goal = _fixed(goal, model, x) if goal.on_reference else goal
        how: dict[str, Any] = {"steps": steps, "objective": goal, "random_start": random_start}
        how |= {"generator": generator, "before_step": before_step}
        if choose == "rand":
            ball = Assigned(threats, sizes, _drawn(len(threats), x, generator))
            return pgd(model, x, y, threat=ball, step_size=1.0, **how)
        found = [pgd(model, x, y, threat=t, step_size=s, **how) for t, s in zip(threats, sizes, strict=True)]
        return _worst(model, found, y, goal)


@dataclass(frozen=True)
class MixedAdversaries:
    """`mixed_pgd` with its settings, as the inner attack of adversarial training (MAT-Max, MAT-Rand).

    ``RobustTrainer(..., attack=MixedAdversaries(threats))`` trains against all of them; the trainer's own ``threat`` is
    what its accuracy on held-out images is measured under.

    Args:
        threats: as `mixed_pgd`.
        choose: as `mixed_pgd`.
        steps: as `mixed_pgd`.
        step_size: as `mixed_pgd`.
        objective: as `mixed_pgd`.
        start: as ``random_start`` of `mixed_pgd`.
        before_step: as `mixed_pgd`.

    Raises:
        TypeError: as `mixed_pgd`.
        ValueError: as `mixed_pgd`.

    Example:
        >>> threats = [ThreatModel("linf", 0.031), ThreatModel("l2", equal_volume_radius(0.031, 3072))]
        >>> MixedAdversaries(threats, choose="rand").clip
        (0.0, 1.0)
    """

    threats: Sequence[ThreatModel]
    choose: str = "max"
    steps: int = 10
    step_size: StepSizes | None = None
    objective: Goal = "ce"
    start: bool | str = "uniform"
    before_step: BeforeStep | None = None
    forward_only: ClassVar[bool] = True  # as InnerPGD

    def __post_init__(self) -> None:
        """Refuse before any work what `mixed_pgd` would refuse."""
        check_mixed(self.threats, self.choose, self.steps, self.step_size)
        object.__setattr__(self, "threats", tuple(self.threats))
        get_objective(self.objective)

    @property
    def clip(self) -> tuple[float, float] | None:
        """Of all threat models."""
        return self.threats[0].clip

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The adversarial inputs; see `mixed_pgd`."""
        return mixed_pgd(
            model,
            x,
            y,
            threats=self.threats,
            choose=self.choose,
            steps=self.steps,
            step_size=self.step_size,
            objective=self.objective,
            random_start=self.start,
            generator=generator,
            before_step=self.before_step,
        )

    def before_each_step(self, change: BeforeStep) -> MixedAdversaries:
        """The same attack, where each step starts from ``change(x_adv, x)``, after what it did before already."""
        earlier = self.before_step
        both = change if earlier is None else lambda x_adv, x: change(earlier(x_adv, x), x)
        return replace(self, before_step=both)


def check_mixed(threats: Any, choose: str, steps: int, step_size: Any) -> None:
    """Refuse what cannot be mixed.

    Raises:
        TypeError: as `mixed_pgd`.
        ValueError: as `mixed_pgd`.
    """
    lookup(dict.fromkeys(CHOICES), choose, what="choice among adversaries")
    check_steps(steps=steps)
    if isinstance(threats, ThreatModel) or len(threats) < 2:
        raise ValueError("threats must be at least two threat models to choose from; for one, leave attack out")
    if wrong := [type(t).__name__ for t in threats if not isinstance(t, ThreatModel)]:
        raise TypeError(f"threats must be ThreatModel objects; got {', '.join(wrong)}")
    if len(clips := {t.clip for t in threats}) > 1:
        raise ValueError(f"threats must share one clip range, that of the inputs; got {' and '.join(map(str, clips))}")
    if step_size is None:
        return
    if not isinstance(step_size, Sequence) or isinstance(step_size, str):
        raise TypeError(
            f"step_size must give each of the threats its own, or None for their defaults; got {step_size!r}"
        )
    if len(step_size) != len(threats):
        raise ValueError(f"step_size must have a number for each of the {len(threats)} threats; got {step_size!r}")
    if not all(size is None or 0 < size < inf for size in step_size):
        raise ValueError(f"step_size must be > 0 (on the scale of the inputs, e.g. 2/255), or None; got {step_size!r}")


def _fixed(goal: Objective, model: nn.Module, x: Tensor) -> Objective:
    """An objective on the clean prediction, which is made once for all adversaries."""
    with torch.no_grad():
        clean = model(x)
    return replace(goal, score=lambda logits, y: goal(logits, clean), on_reference=False)


def _drawn(count: int, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """A number below ``count`` for each example."""
    return drawn(lambda n: torch.randint(count, (n,), generator=generator, device=x.device), len(x), generator)


@torch.no_grad()
def _worst(model: nn.Module, found: Sequence[Tensor], y: Tensor, goal: Objective) -> Tensor:
    """Of several points for each example, the one with the highest objective."""
    worst, *others = found
    highest = goal(model(worst), y)
    for x_adv in others:
        value = goal(model(x_adv), y)
        worst = torch.where(per_example(value > highest, worst), x_adv, worst)
        highest = torch.maximum(value, highest)
    return worst
