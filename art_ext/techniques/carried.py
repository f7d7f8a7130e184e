"""Perturbations that are handed on from batch to batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from art_ext.processes import ALONE, Processes


class Carried:
    """A perturbation for each row of a batch, which the row of that number in the next batch begins with.

    A batch comes in parts, one after the other, and perhaps several times over. One with fewer rows than those before,
    as the last of an epoch is, uses and changes the first of them; the others wait.

    Args:
        processes: who share each batch; each has the perturbations of its own rows.

    Example:
        >>> carried = Carried()
        >>> x = torch.zeros(4, 1)
        >>> carried.begin(4)
        >>> carried.next(x) is None  # nothing is known yet
        True
        >>> carried.keep(torch.arange(4.0)[:, None])
        >>> carried.begin(2)  # a smaller batch, in two parts
        >>> for _ in range(2):
        ...     print(carried.next(x[:1]))
        tensor([[0.]])
        tensor([[1.]])
    """

    def __init__(self, processes: Processes = ALONE) -> None:
        self.processes = processes
        self._delta: Tensor | None = None
        self._known = self._size = 0  # rows that have one, rows of the batch under way
        self._rows = slice(0, 0)  # of the part under way

    def begin(self, rows: int) -> None:
        """A batch of so many rows begins."""
        self._size, self._rows = rows, slice(0, 0)

    def next(self, x: Tensor) -> Tensor | None:
        """The perturbations of the next rows ``x``, shaped and laid out like them; None where some have none yet."""
        begin = 0 if self._rows.stop >= self._size else self._rows.stop
        self._rows = slice(begin, begin + len(x))
        if self._delta is None or self._delta.shape[1:] != x.shape[1:] or self._rows.stop > self._known:
            return None
        return torch.empty_like(x).copy_(self._delta[self._rows])

    @torch.no_grad()
    def keep(self, delta: Tensor) -> None:
        """What became of the perturbations of these rows."""
        if self._delta is None or self._delta.shape[1:] != delta.shape[1:]:
            self._delta, self._known = delta.new_zeros(self._size, *delta.shape[1:]), 0
        elif len(self._delta) < self._size:
            more = delta.new_zeros(self._size - len(self._delta), *delta.shape[1:])
            self._delta = torch.cat((self._delta.to(delta.device), more))
        self._delta = self._delta.to(delta.device)
        self._delta[self._rows] = delta
        self._known = max(self._known, self._rows.stop)

    def state_dict(self) -> dict[str, Any]:
        """The perturbations of all processes, by rank."""
        mine = None if self._delta is None else self._delta[: self._known].cpu()
        return {"deltas": self.processes.gather(mine)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over this process's own.

        Raises:
            ValueError: another number of processes, whose rows would be others.
        """
        deltas, count = state["deltas"], self.processes.count
        if len(deltas) != count:
            raise ValueError(
                f"resume: the perturbations are those of {len(deltas)} processes, now there are {count}: start as many "
                "as before"
            )
        self._delta = deltas[self.processes.rank]
        self._known = 0 if self._delta is None else len(self._delta)
