"""A recipe in layers: its bases, itself, what the command line says; each layer is a mapping of sections."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

from art_ext.naming import lookup
from art_ext.recipes.sections import NAMED_OPTIONS, NOT_IN_RECIPES, SECTIONS, TEXTS
from art_ext.recipes.text import read

Layer = Mapping[str, Any]
BASE = "base"


def shipped() -> dict[str, Path]:
    """The recipes that ship with the package, by name.

    Example:
        >>> "fashion-mnist-5k-piat" in shipped()
        True
    """
    folder = Path(str(files("art_ext") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find(recipe: str | Path, beside: Path | None = None) -> Path:
    """The file of a recipe that is given as a path or as the name of a shipped one.

    Args:
        recipe: ends in ``.yaml`` or ``.yml``, or has a folder in front: a path; else a name.
        beside: folder that a relative path starts from; default the working directory.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no such name; the nearest one is proposed.
    """
    path = Path(recipe).expanduser()
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        path = (beside or Path()) / path
        if not path.is_file():
            raise FileNotFoundError(f"no recipe at {path}")
        return path
    return lookup(shipped(), str(recipe), what="recipe (a name, or the path of a .yaml file)")


def read_layers(recipe: str | Path) -> dict[str, Any]:
    """The recipe's mapping with that of its ``base:``, and of the base's base, underneath.

    Raises:
        FileNotFoundError: a missing file.
        ValueError: unknown keys, bases in a circle, no YAML.
    """
    chain: list[Path] = []
    content: dict[str, Any] = {}
    named: Any = recipe
    while named is not None:
        if not isinstance(named, str | Path):
            raise ValueError(f"base in {chain[-1]} must be a name or a path; got {named!r}")
        path = find(named, chain[-1].parent if chain else None)
        if path.resolve() in (seen.resolve() for seen in chain):
            raise ValueError(f"the bases of {recipe} go in a circle: {' → '.join(map(str, [*chain, path]))}")
        chain.append(path)
        layer = read(path)
        named = layer.pop(BASE, None)
        check_keys(layer, source=str(path))
        content = merged(layer, content)
    return content


def merged(under: Layer, over: Layer) -> dict[str, Any]:
    """Two layers as one; ``over`` wins key by key, down to single options.

    Where ``over`` names another loss (averaging, inner attack, architecture, optimizer, schedule) than ``under``, the
    options that belonged to the former are dropped: they mean nothing to the new one.

    Example:
        >>> under = {"trainer": {"loss": "nmse", "loss_options": {"mu": 4.0}, "steps": 10}}
        >>> merged(under, {"trainer": {"loss": "trades"}})
        {'trainer': {'loss': 'trades', 'steps': 10}}
    """
    result = {key: dict(value) if isinstance(value, Mapping) else value for key, value in under.items()}
    for section, name, options in NAMED_OPTIONS:
        below, above = result.get(section), over.get(section)
        if not (isinstance(below, dict) and isinstance(above, Mapping)):
            continue
        if name in above and above[name] != below.get(name, _default(section, name)):
            below.pop(options, None)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _default(section: str, name: str) -> Any:
    """What a field is where no layer says it; None where one must."""
    default = next(f.default for f in fields(SECTIONS[section]) if f.name == name)
    return None if default is MISSING else default


def _merged(under: Layer, over: Layer) -> dict[str, Any]:
    both = {k: _merged(under[k], over[k]) for k in under.keys() & over.keys() if _mappings(under[k], over[k])}
    return {**under, **over, **both}


def _mappings(*values: Any) -> bool:
    return all(isinstance(value, Mapping) for value in values)


def keys_of(section: str) -> list[str]:
    """The keys that a section knows.

    Example:
        >>> keys_of("threat")
        ['eps', 'norm']
    """
    return [f.name for f in fields(SECTIONS[section]) if f.name not in NOT_IN_RECIPES]


def check_keys(layer: Layer, *, source: str = "the recipe") -> None:
    """Refuse keys that no recipe has.

    Raises:
        ValueError: an unknown key; the message names ``source`` and proposes the nearest key.

    Example:
        >>> check_keys({"trainer": {"lss": "nmse"}})
        Traceback (most recent call last):
        ...
        ValueError: the recipe: unknown key 'trainer.lss'; did you mean 'trainer.loss'?
    """
    for key, value in layer.items():
        if key in TEXTS:
            continue
        if key not in SECTIONS:
            raise ValueError(f"{source}: unknown key {key!r}; {proposal(str(key), [*SECTIONS, *TEXTS, BASE])}")
        if not isinstance(value, Mapping):
            raise ValueError(
                f"{source}: {key} must be a section with the keys {', '.join(keys_of(key))}; got {value!r}"
            )
        for name in value:
            if name not in keys_of(key):
                wrong = f"{key}.{name}"
                raise ValueError(f"{source}: unknown key {wrong!r}; {proposal(wrong, dotted_keys())}")


def dotted_keys() -> list[str]:
    """Every key of a recipe with its section in front: ``trainer.loss``."""
    return [*TEXTS, *(f"{section}.{key}" for section in SECTIONS for key in keys_of(section))]


def proposal(wrong: str, known: list[str]) -> str:
    """What a wrong key was probably meant to be: the same key of another section, or a similar one.

    Example:
        >>> proposal("trainer.eps", ["trainer.steps", "threat.eps"])
        "did you mean 'threat.eps'?"
    """
    leaf = wrong.rpartition(".")[2]
    same = [key for key in known if key.rpartition(".")[2] == leaf]
    near = same or get_close_matches(wrong, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
