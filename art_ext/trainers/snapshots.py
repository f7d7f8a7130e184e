"""The weights of the last epochs on disk, for a vote of all of them."""

from __future__ import annotations

import copy
import shutil
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from torch import nn

from art_ext.averaging import Averaging, Recalibrate
from art_ext.engine.checkpoint import load_weights, or_warn, save_weights
from art_ext.model import DefendedModel
from art_ext.processes import Processes

FOLDER = "snapshots"
_PATTERN = "epoch-*.safetensors"


class Snapshots(Averaging):
    """Averages nothing; writes the network at the end of each epoch and keeps the files of the last ones.

    Args:
        keep: how many, at least 1.
        folder: where; None for a temporary folder of each run (and each process), which lives as long as this object
            or a `SnapshotLoader` of it.
    """

    def __init__(self, keep: int, folder: Path | None = None) -> None:
        self.keep, self._given = keep, folder
        self._temporary: _TemporaryFolder | None = None
        self.names: list[str] = []

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
        """Write the network, remove what is too old; the first process for all where they share a folder."""
        name = f"epoch-{epoch + 1:04}.safetensors"
        self.names = [*self.names, name][-self.keep :]
        shared = self._given is not None
        if not shared or Processes.launched().is_first:
            with or_warn(self.folder / name):
                save_weights(self.network, self.folder / name)
                for old in set(self.folder.glob(_PATTERN)) - set(self.paths()):
                    old.unlink()
        if shared:
            Processes.launched().agree(None)  # nobody reads before it is written
        return {}

    def paths(self) -> list[Path]:
        """The files of the last epochs, oldest first."""
        return [self.folder / name for name in self.names]

    def state_dict(self) -> dict[str, Any]:
        """Which files there are."""
        return {"names": list(self.names)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these files.

        Raises:
            ValueError: some are missing.
        """
        self.names = list(state["names"])
        require_files(self.paths(), len(self.names))

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
