"""Reading a grid: what is wrong in it is told before any run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from art_ext.averaging import AVERAGINGS
from art_ext.comparison.grid import NONE, Grid, Method, shipped_grids
from art_ext.comparison.judging import Judging
from art_ext.naming import lookup
from art_ext.recipes.layers import Layer, check_keys, find, merged, proposal, read_layers
from art_ext.recipes.sections import SECTIONS, TEXTS
from art_ext.recipes.text import read

KEYS = (*TEXTS, "base", "recipe", "methods", "averaging", "seeds", "threats", "evaluation")
METHOD_KEYS = (*SECTIONS, "label", "art", "art_options")
THREAT_KEYS = ("eps", "norm", "step_size")
# of the section trainer: what a method with one of ART's trainers cannot say
ARTS_OWN = frozenset(
    {"kind", "loss", "loss_options", "averaging", "averaging_options", "attack", "attack_options", "techniques", "vit"}
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


def load_grid(grid: str | Path) -> Grid:
    """A grid file, or a shipped grid by its name.

    Args:
        grid: path of a YAML file, or a name in `shipped_grids`. Its ``base`` is a recipe by name, or by a path relative
            to the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an unknown name or key (the nearest is proposed), a wrong value, nothing to compare.

    Example:
        >>> list(load_grid("fashion-mnist-5k-grid").methods)[:2]
        ['pgd-at', 'nmse']
    """
    path = Path(grid).expanduser()
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        path = lookup(shipped_grids(), str(grid), what="grid (a name, or the path of a .yaml file)")
    if not path.is_file():
        raise FileNotFoundError(f"no grid at {path}")
    return grid_of(read(path), name=path.stem, beside=path.parent)


def grid_of(content: Layer, *, name: str = "grid", beside: Path | None = None) -> Grid:
    """The grid in a mapping.

    Args:
        content: as in the file.
        name: for messages.
        beside: folder that the path of the base starts from; default the working directory.

    Raises:
        FileNotFoundError: no such base.
        ValueError: as `load_grid`.

    Example:
        >>> grid_of({"base": "fashion-mnist-5k-piat", "methods": {}})
        Traceback (most recent call last):
        ...
        ValueError: grid grid: methods must name at least one method; got {}
    """
    source = f"grid {name}"
    _known(content, KEYS, source)
    shared = content.get("recipe") or {}
    check_keys(shared, source=f"{source}, recipe")
    base = read_layers(find(content["base"], beside)) if content.get("base") else {}
    named = _named(content.get("methods"), f"{source}: methods")
    methods = {key: _method(key, value, f"{source}, method {key}") for key, value in named.items()}
    _once([method.label for method in methods.values()], f"{source}: label of methods")
    return Grid(
        name=name,
        **{key: str(content.get(key, "")) for key in TEXTS},
        recipe=merged(base, shared),
        methods=methods,
        averaging=_averagings(content.get("averaging"), source),
        threats=_threats(content.get("threats"), source),
        seeds=_seeds(content.get("seeds", [0]), source),
        judging=_judging(content.get("evaluation") or {}, source),
    )


def _known(content: Any, keys: Sequence[str], source: str) -> None:
    if not isinstance(content, Mapping):
        raise ValueError(f"{source} must be a mapping with the keys {', '.join(keys)}; got {content!r}")
    for key in content:
        if key not in keys:
            raise ValueError(f"{source}: unknown key {key!r}; {proposal(str(key), list(keys))}")


def _named(content: Any, what: str) -> Mapping[str, Any]:
    """A mapping of at least one entry, whose names can be those of folders."""
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{what} must name at least one {what.rpartition(' ')[2].rstrip('s')}; got {content!r}")
    for name in content:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"{what}: a name has letters, digits, '.', '+' and '-' only; got {name!r}")
    return content


def _method(name: str, content: Any, source: str) -> Method:
    content = content or {}
    _known(content, METHOD_KEYS, source)
    layer = {key: value for key, value in content.items() if key in SECTIONS}
    check_keys(layer, source=source)
    if content.get("art_options") and not content.get("art"):
        raise ValueError(f"{source}: art_options {content['art_options']} need art, the kind of ART's trainer")
    own = layer.get("trainer", {}).keys() & ARTS_OWN
    if content.get("art") and own:
        raise ValueError(
            f"{source}: ART's trainers have a loss and an attack of their own; trainer.{min(own)} cannot be set"
        )
    return Method(
        label=str(content.get("label", name)),
        layer=layer,
        art=content.get("art"),
        art_options=content.get("art_options") or {},
    )


def _averagings(content: Any, source: str) -> Mapping[str, Mapping[str, Any]] | None:
    """An axis as a list of names, or as a mapping from names to options."""
    if content is None:
        return None
    what = f"{source}: averaging"
    if isinstance(content, list):
        _once([str(name) for name in content], what)
        content = {NONE if name is None else str(name): {} for name in content}
    for name in _named(content, what):
        if name not in (NONE, *AVERAGINGS):
            raise ValueError(f"{what}: unknown averaging {name!r}; {proposal(name, [NONE, *AVERAGINGS])}")
    return {name: options or {} for name, options in content.items()}


def _threats(content: Any, source: str) -> Mapping[str, Mapping[str, Any]] | None:
    if content is None:
        return None
    for name, threat in _named(content, f"{source}: threats").items():
        _known(threat, THREAT_KEYS, f"{source}, threat {name}")
        if "eps" not in threat:
            raise ValueError(f"{source}, threat {name}: eps is missing")
    return {name: dict(threat) for name, threat in content.items()}


def _seeds(content: Any, source: str) -> tuple[int, ...]:
    whole = isinstance(content, list) and all(type(seed) is int and seed >= 0 for seed in content)
    if not whole or not content:
        raise ValueError(f"{source}: seeds must be a list of at least one whole number from 0 up; got {content!r}")
    _once(content, f"{source}: seeds")
    return tuple(content)


def _once(names: Sequence[Any], what: str) -> None:
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise ValueError(f"{what}: {twice[0]!r} is there twice")


def _judging(content: Any, source: str) -> Judging:
    _known(content, [f.name for f in fields(Judging)], f"{source}, evaluation")
    try:
        return Judging(**content)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{source}, evaluation: {error}") from error
