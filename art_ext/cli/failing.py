"""Errors that are the user's to mend, told in a line without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED = 130  # the status of a command that Ctrl-C has ended
# FileNotFoundError and the like; bad values; a missing extra; a loss that became NaN
EXPECTED = (OSError, ValueError, ImportError, FloatingPointError)


@contextmanager
def told_in_a_line(command: str) -> Iterator[None]:
    """End the command with such an error's message.

    Raises:
        SystemExit: with the message, status 1.

    Example:
        >>> with told_in_a_line("art-ext train"):
        ...     raise ValueError("eps must be positive")
        Traceback (most recent call last):
        ...
        SystemExit: art-ext train: eps must be positive
    """
    try:
        yield
    except EXPECTED as error:
        raise SystemExit(f"{command}: {error}") from error
