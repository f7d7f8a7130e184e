"""Batches that do not fit into memory are done in halves."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor


class BatchHalvedWarning(UserWarning):
    """A batch did not fit into memory and was done in halves: a smaller ``batch_size`` would save the attempts."""


def in_halves(work: Callable[[Tensor], None], index: Tensor) -> None:
    """Do ``work`` on the examples ``index``; where memory runs out, on either half of them, down to a single one.

    Example:
        >>> in_halves(lambda index: print(index.tolist()), torch.arange(3))
        [0, 1, 2]
    """
    try:
        work(index)
    except RuntimeError as error:
        if len(index) == 1 or not out_of_memory(error):
            raise
    else:
        return
    clear_device_cache(garbage_collection=True)
    told = f"a batch of {len(index)} does not fit into memory and is done in halves; give a smaller batch_size"
    warnings.warn(told, BatchHalvedWarning, stacklevel=2)
    for half in index.tensor_split(2):
        in_halves(work, half)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is torch's way of saying that memory ran out, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)
