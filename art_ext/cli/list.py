"""``art-ext list``: what is registered under which name."""

from __future__ import annotations

from typing import Literal

Kind = Literal["losses", "averagings", "objectives", "suites", "data", "augmentations"]


def list_registered(kind: Kind) -> None:
    """Print the names that trainers, attacks and evaluation know, one per line with its description.

    Args:
        kind: what to list.
    """
    lines = registered(kind)
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        print(f"{name:<{width}}  {text}".rstrip())


def registered(kind: Kind) -> list[tuple[str, str]]:
    """Name and one-line description of every entry of that kind."""
    from art_ext.attacks import OBJECTIVES
    from art_ext.averaging import AVERAGINGS
    from art_ext.data import DATASETS
    from art_ext.engine.augment import AUGMENTATIONS
    from art_ext.evaluation.suites import SUITES
    from art_ext.losses import LOSSES

    if kind == "losses":
        return [(name, f"{loss.description} ({loss.paper})") for name, loss in LOSSES.items()]
    if kind in ("averagings", "augmentations"):
        documented = AVERAGINGS if kind == "averagings" else AUGMENTATIONS
        return [(name, (entry.__doc__ or "").partition("\n")[0]) for name, entry in documented.items()]
    described = {"objectives": OBJECTIVES, "suites": SUITES, "data": DATASETS}[kind]
    return [(name, entry.description) for name, entry in described.items()]
