"""Look-ups by name that answer a wrong name with the nearest right one."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

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
