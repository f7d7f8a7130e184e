"""What runs when an evaluation is not to be trusted: the attacks that the indicators propose."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from art_ext.attacks import apgd, square
from art_ext.evaluation.native import FunctionAttack
from art_ext.evaluation.probes import smoothed_pgd
from art_ext.evaluation.twins import through, undefended
from art_ext.evaluation.verdict import Indicator
from art_ext.model import DefendedModel, Surrogate, judge_of
from art_ext.threat import ThreatModel

QUERIES = 2000  # of Square, our decision: less than half of the standard suite's


def escalation(
    model: DefendedModel, x: Tensor, indicators: Sequence[Indicator], *, sources: Sequence[nn.Module] = ()
) -> list[FunctionAttack]:
    """The attacks for what is flagged: by transfer, black-box, on smoothed gradients, in float64; none if nothing is.

    Args:
        model: the whole defense, in eval mode.
        x: some inputs (N, ...), to find the undefended twin with.
        indicators: as measured.
        sources: further models to attack through; the undefended twin is found by itself.
    """
    flagged = {i.name for i in indicators if i.flagged}
    if not flagged:
        return []
    twin = undefended(model, x)
    attacks = [a for source in (*([twin] if twin is not None else []), *sources) for a in _through(source)]
    attacks.append(FunctionAttack(name="APGD-T", function=apgd, options={"targets": 9}, confirms=True))
    attacks.append(FunctionAttack(name="smoothed PGD", function=smoothed_pgd, options={"steps": 50, "copies": 10}))
    if "float32 against float64" in flagged:
        attacks.append(FunctionAttack(name="APGD-T in float64", function=in_float64))
    attacks.append(FunctionAttack(name="Square", function=square, options={"queries": QUERIES}))
    return attacks


def _through(source: nn.Module) -> list[FunctionAttack]:
    name = type(source).__name__
    reach = partial(through, source=source, attack=apgd)
    return [
        FunctionAttack(name=f"APGD-CE through {name}", function=reach),
        FunctionAttack(name=f"APGD-T through {name}", function=reach, options={"targets": 9}),
    ]


def in_float64(
    model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator, eot: int = 1
) -> Tensor:
    """Targeted APGD on a float64 copy of the model, averaged over ``eot`` draws; the model itself judges."""
    double = _Double(copy.deepcopy(judge_of(model)).double())
    pair = Surrogate(double, judge_of(model), trusted=False)
    return apgd(pair, x, y, threat=threat, targets=9, eot=eot, generator=generator)


class _Double(nn.Module):
    """A float64 model that takes float32 inputs; logits stay in float64."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x.double())
        return logits
