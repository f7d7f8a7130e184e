"""Suites: named lists of attacks, and what a user may put into a list of their own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier

from art_ext.attacks import apgd, fab, square
from art_ext.evaluation.art_attacks import art_label, check_art_attack
from art_ext.evaluation.native import FunctionAttack, NativeAttack, PGDAttack
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
    """A named list of attacks: a one-line description and what builds the attacks.

    In a ``cascade`` each attack gets only the examples that withstood the ones before, as in AutoAttack.
    """

    description: str
    build: Callable[[Setting], list[Attack]]
    cascade: bool = False


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


def _known(*names: str) -> Callable[[Setting], list[Attack]]:
    return lambda _: [ATTACKS[name] for name in names]


def _restarted() -> list[Attack]:
    """APGD on every objective from five starts."""
    goals = {"ce": "CE", "dlr": "DLR", "margin": "margin"}
    return [
        FunctionAttack(
            name=f"APGD-{name} 5 restarts", function=apgd, options={"objective": goal, "restarts": 5}, confirms=True
        )
        for goal, name in goals.items()
    ]


ATTACKS: dict[str, PGDAttack | FunctionAttack] = {
    "fgsm": PGDAttack(name="FGSM", steps=1, relative_step=1.0, random_start=False, early_exit=False),
    "pgd-20": PGDAttack(name="PGD-20"),
    "margin-pgd-20": PGDAttack(name="margin-PGD-20", objective="margin"),
    "apgd-ce": FunctionAttack(name="APGD-CE", function=apgd, confirms=True),
    "apgd-dlr": FunctionAttack(name="APGD-DLR", function=apgd, options={"objective": "dlr"}, confirms=True),
    "apgd-t": FunctionAttack(name="APGD-T", function=apgd, options={"targets": 9}, confirms=True),
    "apgd-t-fast": FunctionAttack(
        name="APGD-T fast", function=apgd, options={"targets": 9, "give_up": 10.0}, confirms=True
    ),
    "fab-t": FunctionAttack(name="FAB-T", function=fab),
    "square": FunctionAttack(name="Square", function=square, confirms=True),
}
FAST = ("fgsm", "pgd-20", "apgd-dlr", "apgd-t-fast")
WHOLE = ("apgd-ce", "apgd-dlr", "apgd-t", "fab-t", "square")
STANDARD = (  # AutoAttack's four, and APGD from more starts; APGD-T, FAB-T and Square leave alone what is hopeless
    ATTACKS["apgd-ce"],
    ATTACKS["apgd-dlr"],
    FunctionAttack(
        name="APGD-margin 5 restarts",
        function=apgd,
        options={"objective": "margin", "restarts": 5, "steps": 50},
        confirms=True,
    ),
    FunctionAttack(
        name="APGD-T 2 restarts", function=apgd, options={"targets": 9, "restarts": 2, "give_up": 10.0}, confirms=True
    ),
    FunctionAttack(name="FAB-T", function=fab, options={"give_up": 1.5}),
    FunctionAttack(name="Square", function=square, options={"give_up": 8.0}, confirms=True),
)
RANDOMIZED = ("APGD-CE", "APGD-DLR")  # what a randomised defense must withstand, with EOT (AutoAttack's "rand")
SUITES: dict[str, Suite] = {
    "fast": Suite("FGSM, PGD-20, APGD-DLR, and APGD-T that leaves hopeless targets alone", _known(*FAST)),
    "standard": Suite(
        "AutoAttack's parts, native: APGD-CE, APGD-T, FAB-T, Square; and APGD on DLR and margin from more starts",
        lambda _: list(STANDARD),
        cascade=True,
    ),
    "autoattack": Suite("the genuine AutoAttack, version standard (extra: autoattack)", _autoattack),
    "randomized": Suite("for randomised defenses: APGD-CE and APGD-DLR with EOT", _known("apgd-ce", "apgd-dlr")),
    "exhaustive": Suite(
        "the fast and the standard suite, to the last step, and APGD on three objectives from five starts each",
        lambda s: [*_known(*FAST)(s), *_restarted(), *_known(*WHOLE)(s)],
        cascade=True,
    ),
}


def is_cascade(suite: str | Sequence[Any]) -> bool:
    """Whether each attack of the suite gets only what the ones before left; a list of the user's own is none."""
    return isinstance(suite, str) and suite in SUITES and SUITES[suite].cascade


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
            attacks[unused(label, attacks)] = attack
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


def unused(label: str, taken: Collection[str]) -> str:
    """``label``, or ``"label (2)"`` and so on where it is taken."""
    number, name = 1, label
    while name in taken:
        number += 1
        name = f"{label} ({number})"
    return name
