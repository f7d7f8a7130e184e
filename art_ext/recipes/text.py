"""YAML as recipes are written in: JSON's numbers, and fractions such as ``8/255``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FRACTION = re.compile(r"^[-+]?\d+(?:\.\d*)?/\d+(?:\.\d*)?$")
_EXPONENT = re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$")  # 1e-4, which YAML 1.1 takes for a text
_FIRST = list("-+.0123456789")


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


def fraction(text: str) -> float:
    """The number that ``a/b`` stands for.

    Raises:
        ValueError: not a fraction of two numbers, or a division by zero.

    Example:
        >>> fraction("8/255") == 8 / 255
        True
    """
    if not FRACTION.match(text):
        raise ValueError(f"a fraction is two numbers, as in 8/255; got {text!r}")
    above, below = (float(part) for part in text.split("/"))
    if below == 0:
        raise ValueError(f"division by zero in {text!r}")
    return above / below


def parse(text: str, *, source: str = "the text") -> dict[str, Any]:
    """The mapping that a YAML text holds.

    A word ``a/b`` of two numbers is a fraction; where a text is meant, put it in quotes.

    Raises:
        ValueError: no YAML, no mapping, a key twice; the message names ``source`` and the line.

    Example:
        >>> parse("threat: {eps: 2/8}")
        {'threat': {'eps': 0.25}}
    """
    try:
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{source} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{source} must hold a mapping of sections; it holds {type(content).__name__}")
    return content


def read(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `parse`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no recipe at {path}")
    return parse(path.read_text(encoding="utf-8"), source=str(path))


def dump(content: Mapping[str, Any]) -> str:
    """``content`` as YAML that `parse` reads back to the same; numbers that are 255ths are written so.

    Example:
        >>> print(dump({"threat": {"eps": 8 / 255, "norm": "linf"}}), end="")
        threat:
          eps: 8/255
          norm: linf
    """
    return yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is there twice", key_node.start_mark)
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _number(dumper: _Dumper, value: float) -> yaml.ScalarNode:
    levels = round(value * 255) if abs(value) < 1e6 else 0
    if levels and value == levels / 255 and len(repr(value)) > 6:
        return dumper.represent_scalar("!fraction", f"{levels}/255")
    return dumper.represent_float(value)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("!fraction", lambda loader, node: fraction(node.value))
_Dumper.add_representer(float, _number)
for _tool in (_Loader, _Dumper):
    _tool.add_implicit_resolver("!fraction", FRACTION, _FIRST)
    _tool.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, _FIRST)
