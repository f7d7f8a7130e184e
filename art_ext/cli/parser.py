"""The parser of the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, get_origin, get_type_hints

from jsonargparse import ArgumentParser


class Parser(ArgumentParser):
    """jsonargparse's parser, but a required list takes all words, as ``cp`` and ``cat`` do, not one word ``[a,b]``."""

    def add_function_arguments(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Add the arguments of a verb; its required lists of texts take one word or more."""
        lists = _required_lists(function)
        kwargs["skip"] = {*(kwargs.get("skip") or ()), *lists}
        added = super().add_function_arguments(function, *args, **kwargs)
        for name in lists:
            self.add_argument(name, nargs="+", type=str, help=_said_of(name, function))
        return [*added, *lists]


def _required_lists(function: Callable[..., Any]) -> list[str]:
    hints, parameters = get_type_hints(function), inspect.signature(function).parameters
    return [n for n, p in parameters.items() if p.default is p.empty and get_origin(hints.get(n)) is list]


def _said_of(name: str, function: Callable[..., Any]) -> str:
    """The line on an argument in the docstring."""
    found = re.search(rf"^ +{re.escape(name)}: (.+)$", inspect.getdoc(function) or "", re.MULTILINE)
    return found[1] if found else "one or more"
