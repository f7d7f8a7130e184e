"""The surroundings of one evaluation: its journal, its deadline, and the processes that share the work."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic

from art_ext.evaluation.journal import Journal
from art_ext.processes import ALONE, Processes


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
    processes: Processes = ALONE
    deadline: float | None = None
    show: bool = False

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline
