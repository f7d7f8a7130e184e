"""``art-ext list``: what is registered under which name."""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["losses", "averagings", "objectives", "suites", "data", "augmentations", "recipes", "grids"]


def list_registered(kind: Kind, markdown: bool = False) -> None:
    """Print the names that trainers, attacks and evaluation know, one per line with its description.

    Args:
        kind: what to list.
        markdown: as the rows of a table.
    """
    print("\n".join(markdown_rows(kind) if markdown else aligned_rows(kind)))


def aligned_rows(kind: Kind) -> list[str]:
    """The entries in two columns."""
    lines = registered(kind)
    width = max(len(name) for name, _ in lines)
    return [f"{name:<{width}}  {text}".rstrip() for name, text in lines]


def markdown_rows(kind: Kind) -> list[str]:
    """The entries as rows of a Markdown table; the README's tables are these."""
    return [f"| `{name}` | {text} |" for name, text in registered(kind)]


def registered(kind: Kind) -> list[tuple[str, str]]:
    """Name and one-line description of every entry of that kind."""
    from art_ext.attacks import OBJECTIVES
    from art_ext.averaging import AVERAGINGS
    from art_ext.data import DATASETS
    from art_ext.engine.augment import AUGMENTATIONS
    from art_ext.evaluation.suites import SUITES
    from art_ext.losses import LOSSES

    if kind == "recipes":
        return _recipes()
    if kind == "grids":
        return _grids()
    if kind == "losses":
        return [(name, f"{loss.description} — {loss.paper}") for name, loss in sorted(LOSSES.items())]
    documented: dict[str, dict[str, Any]] = {"averagings": AVERAGINGS, "augmentations": AUGMENTATIONS}
    if kind in documented:
        return [(name, (entry.__doc__ or "").partition("\n")[0]) for name, entry in documented[kind].items()]
    described: dict[str, dict[str, Any]] = {"objectives": OBJECTIVES, "suites": SUITES, "data": DATASETS}
    return [(name, entry.description) for name, entry in described[kind].items()]


def _recipes() -> list[tuple[str, str]]:
    from art_ext.recipes.layers import read_layers, shipped

    contents = {name: read_layers(path) for name, path in shipped().items()}
    return [
        (name, " — ".join(c[key] for key in ("description", "paper") if c.get(key))) for name, c in contents.items()
    ]


def _grids() -> list[tuple[str, str]]:
    from art_ext.comparison import load_grid, shipped_grids

    grids = [load_grid(name) for name in shipped_grids()]
    return [(grid.name, " — ".join(filter(None, (grid.description, grid.paper)))) for grid in grids]
