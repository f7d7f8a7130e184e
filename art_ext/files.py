"""Writing files so that a reader finds the old content or the new, never half of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path to write to; it takes the place of ``path`` when the block ends without an error.

    The temporary file lies in the folder of ``path``, which is made if it is missing. After an error (a full disk, an
    interruption) it is removed, and an older file at ``path`` is as it was. A symbolic link stays one.

    Args:
        path: the file to write.

    Yields:
        The temporary path; the block must create this file.

    Raises:
        OSError: the folder or the file cannot be written; the message names ``path``, and the class is the original's
            (`PermissionError`, `IsADirectoryError`, …).

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "runs" / "report.json"
        >>> with atomic_write(target) as temporary:
        ...     _ = temporary.write_text("{}")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('{}', 1)
    """
    target = Path(path).resolve()
    # the suffix stays last: several libraries choose the format by it
    temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise type(error)(error.errno, f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # what went wrong before is the news
            temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
