"""What an evaluation keeps in a folder, batch by batch, so that it can go on after a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from art_ext.isolation import fingerprint

Key = tuple[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What an attack did to one batch.

    Args:
        rows: the examples, as indices among all of the evaluation.
        predictions: predicted labels of the adversarial examples in each draw that judges, (draws, len(rows)).
        seconds: the attack's own time.
        forwards: examples that went forward through the network.
        backwards: the same for backward passes.
        n_failed: examples with NaN or infinity.
        n_projected: examples outside the threat model.
    """

    rows: list[int]
    predictions: list[list[int]]
    seconds: float
    forwards: int
    backwards: int
    n_failed: int
    n_projected: int


class JournalError(OSError):
    """A finished batch cannot be kept: no failure of the attack."""


class Journal:
    """Finished batches of one evaluation, one line of JSON each; every process appends to a file of its own.

    Args:
        folder: made if it is missing; None keeps nothing.
        identity: what the evaluation is of, by name; pieces of another one must not be mixed in.
        rank: of this process.

    Raises:
        ValueError: the folder holds pieces of another evaluation; the message says what differs.
        OSError: it cannot be read or written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, identity: Mapping[str, Any], rank: int = 0) -> None:
        self._pieces: dict[Key, Piece] = {}
        self._file: Path | None = None
        if folder is None:
            return
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for path in sorted(place.glob("journal-*.jsonl")):
            self._read(path, identity)
        self._file = place / f"journal-{rank}.jsonl"
        size = len(_whole_lines(self._file)) if self._file.exists() else 0
        if size:
            os.truncate(self._file, size)
        else:
            self._file.write_text(json.dumps(dict(identity)) + "\n", encoding="utf-8")

    def find(self, label: str, rows: list[int]) -> Piece | None:
        """The finished piece of an attack on exactly these examples."""
        return self._pieces.get((label, tuple(rows)))

    def keep(self, label: str, piece: Piece) -> None:
        """Write a finished piece.

        Raises:
            JournalError: it cannot be written.
        """
        if self._file is None:
            return
        try:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"attack": label, **asdict(piece)}) + "\n")
        except OSError as error:
            raise JournalError(error.errno, f"resume: cannot write {self._file}: {error.strerror or error}") from error

    def _read(self, path: Path, identity: Mapping[str, Any]) -> None:
        head, *lines = [json.loads(line) for line in _whole_lines(path).splitlines()] or [dict(identity)]
        different = sorted(key for key in {*head, *identity} if head.get(key) != identity.get(key))
        if different:
            raise ValueError(
                f"resume: {path} holds another evaluation, with other {', '.join(different)}; give another folder"
            )
        for line in lines:
            label = line.pop("attack")
            self._pieces[label, tuple(line["rows"])] = Piece(**line)


def _whole_lines(path: Path) -> bytes:
    """Without the line in the middle of which a process was killed, or which another one is writing just now."""
    content = path.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def weights_of(model: nn.Module) -> str:
    """`fingerprint` of all parameters and buffers."""
    return fingerprint(*model.parameters(), *model.buffers())
