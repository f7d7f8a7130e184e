"""Suites: named lists of attacks, and what a user may put into a list of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier

from art_ext.evaluation.art_attacks import art_label, check_art_attack
from art_ext.evaluation.native import NativeAttack, PGDAttack
from art_ext.naming import lookup
from art_ext.threat import ThreatModel

Attack: TypeAlias = NativeAttack | EvasionAttack


@dataclass(frozen=True)
class Setting:
    """What a suite is built for: the classifier, the threat model, and how the evaluation runs."""

    classifier: PyTorchClassifier
    threat: ThreatModel
    batch_size: int
    seed: int


@dataclass(frozen=True)
class Suite:
    """A named list of attacks: a one-line description and what builds the attacks."""

    description: str
    build: Callable[[Setting], list[Attack]]


def _autoattack(setting: Setting) -> list[Attack]:
    from art_ext.adapters.autoattack import AutoAttackStandard  # needs the extra [autoattack]

    return [
        AutoAttackStandard(
            setting.classifier,
            version="standard",
            threat=setting.threat,
            batch_size=setting.batch_size,
            seed=setting.seed,
        )
    ]


ATTACKS: dict[str, PGDAttack] = {
    "fgsm": PGDAttack(name="FGSM", steps=1, relative_step=1.0, random_start=False, early_exit=False),
    "pgd-20": PGDAttack(name="PGD-20"),
    "margin-pgd-20": PGDAttack(name="margin-PGD-20", objective="margin"),
}
SUITES: dict[str, Suite] = {
    "fast": Suite("FGSM, PGD-20 on cross entropy, PGD-20 on the margin", lambda _: list(ATTACKS.values())),
    "standard": Suite("AutoAttack, version standard (extra: autoattack)", _autoattack),
}


def build_suite(suite: str | Sequence[Any], setting: Setting) -> dict[str, Attack]:
    """The attacks of a suite by label; a label that occurs again gets a number, ``"PGD-20 (2)"``.

    Args:
        suite: a name in `SUITES` or `ATTACKS`, or a list whose items are such names, `NativeAttack`s, ART
            `EvasionAttack`s, or (label, attack) pairs.
        setting: what the suite is built for.

    Raises:
        ValueError: an unknown name (the nearest is proposed), an empty list, a targeted ART attack.
        TypeError: an item of another kind.
        ImportError: a suite needs a library that is not installed.
    """
    if not isinstance(suite, str | Sequence):
        raise TypeError(f"suite must be a name or a list of attacks; got {type(suite).__name__}")
    if not suite:
        raise ValueError("suite must have at least one attack; got an empty list")
    attacks: dict[str, Attack] = {}
    for item in [suite] if isinstance(suite, str) else suite:
        for label, attack in _expand(item, setting):
            attacks[_unused(label, attacks)] = attack
    return attacks


def _alone(attack: Attack, _: Setting) -> list[Attack]:
    return [attack]


def _expand(item: Any, setting: Setting) -> list[tuple[str, Attack]]:
    if isinstance(item, str):
        single = {name: Suite(attack.name, partial(_alone, attack)) for name, attack in ATTACKS.items()}
        return [(label_of(a), a) for a in lookup(SUITES | single, item, what="suite or attack").build(setting)]
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return [(item[0], attack) for _, attack in _expand(item[1], setting)]
    if isinstance(item, EvasionAttack):
        check_art_attack(item, setting.threat)
        return [(label_of(item), item)]
    if isinstance(item, NativeAttack) and not isinstance(item, type):
        return [(item.name, item)]
    raise TypeError(
        "an item of a suite must be a name, a native attack, an ART EvasionAttack or a (label, attack) pair; "
        f"got {item!r}"
    )


def label_of(attack: Attack) -> str:
    """The label of an attack in a report: a native attack's name, ``"ART PGD-20"`` for one of ART's."""
    return art_label(attack) if isinstance(attack, EvasionAttack) else attack.name


def _unused(label: str, taken: dict[str, Attack]) -> str:
    number, name = 1, label
    while name in taken:
        number += 1
        name = f"{label} ({number})"
    return name
