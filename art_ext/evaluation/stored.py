"""Reports as JSON, one line for each field, as text and in files."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from art_ext.files import atomic_write


def write_fields(fields: Mapping[str, Any], path: str | os.PathLike[str] | None) -> str:
    """The fields as JSON; also written to ``path``, atomically, if given.

    Raises:
        OSError: ``path`` cannot be written; an older file there is untouched.

    Example:
        >>> print(write_fields({"seed": 0, "suite": "fast"}, None), end="")
        {
          "seed": 0,
          "suite": "fast"
        }
    """
    lines = (f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if path is not None:
        with atomic_write(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    return text


def read_fields(source: str | os.PathLike[str], names: Collection[str], *, what: str) -> dict[str, Any]:
    """The fields of a JSON text, or of a file.

    Args:
        source: text that begins with a brace, or a path.
        names: of the fields that must be there, and no others.
        what: kind of report, for messages.

    Raises:
        OSError: the file cannot be read.
        ValueError: not JSON, or other fields; the message names them.
    """
    is_text = isinstance(source, str) and source.lstrip().startswith("{")
    data = json.loads(str(source) if is_text else Path(source).read_text(encoding="utf-8"))
    if not isinstance(data, dict) or set(data) != set(names):
        different = sorted(set(data) ^ set(names)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"not a {what} of this version; missing or unknown: {different}")
    return data
