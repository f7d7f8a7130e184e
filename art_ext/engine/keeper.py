"""What a run leaves in its folder: weights, figures, a picture, checkpoints; the first process alone writes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from art_ext.engine.checkpoint import BEST, LAST, or_warn, prepare_folder, save_weights
from art_ext.engine.checkpoints import Checkpoints, Saved, only_run_in
from art_ext.engine.history import History, Row
from art_ext.engine.options import EngineOptions
from art_ext.engine.tracking import Tracking, open_trackers
from art_ext.files import atomic_write


class Keeper:
    """The folder of a run, or nothing where it has none or another process writes.

    Args:
        options: of the run.
        first: whether this process is the one that writes.
        identity: what the run is, by name, for its checkpoints and trackers.
    """

    def __init__(self, options: EngineOptions, first: bool, identity: Mapping[str, Any]) -> None:
        self.named = options.checkpoint_dir  # for what is said to the user
        self.identity, self._tracking = dict(identity), options.tracking
        self.folder = prepare_folder(options.checkpoint_dir) if first and options.checkpoint_dir is not None else None
        self.checkpoints = None if self.folder is None else Checkpoints(self.folder, options.keep_checkpoints)
        self._trackers = Tracking({})

    @property
    def can_save(self) -> bool:
        """Whether some process can write a checkpoint."""
        return self.named is not None

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder is this run's until the block ends; then the trackers are closed."""
        try:
            if self.folder is None:
                yield
            else:
                with only_run_in(self.folder):
                    yield
        finally:
            self._trackers.close()

    def begin(self, history: History, saved: Saved | None) -> None:
        """Make the folder that of a new run, or of one that goes on from ``saved``.

        Raises:
            FileExistsError: a new run, and the folder holds one that is not finished.
        """
        if self.folder is not None and self.checkpoints is not None:
            if saved is None:
                self.checkpoints.make_room()
            elif (saved.path / BEST).exists():
                with atomic_write(self.folder / BEST) as temporary:
                    shutil.copyfile(saved.path / BEST, temporary)
            self.checkpoints.sweep()
            history.keep_in(self.folder / "history.jsonl")
        self._trackers = open_trackers(self._tracking, self.folder, self.identity, first_step=len(history) + 1)

    def epoch(self, row: Row, history: History, network: nn.Module, is_best: bool) -> None:
        """Write what an epoch has changed."""
        self._trackers.log({k: v for k, v in row.items() if k != "epoch"}, int(row["epoch"]))
        if self.folder is None:
            return
        for name in (LAST, BEST) if is_best else (LAST,):
            with or_warn(self.folder / name):
                save_weights(network, self.folder / name)
        with or_warn(self.folder / "curves.png"):
            history.plot(self.folder / "curves.png")

    def save(self, tree: Mapping[str, Any], with_best: bool) -> None:
        """Write a checkpoint."""
        if self.checkpoints is not None:
            with or_warn(self.checkpoints.folder):
                self.checkpoints.write(tree, self.identity, with_best=with_best)
