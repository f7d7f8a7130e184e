"""Attacks on randomised defenses: averages over enough draws, over all outcomes, and over a vote of draws."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from math import ceil
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext.evaluation.draws import MOST_OUTCOMES, enumerating
from art_ext.evaluation.native import FunctionAttack, PGDAttack
from art_ext.model import Surrogate, judge_of
from art_ext.nn.randomness import outcomes_of
from art_ext.nn.soft_vote import SoftVote
from art_ext.threat import ThreatModel

Function = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Averaged:
    """A native attack whose gradients are averaged over at least so many draws.

    Args:
        attack: that confirms its successes.
        draws: rounded up so that each outcome is taken as often, where the evaluation takes all that can be listed.

    Example:
        >>> Averaged(attack=PGDAttack(name="PGD-20"), draws=32).name
        'PGD-20, 32 draws'
    """

    attack: PGDAttack | FunctionAttack
    draws: int
    confirms: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """Label in the report."""
        return f"{self.attack.name}, {self.draws} draws"

    def run(
        self, model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, eot: int, generator: torch.Generator
    ) -> Tensor:
        """See `art_ext.evaluation.NativeAttack`."""
        step = eot if eot == outcomes_of(model) else 1
        draws = _at_least(max(self.draws, eot), step)
        return self.attack.run(model, x, y, threat=threat, eot=draws, generator=generator)


def over_outcomes(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    generator: torch.Generator,
    attack: Function,
    eot: int = 1,
    draws: int = 20,
    **options: Any,
) -> Tensor:
    """An attack whose averages take the outcomes of the defense that can be listed in turn, whatever else is random.

    Args:
        model: the defense, or a `Surrogate` of it.
        x: inputs (N, ...).
        y: labels (N,).
        threat: norm, ε and valid range.
        generator: of random starts.
        attack: such as `art_ext.attacks.apgd`.
        eot: draws that the evaluation averages.
        draws: at least so many gradients are averaged, each outcome as often.
        **options: of the attack.
    """
    fast = model.fast if isinstance(model, Surrogate) else model
    count = outcomes_of(fast)
    if not 1 < count <= MOST_OUTCOMES:
        return attack(model, x, y, threat=threat, generator=generator, eot=max(draws, eot), **options)
    pair = Surrogate(fast, judge_of(model))  # one outcome in each pass
    with enumerating(fast):
        return attack(pair, x, y, threat=threat, generator=generator, eot=_at_least(max(draws, eot), count), **options)


def on_the_vote(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    generator: torch.Generator,
    attack: Function,
    draws: int = 16,
    **options: Any,
) -> Tensor:
    """An attack on the mean probabilities of many draws, listed outcomes in turn, instead of the mean of their losses.

    Args:
        model: the defense, or a `Surrogate` of it.
        x: inputs (N, ...).
        y: labels (N,).
        threat: norm, ε and valid range.
        generator: of random starts.
        attack: such as `art_ext.attacks.apgd`.
        draws: at least so many make a vote; two votes make a gradient.
        **options: of the attack.
    """
    fast = model.fast if isinstance(model, Surrogate) else model
    count = outcomes_of(fast)
    listed = count if count <= MOST_OUTCOMES else 1
    vote = Surrogate(SoftVote(fast, draws=_at_least(draws, listed)), judge_of(model), trusted=False)
    with enumerating(fast) if listed > 1 else nullcontext():
        # of a single gradient the attack would believe that nothing is random, and stop at a lucky draw
        return attack(vote, x, y, threat=threat, generator=generator, eot=2, **options)


def _at_least(draws: int, step: int) -> int:
    """The least multiple of ``step`` from ``draws`` on."""
    return step * ceil(draws / step)
