"""Checks of hyper-parameters, by name."""

from __future__ import annotations

from math import inf
from numbers import Integral, Real
from typing import Any

HOTTEST = 100  # of temperatures, our decision


def check_between(low: float, high: float, **values: Any) -> None:
    """Refuse numbers outside [``low``, ``high``].

    Example:
        >>> check_between(0, 1, alpha=1.5)
        Traceback (most recent call last):
        ...
        ValueError: alpha must be a number in [0, 1]; got 1.5
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not low <= float(value) <= high:
            raise ValueError(f"{name} must be a number in [{low:g}, {high:g}]; got {value!r}")


def check_positive(**values: Any) -> None:
    """Refuse what is not a finite number above 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < inf:
            raise ValueError(f"{name} must be a finite number > 0; got {value!r}")


def check_temperature(**values: Any) -> None:
    """Refuse what is no number in (0, 100]: hotter, a staircase on [0, 1] is a line to the last digit, then 0 / 0."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) <= HOTTEST:
            raise ValueError(f"{name} must be a number in (0, {HOTTEST}]; got {value!r}")


def check_count(least: int, **values: Any) -> None:
    """Refuse what is not a whole number of at least ``least``."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}; got {value!r}")
