"""What a run leaves in its folder: weights, figures, a picture, checkpoints; the first process alone writes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from art_ext.engine.checkpoint import BEST, LAST, or_warn, prepare_folder, save_weights
from art_ext.engine.checkpoints import Checkpoints, Saved, link, only_run_in
from art_ext.engine.history import History, Row
from art_ext.engine.options import EngineOptions
from art_ext.engine.tracking import Tracking, open_trackers
from art_ext.files import atomic_write

Weights = Mapping[str, Tensor]


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
        self._written: Weights | None = None  # the best weights that lie in the folder

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

    def begin(self, history: History, saved: Saved | None, best: Weights | None = None) -> None:
        """Make the folder that of a new run, or of one that goes on from ``saved``.

        Args:
            history: of the run.
            saved: where it goes on; checkpoints that come after it are of a future that will not be.
            best: weights of the best epoch so far.

        Raises:
            FileExistsError: the folder holds another run that is not finished.
        """
        if self.folder is not None and self.checkpoints is not None:
            self.checkpoints.make_room(None if saved is None else saved.path)
            if saved is not None and (saved.path / BEST).exists():
                with atomic_write(self.folder / BEST) as temporary:
                    shutil.copyfile(saved.path / BEST, temporary)
                self._written = best
            self.checkpoints.sweep()
            history.keep_in(self.folder / "history.jsonl")
        self._trackers = open_trackers(self._tracking, self.folder, self.identity, first_step=len(history) + 1)

    def epoch(self, row: Row, history: History, network: nn.Module, best: Weights | None) -> None:
        """Write what an epoch has changed.

        Args:
            row: its figures.
            history: of the run.
            network: with the weights that the epoch ends with.
            best: weights of the best epoch so far, the same object until there are better ones.
        """
        self._trackers.log({k: v for k, v in row.items() if k != "epoch"}, int(row["epoch"]))
        if self.folder is None:
            return
        with or_warn(self.folder / LAST):
            save_weights(network, self.folder / LAST)
        if best is not None and best is not self._written:  # where that failed, in each epoch until it succeeds
            with or_warn(self.folder / BEST):
                save_weights(network, self.folder / BEST, None if history.best("robust") is row else best)
                self._written = best
        with or_warn(self.folder / "curves.png"):
            history.plot(self.folder / "curves.png")

    def save(self, tree: Mapping[str, Any], network: nn.Module, best: Weights | None) -> None:
        """Write a checkpoint; ``network`` and ``best`` as those of `epoch`."""
        if self.checkpoints is not None:
            with or_warn(self.checkpoints.folder):
                self.checkpoints.write(tree, self.identity, best=None if best is None else self._best_to(network, best))

    def _best_to(self, network: nn.Module, best: Weights) -> Callable[[Path], None]:
        """What puts the best weights into a checkpoint: the run's file, unless that could not be written or is gone."""

        def put(target: Path) -> None:
            if self.folder is not None and best is self._written and (self.folder / BEST).exists():
                link(self.folder / BEST, target)
            else:
                save_weights(network, target, best)

        return put
