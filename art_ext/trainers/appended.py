"""Batches with backgrounds behind their images, each as an example of a class of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.engine.batches import Batches
from art_ext.isolation import fingerprint
from art_ext.processes import ALONE, Processes


@dataclass(frozen=True)
class FirstRows(Processes):
    """Processes that share a batch whose last ``extra`` rows somebody else appends.

    Example:
        >>> [FirstRows(rank, 3, extra=2).rows(4) for rank in range(3)]
        [slice(0, 2, None), slice(2, 4, None), slice(3, 4, None)]
    """

    extra: int = 0

    def rows(self, n: int) -> slice:
        """The rows of ``n`` that are this process's; the last one, which does not count, where it has none."""
        whole = super().rows(n + self.extra)
        begin, end = min(whole.start, n - 1), min(whole.stop, n)
        return slice(begin, end)


class WithBackgrounds:
    """The batches of another object, each followed by all backgrounds; processes share the whole.

    Args:
        batches: of images and labels, see `art_ext.engine.batches.Batches`.
        backgrounds: (K, C, H, W) in [0, 1], K ≥ 1.
        first_class: label of the first background; the others count on from there.
    """

    def __init__(self, batches: Batches, backgrounds: Tensor, first_class: int) -> None:
        self._batches, self._backgrounds, self._first = batches, backgrounds, first_class
        extra = len(backgrounds)
        self.batch_size = batches.batch_size + extra
        self.size = batches.size + extra * batches.per_epoch()
        self._processes = ALONE

    @property
    def processes(self) -> Processes:
        """Those that share each batch."""
        return self._processes

    @processes.setter
    def processes(self, processes: Processes) -> None:
        self._processes = processes
        self._batches.processes = FirstRows(processes.rank, processes.count, len(self._backgrounds))

    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._batches.per_epoch()

    def fingerprint(self) -> str:
        """Of the images and of the backgrounds."""
        return f"{self._batches.fingerprint()}/{fingerprint(self._backgrounds)}"

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch after the first ``skip``; of each, this process's rows."""
        labels = torch.arange(len(self._backgrounds)) + self._first
        for number, (x, y) in enumerate(self._batches.epoch(generator, skip), skip):
            n = len(y) if self._processes.count == 1 else self._images(number)
            mine = self._processes.rows(n + len(labels))
            images = slice(0, max(0, min(mine.stop, n) - mine.start))
            behind = slice(max(mine.start, n) - n, max(mine.stop, n) - n)
            together = torch.cat((x[images], self._backgrounds[behind].to(x)))
            # the layout decides in which order noise is drawn, so it must not depend on who has which rows
            yield together.contiguous(memory_format=_layout(x)), torch.cat((y[images], labels[behind].to(y)))

    def _images(self, number: int) -> int:
        """How many images all processes have in the batch of this number."""
        size = self._batches.batch_size
        return min(size, self._batches.size - number * size)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
