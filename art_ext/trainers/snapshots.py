"""The weights of the last epochs on disk, for a vote of all of them."""

from __future__ import annotations

import copy
import shutil
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from torch import nn

from art_ext.averaging import Averaging, Recalibrate
from art_ext.engine.checkpoint import load_weights, or_warn, save_weights
from art_ext.files import atomic_write
from art_ext.model import DefendedModel
from art_ext.processes import Processes

FOLDER = "snapshots"
_NAME, _PATTERN = "epoch-{:04}.safetensors", "epoch-*.safetensors"


class Snapshots(Averaging):
    """Averages nothing; writes the network at the end of each epoch and keeps the files of the last ones.

    Args:
        keep: how many, at least 1.
        folder: where; None for a temporary folder of each run (and each process), which lives as long as this object
            or a `SnapshotLoader` of it.
        spare: how many older ones stay too: as many as there are checkpoints, since the run may go on from the oldest
            of them, and each names the files of its last epochs.

    Attributes:
        source: folder of the snapshots of the run to go on from; None for its own.
    """

    def __init__(self, keep: int, folder: Path | None = None, *, spare: int = 0) -> None:
        self.keep, self.spare, self._given = keep, spare, folder
        self._temporary: _TemporaryFolder | None = None
        self.names: list[str] = []
        self.source: Path | None = None

    def __repr__(self) -> str:
        """What makes a run another one: not the folder."""
        return f"Snapshots(keep={self.keep})"

    @property
    def folder(self) -> Path:
        """Where the files are."""
        if self._given is not None:
            return self._given
        if self._temporary is None:
            self._temporary = _TemporaryFolder()
        return self._temporary.path

    def start(self, network: nn.Module) -> None:
        """Begin anew; files of an earlier run go when the first of this one is written."""
        super().start(network)
        self.names = []
        self._temporary = None  # classifiers of an earlier run may still need that one

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Write the network, remove what no checkpoint can ask for any more."""
        name, begins = _NAME.format(epoch + 1), not self.names
        self.names = [*self.names, name][-self.keep :]
        stay = 1 if begins else self.keep + self.spare  # a run that begins leaves nothing of an earlier one
        if self._writes:
            with or_warn(self.folder / name):
                save_weights(self.network, self.folder / name)
                self._remove_all_but(_NAME.format(e) for e in range(epoch + 2 - stay, epoch + 2))
        self._wait()
        return {}

    def _remove_all_but(self, names: Iterable[str]) -> None:
        for old in set(self.folder.glob(_PATTERN)) - {self.folder / name for name in names}:
            old.unlink()

    @property
    def _writes(self) -> bool:
        """Whether this process does: the first for all where they share a folder."""
        return self._given is None or Processes.launched().is_first

    def _wait(self) -> None:
        if self._given is not None:
            Processes.launched().agree(None)  # nobody reads before it is written

    def paths(self) -> list[Path]:
        """The files of the last epochs, oldest first."""
        return [self.folder / name for name in self.names]

    def state_dict(self) -> dict[str, Any]:
        """Which files there are."""
        return {"names": list(self.names)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these files, copied from ``source`` where that is another folder.

        Raises:
            ValueError: some are missing.
        """
        self.names = list(state["names"])
        source = self.folder if self.source is None else self.source
        require_files([source / name for name in self.names], len(self.names))
        if self._writes and source.resolve() != self.folder.resolve():
            for name in self.names:
                with atomic_write(self.folder / name) as temporary:
                    shutil.copyfile(source / name, temporary)
        self._wait()

    def loaders(self, model: DefendedModel) -> list[SnapshotLoader]:
        """A function for each snapshot that loads it into a copy of the network of ``model``.

        Raises:
            ValueError: fewer files than there should be.
        """
        require_files(self.paths(), len(self.names))
        return [SnapshotLoader(model, path, self._temporary) for path in self.paths()]


class _TemporaryFolder:
    """A folder that is removed with the last reference to it, or at the end of the process."""

    def __init__(self) -> None:
        self.path = Path(mkdtemp(prefix="art_ext-snapshots-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, eq=False)
class SnapshotLoader:
    """A network on disk, as `art_ext.nn.soft_vote.SoftVote` takes it: loaded when it is called.

    Args:
        model: preprocessors, and a network of the same architecture.
        path: of the weights.
        keeps: what must live as long as the file is needed.
    """

    model: DefendedModel
    path: Path
    keeps: Any = None

    def __call__(self) -> DefendedModel:
        """The preprocessors around the network with the weights of the file."""
        network = copy.deepcopy(self.model.network)
        load_weights(network, self.path)
        return self.model.around(network)

    def __deepcopy__(self, memo: Any) -> SnapshotLoader:
        """Itself: it never changes, and a temporary folder cannot be copied."""
        return self


def require_files(paths: Sequence[Path], count: int) -> None:
    """Refuse to vote with fewer snapshots than are asked for.

    Raises:
        ValueError: files are missing; the message names the folder.
    """
    missing = [path.name for path in paths if not path.is_file()]
    there = len(paths) - len(missing)
    if there < count:
        where = paths[0].parent if paths else "no folder"
        raise ValueError(f"{count} snapshots are asked for, {there} are in {where} (missing: {', '.join(missing)})")


def find_snapshots(folder: Path, count: int) -> list[Path]:
    """The newest ``count`` snapshots in a folder, oldest first.

    Raises:
        ValueError: there are fewer.
    """
    found = sorted(folder.glob(_PATTERN))[-count:]
    if len(found) < count:
        raise ValueError(f"{count} snapshots are asked for, {len(found)} are in {folder}")
    return found
