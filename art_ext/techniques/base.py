"""The registry of techniques, and several of them for one training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from art_ext.naming import lookup
from art_ext.technique import Technique, Techniques

TECHNIQUES: dict[str, type[Technique]] = {}
T = TypeVar("T", bound=type[Technique])


def register(name: str, description: str, *, paper: str) -> Callable[[T], T]:
    """Class decorator: put a `Technique` into the registry, from which README, command line and tests read."""

    def enter(cls: T) -> T:
        if name in TECHNIQUES:
            raise ValueError(f"a technique named {name!r} is registered already: {TECHNIQUES[name].__name__}")
        cls.name, cls.description, cls.paper = name, description, paper
        TECHNIQUES[name] = cls
        return cls

    return enter


def get_technique(technique: str | Technique, **options: Any) -> Technique:
    """The technique of that name with these options; an object as it is.

    Raises:
        ValueError: unknown name (the nearest one is proposed).
        TypeError: neither a name nor a `Technique`.
    """
    if isinstance(technique, str):
        return lookup(TECHNIQUES, technique, what="technique")(**options)
    if not isinstance(technique, Technique):
        raise TypeError(f"techniques must be names or Technique objects; got {type(technique).__name__}")
    return technique


def put_together(techniques: str | Technique | Sequence[str | Technique], loss: Any, attack: Any) -> Technique:
    """That of the loss, the given ones on top of it, then those that the attack brings, checked against each other.

    An inner attack may name some in ``brings``; a given one of that name takes the place of its.

    Raises:
        ValueError: unknown name; one that does not go with the loss, the attack or another one; one given twice.
        TypeError: neither names nor objects.
    """
    given = [techniques] if isinstance(techniques, str | Technique) else list(techniques)
    own = loss.technique()
    parts = [*([] if own is None else [own]), *map(get_technique, given)]
    names = [part.name for part in parts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"techniques {', '.join(twice)}: given twice; leave one out")
    parts += [get_technique(name) for name in getattr(attack, "brings", ()) if name not in names]
    for part in parts:
        for other in part.excludes.keys() & set(names):
            raise ValueError(
                f"technique {part.name!r} does not go with {other!r}: {part.excludes[other]}; leave one out"
            )
    together = parts[0] if len(parts) == 1 else Techniques(parts) if parts else Technique()
    together.check(loss, attack)
    return together
