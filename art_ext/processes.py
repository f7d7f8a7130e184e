"""The processes of one training or evaluation: who this one is, and which rows of a batch are its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, reduce
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's number, and how many there are.

    Args:
        rank: from 0; the first one writes the files.
        count: of all processes.

    Example:
        >>> [Processes(rank, 3).rows(8) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> Processes:
        """Those that ``torchrun`` or ``accelerate launch`` started; one by itself where neither did."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        # they wait for the one with the longest batch, not for torch's default of ten minutes
        state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=7))
        return cls(state.process_index, state.num_processes)

    @property
    def is_first(self) -> bool:
        """Whether this process writes the files and shows the progress."""
        return self.rank == 0

    def gather(self, item: T) -> list[T]:
        """The items of all processes, by rank, in each of them."""
        if self.count == 1:
            return [item]
        gathered: list[T] = gather_object([item])
        return gathered

    def agree(self, item: T) -> T:
        """The first one's item: what rounding may make different must not let them part."""
        return self.gather(item)[0]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of the processes' tensors, in each of them."""
        if self.count == 1:
            return tensor
        total: Tensor = reduce(tensor, "sum")
        return total

    def rows(self, n: int) -> slice:
        """The rows of a batch of ``n`` that are this process's, as equal parts as whole rows allow.

        Where there are fewer rows than processes, those without one take the last, which `weight` does not count.
        """
        begin, end = n * self.rank // self.count, n * (self.rank + 1) // self.count
        return slice(begin, end) if end > begin else slice(n - 1, n)

    def parts(self, n: int, parts: int = 1) -> list[Part]:
        """This process's rows of a batch of ``n`` in about so many parts, as many in each process.

        Example:
            >>> for part in Processes(1, 2).parts(10, 2):
            ...     print(part)
            Part(rows=slice(0, 2, None), shared=(4, 2), weight=0.4)
            Part(rows=slice(2, 5, None), shared=(6, 3), weight=0.6)
        """
        sizes = [_length(Processes(rank, self.count).rows(n)) for rank in range(self.count)]
        parts, mine = min(parts, *sizes, n), sizes[self.rank]
        real = [n * (rank + 1) // self.count > n * rank // self.count for rank in range(self.count)]
        found = []
        for i in range(parts):
            begins, ends = ([size * j // parts for size in sizes] for j in (i, i + 1))
            lengths = [end - begin for begin, end in zip(begins, ends, strict=True)]
            rows = slice(mine * i // parts, mine * (i + 1) // parts)
            counted = [length if is_real else 0 for length, is_real in zip(lengths, real, strict=True)]
            # who stands in for nobody's row draws what its owner draws: the last row's numbers
            begin = sum(counted[: self.rank]) if real[self.rank] else sum(counted) - 1
            found.append(Part(rows, (sum(counted), begin), counted[self.rank] * self.count / n))
        return found


class Part(NamedTuple):
    """Some rows of a batch that go through the network together.

    Attributes:
        rows: of this process's share of the batch.
        shared: how many rows of the batch go through the networks of all processes, and how many of those come before
            ours; stand-ins for missing rows do not count.
        weight: of the mean over these rows in the batch's mean, times the number of processes.
    """

    rows: slice
    shared: tuple[int, int]
    weight: float


ALONE = Processes()


class SharedGenerator(torch.Generator):
    """A generator that all processes hold in the same state: each draws for the whole batch and keeps its own rows.

    So the random numbers of an example do not depend on how many processes there are. See `drawn`.
    """

    total = 0
    rows = slice(0, 0)

    def share(self, total: int, begin: int, count: int) -> None:
        """The next draws are for ``total`` rows, of which ``count`` from ``begin`` on are ours."""
        self.total, self.rows = total, slice(begin, begin + count)


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)


def drawn(draw: Callable[[int], Tensor], n: int, generator: torch.Generator | None) -> Tensor:
    """``draw(n)``, random numbers for ``n`` examples; of a `SharedGenerator`, this process's rows of the whole batch's.

    Example:
        >>> generator = torch.Generator()
        >>> drawn(lambda n: torch.rand(n, 2, generator=generator), 5, generator).shape
        torch.Size([5, 2])
    """
    if not isinstance(generator, SharedGenerator) or _length(generator.rows) != n:
        return draw(n)
    return draw(generator.total)[generator.rows]


def drawn_like(x: Tensor, fill: Callable[[Tensor], Tensor], generator: torch.Generator | None) -> Tensor:
    """A tensor of ``x``'s shape and layout that ``fill`` filled in place from ``generator``; see `drawn`."""

    def draw(n: int) -> Tensor:
        if n == len(x):
            return fill(torch.empty_like(x))
        nhwc = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if nhwc else torch.contiguous_format
        return fill(torch.empty((n, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout))

    return drawn(draw, len(x), generator)
