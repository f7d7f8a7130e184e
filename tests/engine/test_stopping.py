"""Signals that end a run; raised in this very process, whose handlers are put back."""

import signal

import pytest

from art_ext.engine import stopping as module
from art_ext.engine.stopping import ECHO, stopping

INT, TERM = signal.SIGINT, signal.SIGTERM


class Ended(BaseException):
    """What the system would do to the process."""


def end(*_):
    raise Ended


AGAIN = {
    "forwarded at once": (TERM, TERM, 0.5 * ECHO, None),
    "asked again": (TERM, TERM, 1.5 * ECHO, Ended),
    "forwarded as another": (INT, TERM, 0.5 * ECHO, None),
    "Ctrl-C twice": (INT, INT, 0.1, KeyboardInterrupt),
    "Ctrl-C after all": (TERM, INT, 0.1, KeyboardInterrupt),
}


@pytest.mark.parametrize("first, second, seconds, ends", AGAIN.values(), ids=AGAIN)
def test_a_second_signal(monkeypatch, first, second, seconds, ends):
    now = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: now[0])
    monkeypatch.setattr(signal, "SIG_DFL", end)
    before = signal.getsignal(INT), signal.getsignal(TERM)
    with stopping(True) as stop:
        signal.raise_signal(first)
        now[0] += seconds
        if ends is None:
            signal.raise_signal(second)
        else:
            with pytest.raises(ends):
                signal.raise_signal(second)
        assert stop.signal == first
    assert (signal.getsignal(INT), signal.getsignal(TERM)) == before
