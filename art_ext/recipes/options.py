"""Options of what a recipe names: whether it takes them, and those that it takes by default."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from art_ext.recipes.layers import proposal

# of PyTorch's optimizers: how they compute, not what
_HOW = frozenset({"foreach", "maximize", "capturable", "differentiable", "fused"})


def check_options(options: Mapping[str, Any], function: Callable[..., Any], what: str, given: Sequence[str]) -> None:
    """Refuse options that ``function`` does not take, and see that none is missing; ``given`` come from elsewhere.

    Raises:
        ValueError: unknown or missing options; the message proposes the nearest.
    """
    parameters = _parameters(function, given)
    for key in options:
        if key not in parameters:
            hint = proposal(key, sorted(parameters)) if parameters else "it takes none"
            raise ValueError(f"unknown option {key!r} of {what}; {hint}")
    missing = [k for k, p in parameters.items() if p.default is p.empty and k not in options]
    if missing:
        raise ValueError(f"{what} needs the options {', '.join(missing)}")


def with_defaults(options: Mapping[str, Any], function: Callable[..., Any], given: Sequence[str]) -> dict[str, Any]:
    """``options`` and, where they leave one out, what ``function`` takes by default, as plain data.

    Example:
        >>> def multistep(optimizer, milestones, gamma=0.1): ...
        >>> with_defaults({"milestones": [0.5]}, multistep, given=("optimizer",))
        {'milestones': [0.5], 'gamma': 0.1}
    """
    defaults = {k: p.default for k, p in _parameters(function, given).items() if k not in _HOW}
    whole = {k: options.get(k, default) for k, default in defaults.items()} | dict(options)
    return {k: list(value) if isinstance(value, tuple) else value for k, value in whole.items()}


def _parameters(function: Callable[..., Any], given: Sequence[str]) -> dict[str, inspect.Parameter]:
    return {k: p for k, p in inspect.signature(function).parameters.items() if k not in given}
