"""Where the steps of a quantizer lie: evenly, or as the data are spread."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_ext.nn.ranges import check_between, check_count, check_temperature


def uniform_thresholds(levels: int) -> Tensor:
    """(i − ½) / (L − 1) for i = 1 … L − 1: rounding to L levels from 0 to 1.

    Example:
        >>> uniform_thresholds(3)
        tensor([0.2500, 0.7500])
    """
    check_count(2, levels=levels)
    return torch.tensor([(i - 0.5) / (levels - 1) for i in range(1, levels)])


def learn_thresholds(x: NDArray[Any], levels: int, *, per_channel: bool = False) -> Tensor:
    """Quantiles i / L of the pixels, so that each level gets as many of them.

    Pixels of exactly 0 and 1 are left out: the black and white fields of drawings would be all there is.

    Args:
        x: images (N, C, H, W) in [0, 1].
        levels: L ≥ 2.
        per_channel: thresholds for each channel.

    Returns:
        float32 (L − 1,), or (C, L − 1).

    Raises:
        ValueError: images of another shape, fewer different values than thresholds.

    Example:
        >>> learn_thresholds(np.linspace(0, 1, 1001).reshape(1, 1, 7, 143), 2)
        tensor([0.5000])
    """
    check_count(2, levels=levels)
    if x.ndim != 4:
        raise ValueError(f"x must be images (N, C, H, W); got shape {x.shape}")
    rows = np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) if per_channel else x.reshape(1, -1)
    found = torch.stack([_quantiles(row, levels) for row in rows])
    return found if per_channel else found[0]


def _quantiles(values: NDArray[Any], levels: int) -> Tensor:
    inner = values[(values > 0) & (values < 1)]
    points = np.quantile(inner, np.arange(1, levels) / levels) if inner.size else np.empty(0)
    found = torch.as_tensor(points, dtype=torch.float32)
    if len(found) != levels - 1 or not bool((found.diff() > 0).all()):
        raise ValueError(
            f"{levels} levels need {levels - 1} different quantiles, and the pixels between 0 and 1 have too few "
            "different values: use fewer levels, or thresholds=None for even ones"
        )
    return found


def annealed(progress: float, *, soft: float, sharp: float) -> float:
    """The temperature after a share ``progress`` of the training, from soft to sharp along a geometric line.

    Args:
        progress: in [0, 1].
        soft: temperature at the beginning, in (0, 100].
        sharp: at the end, in (0, 100].

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> [round(annealed(p, soft=1.0, sharp=0.01), 3) for p in (0, 0.5, 1)]
        [1.0, 0.1, 0.01]
    """
    check_between(0, 1, progress=progress)
    check_temperature(soft=soft, sharp=sharp)
    return float(soft * (sharp / soft) ** progress)
