"""``art-ext list``: what is registered under which name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from art_ext.naming import lookup

Rows = list[tuple[str, str]]  # name and one line


def list_registered(kind: str, markdown: bool = False) -> None:
    """Print what can be named: losses, attacks, recipes and so on, one per line with its description.

    Args:
        kind: what to list; kinds for the words that can stand here.
        markdown: as the rows of a table.
    """
    try:
        print("\n".join(markdown_rows(kind) if markdown else aligned_rows(kind)))
    except ValueError as error:
        print(f"art-ext list: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def aligned_rows(kind: str) -> list[str]:
    """The entries in two columns."""
    lines = registered(kind)
    width = max(len(name) for name, _ in lines)
    return [f"{name:<{width}}  {text}".rstrip() for name, text in lines]


def markdown_rows(kind: str) -> list[str]:
    """The entries as rows of a Markdown table; the README's tables are these."""
    return [f"| `{name}` | {text} |" for name, text in registered(kind)]


def registered(kind: str) -> Rows:
    """Name and one-line description of every entry of that kind.

    Raises:
        ValueError: an unknown kind, or one without entries; the nearest one is proposed.
    """
    found = {**KINDS, "kinds": _kinds}.get(kind, list)()
    if not found:  # unknown, or nothing of that kind yet
        lookup(dict([*_kinds(), ("kinds", "")]), kind, what="kind")
    return found


def _kinds() -> Rows:
    counted = ((name, len(rows())) for name, rows in KINDS.items())
    return [(name, f"{number} {'entries' if number > 1 else 'entry'}") for name, number in counted if number]


def _losses() -> Rows:
    from art_ext.losses import LOSSES

    return [(name, f"{loss.description} — {loss.paper}") for name, loss in sorted(LOSSES.items())]


def _averagings() -> Rows:
    from art_ext.averaging import AVERAGINGS

    return _documented(AVERAGINGS)


def _techniques() -> Rows:
    from art_ext.techniques import TECHNIQUES

    return [(name, f"{cls.__name__}: {cls.description} — {cls.paper}") for name, cls in sorted(TECHNIQUES.items())]


def _inner_attacks() -> Rows:
    from art_ext.attacks import INNER_ATTACKS

    return [(name, f"{info.description} — {info.paper}") for name, info in INNER_ATTACKS.items()]


def _objectives() -> Rows:
    from art_ext.attacks import OBJECTIVES

    return _described(OBJECTIVES)


def _attacks() -> Rows:
    from art_ext.attacks import fgsm, pgd
    from art_ext.evaluation.suites import ATTACKS

    rows = []
    for name, attack in ATTACKS.items():
        function = getattr(attack, "function", fgsm if getattr(attack, "steps", None) == 1 else pgd)
        rows.append((name, f"{attack.name}: {_first_line(function)}"))
    return rows


def _suites() -> Rows:
    from art_ext.evaluation.suites import SUITES

    return _described(SUITES)


def _data() -> Rows:
    from art_ext.data import DATASETS
    from art_ext.recipes.images import STREAMS

    return _described({**DATASETS, **STREAMS})


def _augmentations() -> Rows:
    from art_ext.engine.augment import AUGMENTATIONS

    return _documented(AUGMENTATIONS)


def _trainers() -> Rows:
    from art_ext.trainers import TRAINERS

    return [(name, f"{t.trainer.__name__}: {t.description} — {t.paper}") for name, t in TRAINERS.items()]


def _preprocessors() -> Rows:
    from art_ext.preprocessors import PREPROCESSORS

    return [(name, f"{cls.__name__}: {cls.description} — {cls.paper}") for name, cls in PREPROCESSORS.items()]


def _optimizers() -> Rows:
    from art_ext.recipes.optimizers import OPTIMIZERS

    return [(name, f"torch.optim.{optimizer.__name__}") for name, optimizer in OPTIMIZERS.items()]


def _schedules() -> Rows:
    from art_ext.recipes.optimizers import SCHEDULES

    return _documented(SCHEDULES)


def _recipes() -> Rows:
    from art_ext.recipes.layers import read_layers, shipped

    contents = {name: read_layers(path) for name, path in shipped().items()}
    return [
        (name, " — ".join(c[key] for key in ("description", "paper") if c.get(key))) for name, c in contents.items()
    ]


def _grids() -> Rows:
    from art_ext.comparison import load_grid, shipped_grids

    grids = [load_grid(name) for name in shipped_grids()]
    return [(grid.name, " — ".join(filter(None, (grid.description, grid.paper)))) for grid in grids]


def _studies() -> Rows:
    from art_ext.reproduce import STUDIES

    return [(name, f"{study.description} — {study.paper}") for name, study in STUDIES.items()]


KINDS: dict[str, Callable[[], Rows]] = {
    "losses": _losses,
    "averagings": _averagings,
    "techniques": _techniques,
    "inner-attacks": _inner_attacks,
    "objectives": _objectives,
    "attacks": _attacks,
    "suites": _suites,
    "trainers": _trainers,
    "preprocessors": _preprocessors,
    "optimizers": _optimizers,
    "schedules": _schedules,
    "augmentations": _augmentations,
    "data": _data,
    "recipes": _recipes,
    "grids": _grids,
    "studies": _studies,
}


def _documented(entries: Mapping[str, Any]) -> Rows:
    return [(name, _first_line(entry)) for name, entry in entries.items()]


def _described(entries: Mapping[str, Any]) -> Rows:
    return [(name, entry.description) for name, entry in entries.items()]


def _first_line(entry: Any) -> str:
    return (entry.__doc__ or "").partition("\n")[0]


def names(kinds: Iterable[str]) -> list[str]:
    """The names of all entries of these kinds.

    Example:
        >>> names(["averagings"])
        ['piat', 'ema', 'swa', 'fawa']
    """
    return [name for kind in kinds for name, _ in registered(kind)]
