"""Signals that end a run: between two batches, so that it can be saved where it stands."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
ECHO = 2.0  # seconds in which a SIGTERM is the same one again: torchrun hands on what a manager sends to all processes


class Stop:
    """Which signal has asked the run to end, if any."""

    signal: int | None = None
    _since = 0.0

    def receive(self, number: int, frame: FrameType | None = None) -> None:
        """Remember the signal; a second one ends the process at once, as if nobody had listened."""
        self.signal, self._since = number, monotonic()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, self._receive_again)
        print("\nstopping after this batch; once more stops at once", file=sys.stderr, flush=True)

    def _receive_again(self, number: int, frame: FrameType | None = None) -> None:
        if monotonic() - self._since > ECHO:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def leave(self, message: str) -> None:
        """End the run as the signal asked.

        Raises:
            KeyboardInterrupt: after SIGINT.
            SystemExit: after SIGTERM, with status 143.
        """
        print(message, file=sys.stderr, flush=True)
        if self.signal == signal.SIGINT:
            raise KeyboardInterrupt(message)
        raise SystemExit(128 + (self.signal or 0))


@contextmanager
def stopping(enabled: bool) -> Iterator[Stop]:
    """Listen to SIGINT and SIGTERM until the block ends; outside the main thread there is nothing to listen to."""
    stop = Stop()
    if not enabled or threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, stop.receive) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
