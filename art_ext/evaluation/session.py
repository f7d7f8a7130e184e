"""The surroundings of one evaluation: its journal, its deadline, and the processes that share the work."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from art_ext.evaluation.journal import Journal

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """Of one evaluation: this one's number and how many there are; each takes every ``count``-th batch."""

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

    def gather(self, item: T) -> list[T]:
        """The items of all processes, by rank, in each of them."""
        if self.count == 1:
            return [item]
        gathered: list[T] = gather_object([item])
        return gathered

    def agree(self, item: T) -> T:
        """The first one's item: what rounding may make different must not let them part."""
        return self.gather(item)[0]


def deadline_in(seconds: float | None) -> float | None:
    """So many seconds from now, as a `Session` takes it."""
    return None if seconds is None else monotonic() + seconds


def _no_journal() -> Journal:
    return Journal(None, {})


@dataclass(frozen=True)
class Session:
    """What the attacks of an evaluation ask beside their bench.

    Args:
        journal: finished batches.
        processes: who shares the work.
        deadline: on the clock of `time.monotonic`, from which on no batch begins; None for none.
        show: a progress bar, in the first process.
    """

    journal: Journal = field(default_factory=_no_journal)
    processes: Processes = Processes()
    deadline: float | None = None
    show: bool = False

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline
