"""How far a long piece of work has come: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType

from tqdm.asyncio import tqdm_asyncio
from tqdm.auto import tqdm

LINE_EVERY = 30.0  # seconds between two lines of a log file that nobody asked for
LINE = "{desc}{n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}]{postfix}"
IN_NOTEBOOK = tqdm is not tqdm_asyncio  # tqdm's own choice; its widgets do not write to stderr


class Lines:
    """What `tqdm` shows, for a file: whole lines without control characters.

    A line is written every 30 seconds, with `refresh`, and at the end. The methods are those of `tqdm`.

    Args:
        total: units of work in all.
        unit: their name.
        done: those that were done before this process began; they say nothing about its speed.

    Example:
        >>> lines = Lines(20, "batch")
        >>> lines.set_description("epoch 1/5")
        >>> lines.set_postfix_str("loss=1.2")
        >>> lines.update(4)
        >>> str(lines)
        'epoch 1/5: 4/20 batch [00:00<00:00], loss=1.2'
    """

    def __init__(self, total: int, unit: str, done: int = 0) -> None:
        self.n = self._done = done
        self._total, self._unit, self._file = total, unit, sys.stderr
        self._description = self._postfix = ""
        self._began = self._written = monotonic()
        self._news = False

    def __enter__(self) -> Lines:
        """Begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self.close()

    def __str__(self) -> str:
        """The line of this moment."""
        line: str = tqdm.format_meter(
            n=self.n,
            total=self._total,
            elapsed=monotonic() - self._began,
            prefix=self._description,
            postfix=self._postfix,
            unit=self._unit,
            initial=self._done,
            bar_format=LINE,
        )
        return line

    def set_description(self, text: str, refresh: bool = False) -> None:
        """What the next line begins with."""
        self._description = f"{text}: "

    def set_postfix_str(self, text: str, refresh: bool = False) -> None:
        """What the next line ends with."""
        self._postfix = text

    def update(self, n: float = 1) -> None:
        """So many more units are done."""
        self.n += int(n)
        self._news = True
        if monotonic() - self._written >= LINE_EVERY:
            self.refresh()

    def refresh(self) -> None:
        """Write a line now."""
        print(self, file=self._file, flush=True)
        self._written, self._news = monotonic(), False

    def close(self) -> None:
        """Write the last line, unless it is written already."""
        if self._news:
            self.refresh()


def progress_bar(total: int, unit: str, *, show: bool = True, done: int = 0) -> tqdm | Lines:
    """A `tqdm` bar on a terminal or in a notebook, `Lines` where stderr is a file or a pipe, silence without ``show``.

    Args:
        total: units of work in all.
        unit: their name.
        show: False for silence.
        done: units that were done before.
    """
    if show and not IN_NOTEBOOK and not sys.stderr.isatty():
        return Lines(total, unit, done)
    return tqdm(total=total, initial=done, unit=unit, disable=not show, dynamic_ncols=True)
