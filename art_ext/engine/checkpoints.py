"""Checkpoints that a run goes on from: folders written whole or not at all, the last few kept."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import takewhile
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors.torch import load, save

from art_ext.engine.checkpoint import BEST
from art_ext.engine.state import pack, unpack
from art_ext.files import atomic_write

VERSION = 1  # of the format
STATE, TENSORS = "state.json", "tensors.safetensors"
LATER = ("device", "sync_batchnorm")  # of which the first checkpoints of this format say nothing
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

    def write(
        self, tree: Mapping[str, Any], identity: Mapping[str, Any], *, best: Callable[[Path], None] | None = None
    ) -> Path:
        """Write a checkpoint, and remove those that are too many.

        Args:
            tree: what `unpack` gives back; at least ``epoch`` and ``batch``.
            identity: of the run, as JSON.
            best: writes the best weights so far to a path; None where there are none.

        Raises:
            OSError: it cannot be written; the earlier ones are as they were.
            TypeError: the tree holds something that JSON and tensors cannot express.
        """
        packed, tensors = pack(tree)
        content = save(tensors)
        target = self.folder / f"epoch-{tree['epoch']:04}-batch-{tree['batch']:05}"
        with _whole_folder(target) as temporary:
            with atomic_write(temporary / TENSORS) as file:
                file.write_bytes(content)
            if best is not None:
                best(temporary / BEST)
            sums = {"sha256": sha256(content).hexdigest(), "best_sha256": _sum_of(temporary / BEST)}
            head = {"version": VERSION, **sums, "identity": dict(identity), "state": packed}
            with atomic_write(temporary / STATE) as file:
                file.write_text(json.dumps(head), encoding="utf-8")
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
        raise ValueError(f"resume: every checkpoint in {self.folder} is damaged; removing the folder starts anew")

    def make_room(self, saved: Path | None = None) -> None:
        """Remove what is not of the run that begins.

        Args:
            saved: the checkpoint that it goes on from: one of these, and those after it go; one of another folder, or
                None for a new run, and all of a finished run go.

        Raises:
            FileExistsError: the run that they are of is not finished.
            ValueError: nothing is whole, or a newer art_ext wrote it: whether it is finished cannot be said.
        """
        if saved is not None and saved.resolve().parent == self.folder.resolve():
            for later in takewhile(lambda path: path.name != saved.name, self.found()):
                shutil.rmtree(later, ignore_errors=True)
            return
        with suppress(FileNotFoundError):
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
        if head.get("best_sha256", found := _sum_of(path / BEST)) != found:  # earlier versions wrote none
            raise _Damaged(f"{BEST} is not what was written")
        return Saved(unpack(head["state"], load(content)), head["identity"], path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise _Damaged(f"{type(error).__name__}: {error}") from error


def require_same(saved: Mapping[str, Any], now: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on from the checkpoint of another run.

    Raises:
        ValueError: the fields that differ, with both values.
    """
    known = {*saved, *now} - {key for key in LATER if key not in saved}
    different = [key for key in sorted(known) if saved.get(key) != now.get(key)]
    if different:
        said = "; ".join(f"{key}: {saved.get(key)!r} there, {now.get(key)!r} here" for key in different)
        raise ValueError(f"resume: {path} is of another run ({said})")


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Lock a run's folder for this thread, until the block ends or the process dies; it may do so again inside.

    Raises:
        RuntimeError: another process is training in it.
    """
    lock = FileLock(folder / ".lock", is_singleton=True)  # who has claimed the folder may train in it
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


def link(source: Path, target: Path) -> None:
    """A second name for a file that is only ever replaced, never changed; a copy where the system has no such names."""
    try:
        os.link(source, target)
    except OSError:
        with atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)


def _sum_of(path: Path) -> str | None:
    """The checksum of a file; None where there is none."""
    return sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _flush_folder(folder: Path) -> None:
    with suppress(OSError):  # systems that cannot open a folder need no flush of its entries
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
