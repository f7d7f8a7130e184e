"""Which examples a recipe takes, as indices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from art_ext.recipes.data_section import DataSection

Index = NDArray[np.int64]


def train_and_held_out(n: int, section: DataSection, seed: int) -> tuple[Index, Index | None]:
    """Of ``n`` training examples those to train on, and those to hold out; ascending.

    The split is the one that `art_ext.RobustTrainer.fit` draws with that seed.

    Raises:
        ValueError: more examples than there are, or nothing left to train on.

    Example:
        >>> [len(part) for part in train_and_held_out(10, DataSection(name="digits", validation_split=0.2), 0)]
        [8, 2]
    """
    chosen = some(n, section.train_examples, seed, "train_examples")
    if not section.validation_split:
        return chosen, None
    held = max(1, round(section.validation_split * len(chosen)))
    if held >= len(chosen):
        share = section.validation_split
        raise ValueError(f"data.validation_split={share} leaves nothing of {len(chosen)} examples to train on")
    order = np.random.default_rng(seed).permutation(len(chosen))
    return chosen[np.sort(order[held:])], chosen[np.sort(order[:held])]


def some(n: int, number: int | None, seed: int, name: str) -> Index:
    """A random choice of ``number`` of ``n`` (None: all), ascending: sets are often sorted by class.

    Raises:
        ValueError: more than there are; the message speaks of ``data.name``.

    Example:
        >>> len(some(100, 7, 0, "test_examples"))
        7
    """
    if number is None:
        return np.arange(n)
    if number > n:
        raise ValueError(f"data.{name} is {number}, but there are only {n} such images")
    return np.sort(np.random.default_rng(seed).permutation(n)[:number])
