"""Fewer classes, or wrong labels on purpose: pure functions of arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_ext.data.sets import Labels


def subset(x: NDArray[Any], y: NDArray[Any], classes: Sequence[int]) -> tuple[NDArray[Any], Labels]:
    """The examples of some classes, with new labels.

    Args:
        x: inputs (N, ...).
        y: whole-number labels (N,).
        classes: the labels to keep; ``classes[i]`` becomes label i.

    Returns:
        Copies of the inputs and int64 labels in [0, ``len(classes)``), in the order they came in.

    Raises:
        ValueError: different lengths; no class, one given twice, or one that no example has.
        TypeError: labels that are not whole numbers.

    Example:
        >>> x, y = subset(np.arange(5), np.array([3, 1, 4, 1, 3]), [4, 3])
        >>> x, y
        (array([0, 2, 4]), array([1, 0, 1]))
    """
    if len(x) != len(y):
        raise ValueError(f"x and y must have the same length; got {len(x)} examples and {len(y)} labels")
    renumbered = renumber(_whole(y), classes)
    kept = renumbered >= 0
    return x[kept], renumbered[kept]


def renumber(y: Labels, classes: Sequence[int]) -> Labels:
    """``classes[i]`` → i, all other labels → -1; errors as `subset`.

    Example:
        >>> renumber(np.array([3, 1, 4]), [4, 3])
        array([ 1, -1,  0])
    """
    if not len(classes):
        raise ValueError("classes must name at least one class; got none")
    twice = [label for label, times in Counter(map(int, classes)).items() if times > 1]
    if twice:
        raise ValueError(f"classes must differ; got {twice} more than once")
    present = np.unique(y)
    absent = sorted(set(map(int, classes)) - set(present.tolist()))
    if absent:
        raise ValueError(f"no example has the label {absent[0]}; the labels lie in {present.min()}..{present.max()}")
    out = np.full(len(y), -1, np.int64)
    for new, old in enumerate(classes):
        out[y == old] = new
    return out


def with_label_noise(y: NDArray[Any], share: float, *, num_classes: int, seed: int = 0) -> Labels:
    """Labels of which a share is wrong: each of those is another class, all others being as likely.

    Args:
        y: whole-number labels (N,) in [0, ``num_classes``); not modified.
        share: in [0, 1]; ``round(share * N)`` labels become wrong.
        num_classes: at least 2.
        seed: decides which labels and what they become; the same on every machine.

    Returns:
        int64 labels (N,).

    Raises:
        ValueError: a value out of its range, or labels out of theirs.
        TypeError: labels that are not whole numbers.

    Example:
        >>> y = np.arange(10)
        >>> int((with_label_noise(y, 0.3, num_classes=10) != y).sum())
        3
    """
    labels = _whole(y)
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1]; got {share!r}")
    if num_classes < 2:
        raise ValueError(f"num_classes must be at least 2, or no label could be wrong; got {num_classes!r}")
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(f"y must lie in 0..{num_classes - 1}; it covers {labels.min()}..{labels.max()}")
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(labels), round(share * len(labels)), replace=False)
    labels[chosen] = (labels[chosen] + generator.integers(1, num_classes, len(chosen))) % num_classes
    return labels


def _whole(y: NDArray[Any]) -> Labels:
    """A copy as int64."""
    if not isinstance(y, np.ndarray) or not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        got = f"{y.dtype} {y.shape}" if isinstance(y, np.ndarray) else type(y).__name__
        raise TypeError(f"y must be an array (N,) of whole numbers; got {got}; of one-hot labels: y.argmax(1)")
    return y.astype(np.int64)
