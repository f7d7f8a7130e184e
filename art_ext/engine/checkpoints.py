"""Checkpoints that a run goes on from: folders written whole or not at all, the last few kept."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load, save

from art_ext.engine.checkpoint import BEST
from art_ext.engine.state import pack, unpack
from art_ext.files import atomic_write

VERSION = 1  # of the format
STATE, TENSORS = "state.json", "tensors.safetensors"
_NAME = re.compile(r"epoch-(\d+)-batch-(\d+)")


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read: the tree that was written, of which run, and where it lies."""

    tree: dict[str, Any]
    identity: dict[str, Any]
    path: Path


class Checkpoints:
    """The checkpoints of one run, in ``folder/checkpoints``.

    Each is a folder ``epoch-0003-batch-00120`` (finished epochs, batches done of the next one) with ``state.json`` and
    ``tensors.safetensors``, and the best weights so far as ``best.safetensors``.

    Args:
        folder: of the run.
        keep: how many to keep, at least 1.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.run, self.folder, self.keep = folder, folder / "checkpoints", keep

    def write(self, tree: Mapping[str, Any], identity: Mapping[str, Any], *, with_best: bool = False) -> Path:
        """Write a checkpoint, and remove those that are too many.

        Args:
            tree: what `unpack` gives back; at least ``epoch`` and ``batch``.
            identity: of the run, as JSON.
            with_best: the run's ``best.safetensors`` belongs to it.

        Raises:
            OSError: it cannot be written; the earlier ones are as they were.
            TypeError: the tree holds something that JSON and tensors cannot express.
        """
        packed, tensors = pack(tree)
        content = save(tensors)
        head = {"version": VERSION, "sha256": sha256(content).hexdigest(), "identity": dict(identity), "state": packed}
        target = self.folder / f"epoch-{tree['epoch']:04}-batch-{tree['batch']:05}"
        with _whole_folder(target) as temporary:
            with atomic_write(temporary / TENSORS) as file:
                file.write_bytes(content)
            with atomic_write(temporary / STATE) as file:
                file.write_text(json.dumps(head), encoding="utf-8")
            if with_best:
                _link(self.run / BEST, temporary / BEST)
        for old in self.found()[self.keep :]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def found(self) -> list[Path]:
        """The folders of the checkpoints, newest first."""
        numbered = [(match, path) for path in self.folder.glob("epoch-*") if (match := _NAME.fullmatch(path.name))]
        return [path for _, path in sorted(numbered, key=lambda pair: [int(n) for n in pair[0].groups()], reverse=True)]

    def newest(self) -> Saved:
        """The newest whole checkpoint; a damaged one is passed over with a warning.

        Raises:
            FileNotFoundError: there is none.
            ValueError: all are damaged, or a newer version of art_ext wrote the newest.
        """
        if not self.found():
            raise FileNotFoundError(f"resume: no checkpoint in {self.folder}")
        for path in self.found():
            try:
                return read_checkpoint(path)
            except _Damaged as error:
                warnings.warn(f"checkpoint {path} is damaged ({error}); going on from the one before", stacklevel=2)
        raise ValueError(f"resume: every checkpoint in {self.folder} is damaged")

    def make_room(self) -> None:
        """Remove the checkpoints of a finished run, for a new one.

        Raises:
            FileExistsError: the run that they are of is not finished.
        """
        with suppress(FileNotFoundError, ValueError):  # nothing there, or nothing that could be gone on from
            if not self.newest().tree["finished"]:
                raise FileExistsError(
                    f"{self.run} holds a run that is not finished: trainer.resume({str(self.run)!r}) before fit "
                    f"goes on with it; another checkpoint_dir, or removing {self.folder}, starts anew"
                )
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a killed process left half-written."""
        for path in self.folder.glob(".*.tmp"):
            shutil.rmtree(path, ignore_errors=True)


class _Damaged(Exception):
    """A checkpoint that is not whole."""


def read_checkpoint(path: Path) -> Saved:
    """Read one checkpoint.

    Raises:
        ValueError: a newer version of art_ext wrote it.
    """
    try:
        head = json.loads((path / STATE).read_text(encoding="utf-8"))
        version = head["version"]
        if version > VERSION:
            raise ValueError(
                f"resume: {path} has format {version}, written by a newer art_ext; this one reads {VERSION}"
            )
        content = (path / TENSORS).read_bytes()
        if sha256(content).hexdigest() != head["sha256"]:
            raise _Damaged(f"{TENSORS} is not what was written")
        return Saved(unpack(head["state"], load(content)), head["identity"], path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _Damaged(f"{type(error).__name__}: {error}") from error


def require_same(saved: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on from the checkpoint of another run.

    Raises:
        ValueError: the fields that differ, with both values.
    """
    different = [key for key in sorted({*saved, *now}) if saved.get(key) != now.get(key)]
    if different:
        said = "; ".join(f"{key}: {saved.get(key)!r} there, {now.get(key)!r} here" for key in different)
        raise ValueError(f"resume: {path} is of another run ({said})")


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this process, until the block ends or the process dies.

    Raises:
        RuntimeError: another process is training in it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RuntimeError(f"another process is training in {folder}; give checkpoint_dir another folder") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _whole_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of ``target`` when the block ends without an error."""
    temporary = target.with_name(f".{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        shutil.rmtree(target, ignore_errors=True)
        temporary.rename(target)
        _flush_folder(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """A second name for a file that is only ever replaced, never changed; a copy where the system has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # systems that cannot open a folder need no flush of its entries
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
