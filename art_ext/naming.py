"""Names: look-ups that answer a wrong one with the nearest right one, and objects as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


def lookup(registry: Mapping[str, T], name: str, *, what: str) -> T:
    """``registry[name]``.

    Raises:
        ValueError: unknown ``name``; the message proposes the nearest known one and lists them all.

    Example:
        >>> lookup({"trades": 1, "mart": 2}, "trade", what="loss")
        Traceback (most recent call last):
        ...
        ValueError: unknown loss 'trade'; did you mean 'trades'? known: mart, trades
    """
    if name in registry:
        return registry[name]
    near = get_close_matches(str(name).lower(), registry, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {name!r};{hint} known: {', '.join(sorted(registry))}")


def described(attack: Any) -> str:
    """An attack, or a model, and its hyper-parameters as text that is the same in the next process."""
    parameters: dict[str, Any] = {name: getattr(attack, name, None) for name in getattr(attack, "attack_params", ())}
    if not parameters and " object at 0x" in repr(attack):
        parameters = dict(vars(attack))
    text = f"{type(attack).__name__} {parameters}" if parameters else repr(attack)
    return re.sub(r" at 0x[0-9a-fA-F]+", "", text)
