"""Which attacks each defense has to face, and the union of them for a model."""

from __future__ import annotations

from collections.abc import Iterator
from functools import singledispatch
from math import ceil
from typing import Any

from torch import nn

from art_ext.attacks import apgd, square
from art_ext.bpda import parts
from art_ext.evaluation.adaptive.quantization import across_thresholds, through_surrogate
from art_ext.evaluation.adaptive.randomness import Averaged, on_the_vote, over_outcomes
from art_ext.evaluation.escalation import in_float64
from art_ext.evaluation.native import FunctionAttack
from art_ext.evaluation.suites import ATTACKS, FAST
from art_ext.naming import described
from art_ext.nn.interference import Interference
from art_ext.nn.masking import Masking
from art_ext.nn.noise import Noise
from art_ext.nn.parametric_noise import ParametricNoise
from art_ext.nn.purification import Purification
from art_ext.nn.quantization import SoftQuantizer
from art_ext.nn.randomness import outcomes_of
from art_ext.nn.soft_vote import SoftVote
from art_ext.threat import ThreatModel

DRAWS = 32  # whose gradients are averaged against noise, our decision (AutoAttack's version "rand": 20)
QUERIES = 2000  # of Square, our decision: less than half of the standard suite's
SOFTER = (0.05, 0.15, 0.5)  # surrogate temperatures, as shares of the distance between two levels (our decision)


@singledispatch
def adaptive_suite(part: object, threat: ThreatModel | None = None) -> list[Any]:
    """The attacks that a part of a defense has to face, as `art_ext.evaluate` takes them in a list.

    Of ours: `Interference`, `Noise`, `ParametricNoise`, `Masking`, `Purification`, `SoftQuantizer` and `SoftVote`.
    Anything else says so itself, by a method ``adaptive_suite(threat)``; what has none asks for nothing.

    Args:
        part: a module, or an ART preprocessor.
        threat: what the evaluation is about; ours do not ask.

    Example:
        >>> adaptive_suite(SoftVote(nn.Linear(2, 2)))
        ['apgd-ce', 'apgd-dlr']
        >>> adaptive_suite(nn.ReLU())
        []
    """
    own = getattr(part, "adaptive_suite", None)
    return list(own(threat)) if callable(own) else []


@adaptive_suite.register
def _(part: Interference, threat: ThreatModel | None = None) -> list[Any]:
    """Averages over draws, over all backgrounds in turn, and the gradient of the vote of many draws."""
    averaged: list[Any] = ["apgd-ce", "apgd-dlr"]  # `evaluate` averages them, over all outcomes if that is all there is
    if not _noisy(part):
        return [*averaged, _vote()] if part.outcomes > 1 else averaged
    return [*averaged, *(_enumerated() if part.outcomes > 1 else ()), _vote()]


@adaptive_suite.register(Noise)
@adaptive_suite.register(ParametricNoise)
def _(part: Noise | ParametricNoise, threat: ThreatModel | None = None) -> list[Any]:
    """Averages over 32 draws, and the gradient of their vote."""
    return [*_averaged(DRAWS), _vote()]


@adaptive_suite.register
def _(part: Masking, threat: ThreatModel | None = None) -> list[Any]:
    """As noise; a mask that stays is nothing random."""
    return [*_averaged(DRAWS), _vote()] if part.random else ["apgd-ce", "apgd-dlr"]


@adaptive_suite.register
def _(part: Purification, threat: ThreatModel | None = None) -> list[Any]:
    """What its transform has to face, through transform and purifier; without one, their whole gradient."""
    return ["apgd-ce", "apgd-dlr"] if part.transform is None else adaptive_suite(part.transform, threat)


@adaptive_suite.register
def _(part: SoftVote, threat: ThreatModel | None = None) -> list[Any]:
    """The gradient of the vote itself, over 32 draws together: nothing else sees all voters at once."""
    inside = [] if part.transform is None else list(part.transform.modules())
    votes = ceil(DRAWS / part.passes) if any(map(_noisy, inside)) else 1
    hidden = part.transform is not None and not part.every_outcome and outcomes_of(part.transform) > 1
    averaged: list[Any] = _averaged(votes) if votes > 1 else ["apgd-ce", "apgd-dlr"]
    return [*averaged, *(_enumerated() if hidden else ())]


@adaptive_suite.register
def _(part: SoftQuantizer, threat: ThreatModel | None = None) -> list[Any]:
    """BPDA with the identity, softer temperatures, float64, jumps over the thresholds, and no gradient at all."""
    softer = [share / (part.levels - 1) for share in SOFTER]
    sharp = part.hard or part.temperature < softer[-1]
    attacks = [_through("identity", "ce"), _through("identity", "dlr")]
    attacks += [_through(t, "ce") for t in softer if part.hard or t > part.temperature]
    if sharp and not part.hard:  # hard steps have no gradient in any precision
        attacks.append(FunctionAttack(name="APGD-T in float64", function=in_float64))
    attacks.append(FunctionAttack(name="threshold crossing", function=across_thresholds, confirms=True))
    attacks.append(FunctionAttack(name="Square", function=square, options={"queries": QUERIES}, confirms=True))
    return attacks


def default_suite(model: nn.Module, threat: ThreatModel | None = None) -> tuple[str, list[Any]]:
    """What `art_ext.evaluate` runs where it is given no suite: ``fast``, and what the parts of ``model`` have to face.

    Returns:
        Its name, and its items without repetitions.

    Example:
        >>> default_suite(nn.Linear(2, 2))
        ('fast', ['fast'])
        >>> default_suite(nn.Sequential(Noise(0.1), nn.Linear(2, 2)))[0]
        'fast + adaptive'
    """
    items: dict[str, Any] = {}
    for part in _attacked(model):
        items |= {described(item): item for item in adaptive_suite(part, threat) if item not in FAST}
    return "fast + adaptive" if items else "fast", ["fast", *items.values()]


def _attacked(model: nn.Module) -> Iterator[object]:
    """The parts that count: not what acts in training alone; what a vote takes the mean over is the vote's affair."""
    steps = [(m, m.preprocessor) for m in model.modules() if hasattr(m, "preprocessor")]
    idle = {id(p) for m, held in steps if not getattr(held, "apply_predict", True) for p in [held, *m.modules()]}
    transforms = [part.transform for part in parts(model) if isinstance(part, SoftVote)]
    averaged = {id(m) for transform in transforms if transform is not None for m in transform.modules()}
    for part in parts(model):
        if id(part) not in idle and not (id(part) in averaged and isinstance(part, Interference | Noise | Masking)):
            yield part


def _noisy(part: object) -> bool:
    """Whether it draws noise, of which there is no list."""
    if isinstance(part, Interference):
        return bool(part.beta or (part.gamma and part.density))
    return isinstance(part, Noise) or (isinstance(part, Masking) and part.random)


def _averaged(draws: int) -> list[Any]:
    return [Averaged(attack=ATTACKS[name], draws=draws) for name in ("apgd-ce", "apgd-dlr")]


def _vote() -> FunctionAttack:
    options = {"attack": apgd, "objective": "ce"}
    return FunctionAttack(name="APGD-CE on the vote of draws", function=on_the_vote, options=options, confirms=True)


def _enumerated() -> list[FunctionAttack]:
    return [
        FunctionAttack(
            name=f"APGD-{goal.upper()} over all backgrounds",
            function=over_outcomes,
            options={"attack": apgd, "objective": goal},
            confirms=True,
        )
        for goal in ("ce", "dlr")
    ]


def _through(surrogate: str | float, objective: str) -> FunctionAttack:
    told = surrogate if isinstance(surrogate, str) else f"temperature {surrogate:.3g}"
    return FunctionAttack(
        name=f"APGD-{objective.upper()} through {told}",
        function=through_surrogate,
        options={"attack": apgd, "surrogate": surrogate, "objective": objective},
        confirms=True,
    )
