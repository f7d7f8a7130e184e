"""Native attacks as parts of a suite: frozen hyper-parameters, tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import signature
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from art_ext.attacks import Objective, get_objective, pgd
from art_ext.threat import ThreatModel


@runtime_checkable
class NativeAttack(Protocol):
    """An attack on tensors: anything with a ``name`` and this ``run``; the evaluation calls it batch by batch."""

    @property
    def name(self) -> str:
        """Its label in the report."""

    def run(
        self,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        *,
        threat: ThreatModel,
        eot: int,
        generator: torch.Generator,
    ) -> Tensor:
        """Adversarial examples shaped like ``x`` (N, ...), on the model's device, for the labels ``y`` (N,)."""


@dataclass(frozen=True, kw_only=True)
class PGDAttack:
    """Projected gradient descent (`art_ext.attacks.pgd`) as part of a suite.

    Args:
        name: label in the report.
        steps: iterations.
        step_size: on the scale of the inputs; None: ``relative_step`` · ε.
        relative_step: step as a share of ε; the default, a quarter, is 2/255 at ε = 8/255: the literature's PGD-20.
        objective: ``"ce"``, ``"margin"``, … or a function (logits, y) -> (N,).
        random_start: as in `pgd`.
        restarts: independent starts.
        early_exit: stop at the first iterate that is misclassified, which saves passes and costs one forward more for
            examples that survive. Not against a randomised defense (``eot`` above 1, or `art_ext.evaluate` found it to
            be one): there a lucky draw proves nothing, and to stop at it would leave the point just at the boundary.

    Raises:
        ValueError: an unknown objective (the nearest name is proposed).

    Example:
        >>> attack = PGDAttack(name="PGD-5", steps=5)
        >>> x, threat = torch.rand(2, 4), ThreatModel("linf", 0.1)
        >>> y, generator = torch.tensor([0, 1]), torch.Generator()
        >>> attack.run(nn.Linear(4, 3), x, y, threat=threat, eot=1, generator=generator).shape
        torch.Size([2, 4])
    """

    name: str
    steps: int = 20
    step_size: float | None = None
    relative_step: float = 0.25
    objective: str | Objective | Callable[[Tensor, Tensor], Tensor] = "ce"
    random_start: bool | str = True
    restarts: int = 1
    early_exit: bool = True
    confirms: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse an unknown objective now, not in the middle of an evaluation."""
        get_objective(self.objective)

    def run(
        self, model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, eot: int, generator: torch.Generator
    ) -> Tensor:
        """See `NativeAttack`."""
        return pgd(
            model,
            x,
            y,
            threat=threat,
            steps=self.steps,
            step_size=threat.eps * self.relative_step if self.step_size is None else self.step_size,
            objective=self.objective,
            random_start=self.random_start,
            restarts=self.restarts,
            eot=eot,
            early_exit=self.early_exit and eot == 1,
            generator=generator,
        )


@dataclass(frozen=True, kw_only=True)
class FunctionAttack:
    """Any function on tensors as part of a suite: those of `art_ext.attacks`, or an adaptive attack of your own.

    Args:
        name: label in the report.
        function: ``(model, x, y, *, threat, generator, **options) -> x_adv``; one that also takes ``eot`` is told how
            many draws to average against a randomised defense.
        options: further keyword arguments.
        confirms: the function asks the exact model about each success, so it may be given a faster one for its
            gradients (`art_ext.model.judge_of`).

    Example:
        >>> def noise(model, x, y, *, threat, generator):
        ...     return threat.random_start(x, generator)
        >>> attack = FunctionAttack(name="noise", function=noise)
        >>> x, threat, generator = torch.rand(2, 4), ThreatModel("linf", 0.1), torch.Generator()
        >>> attack.run(nn.Linear(4, 3), x, torch.tensor([0, 1]), threat=threat, eot=1, generator=generator).shape
        torch.Size([2, 4])
    """

    name: str
    function: Callable[..., Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    confirms: bool = False

    def run(
        self, model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, eot: int, generator: torch.Generator
    ) -> Tensor:
        """See `NativeAttack`."""
        draws = {"eot": eot} if "eot" in signature(self.function).parameters else {}
        return self.function(model, x, y, threat=threat, generator=generator, **draws, **self.options)
