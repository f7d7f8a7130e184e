"""The inner attacks that trainers and recipes know by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from art_ext.attacks.fgsm_rs import FGSMRS
from art_ext.attacks.inner import InnerPGD
from art_ext.attacks.mixed import Goal, MixedAdversaries
from art_ext.naming import lookup
from art_ext.threat import ThreatModel

# what trainer and loss have to say; the other arguments of a function here are options of the attack
GIVEN = ("threat", "steps", "step_size", "objective", "start")
_THREAT_KEYS = ("eps", "norm", "step_size")


@dataclass(frozen=True)
class InnerAttackInfo:
    """An inner attack that has a name.

    Args:
        make: from those of `GIVEN` that it uses, and its options, to the attack.
        description: one line.
        paper: address.
    """

    make: Callable[..., Any]
    description: str
    paper: str

    @property
    def uses(self) -> frozenset[str]:
        """Those of `GIVEN` that have a say."""
        return frozenset(GIVEN) & set(inspect.signature(self.make).parameters)

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The arguments that are its own."""
        return {k: p for k, p in inspect.signature(self.make).parameters.items() if k not in GIVEN}


def make_inner_attack(
    name: str,
    *,
    threat: ThreatModel,
    steps: int | None,
    step_size: float | None,
    objective: Goal,
    start: Any,
    **options: Any,
) -> Any:
    """The inner attack of that name.

    Args:
        name: in `INNER_ATTACKS`.
        threat: the trainer's.
        steps: of PGD; None for the attack's own.
        step_size: on the scale of the inputs; None for the attack's own.
        objective: the loss's.
        start: the loss's.
        **options: of the attack.

    Raises:
        ValueError: unknown name (the nearest one is proposed); steps or a step size that have no say; a value out of
            its range; a missing option.
        TypeError: an unknown option.

    Example:
        >>> given = {"threat": ThreatModel("linf", 0.1), "objective": "ce", "start": "uniform"}
        >>> make_inner_attack("fgsm-rs", steps=7, step_size=None, **given)
        Traceback (most recent call last):
        ...
        ValueError: steps is 7, but attack 'fgsm-rs' does not use it; leave it out
    """
    info = lookup(INNER_ATTACKS, name, what="inner attack")
    asked = {key: value for key, value in (("steps", steps), ("step_size", step_size)) if value is not None}
    check_uses(name, asked)
    if unknown := sorted(set(options) - info.options.keys()):
        raise TypeError(f"attack {name!r} takes {', '.join(info.options) or 'no options'}; got {', '.join(unknown)}")
    if missing := [k for k, p in info.options.items() if p.default is p.empty and k not in options]:
        needs = f"attack {name!r} needs {', '.join(missing)}"
        raise ValueError(f"{needs}: give an object of art_ext.attacks, or in a recipe attack_options")
    given = {"threat": threat, "objective": objective, "start": start}
    return info.make(**{key: value for key, value in given.items() if key in info.uses}, **asked, **options)


def check_uses(name: str, asked: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse what is said to an attack that does not listen.

    Raises:
        ValueError: as said, with ``prefix`` before the argument's name.
    """
    for key, value in asked.items():
        if key not in INNER_ATTACKS[name].uses:
            raise ValueError(f"{prefix}{key} is {value!r}, but attack {name!r} does not use it; leave it out")


def _pgd(
    *,
    threat: ThreatModel,
    steps: int = 10,
    step_size: float | None = None,
    objective: Goal = "ce",
    start: bool | str = "uniform",
) -> InnerPGD:
    return InnerPGD(threat, steps, step_size, objective, start)


def _fgsm_rs(
    *,
    threat: ThreatModel,
    step_size: float | None = None,
    objective: Goal = "ce",
    random_start: bool = True,
    alarm: bool = True,
) -> FGSMRS:
    return FGSMRS(threat, step_size=step_size, objective=objective, start=random_start, alarm=alarm)


def _mat_max(
    *,
    threat: ThreatModel,
    threats: Sequence[ThreatModel | Mapping[str, Any]],
    steps: int = 10,
    objective: Goal = "ce",
    start: bool | str = "uniform",
) -> MixedAdversaries:
    return _mixed("max", threat, threats, steps, objective, start)


def _mat_rand(
    *,
    threat: ThreatModel,
    threats: Sequence[ThreatModel | Mapping[str, Any]],
    steps: int = 10,
    objective: Goal = "ce",
    start: bool | str = "uniform",
) -> MixedAdversaries:
    return _mixed("rand", threat, threats, steps, objective, start)


def _mixed(choose: str, threat: ThreatModel, threats: Any, steps: int, objective: Goal, start: Any) -> MixedAdversaries:
    pairs = [_threat(entry, threat.clip) for entry in _listed(threats)]
    sizes = [size for _, size in pairs]
    return MixedAdversaries([ball for ball, _ in pairs], choose, steps, sizes, objective, start)


def _listed(threats: Any) -> list[Any]:
    if not isinstance(threats, Sequence) or isinstance(threats, str):
        raise ValueError(
            f"threats must be a list, such as [{{norm: linf, eps: 8/255}}, {{norm: l2, eps: 0.83}}]; got {threats!r}"
        )
    return list(threats)


def _threat(entry: Any, clip: tuple[float, float] | None) -> tuple[ThreatModel, float | None]:
    """A threat model and its step size, from an object or from what a recipe can say of one."""
    if isinstance(entry, ThreatModel):
        return entry, None
    if not isinstance(entry, Mapping) or "eps" not in entry or not set(entry) <= set(_THREAT_KEYS):
        raise ValueError(f"each of threats must have eps, and may have norm and step_size; got {entry!r}")
    return ThreatModel(entry.get("norm", "linf"), entry["eps"], clip), entry.get("step_size")


INNER_ATTACKS = {
    "pgd": InnerAttackInfo(_pgd, "projected gradient ascent; the default", "https://arxiv.org/abs/1706.06083"),
    "fgsm-rs": InnerAttackInfo(
        _fgsm_rs,
        "one step of 1.25 ε from a random start; warns of catastrophic overfitting",
        "https://arxiv.org/abs/2001.03994",
    ),
    "mat-max": InnerAttackInfo(
        _mat_max, "for each example the worst of several threat models", "https://arxiv.org/abs/2012.02632"
    ),
    "mat-rand": InnerAttackInfo(
        _mat_rand, "for each example one of several threat models, drawn at random", "https://arxiv.org/abs/2012.02632"
    ),
}
