"""Everything a run must remember to go on bit for bit, and putting it back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from art_ext.averaging import snapshot
from art_ext.engine.checkpoint import BEST
from art_ext.engine.checkpoints import Saved, require_same
from art_ext.processes import Processes

if TYPE_CHECKING:
    from art_ext.engine.loop import Run


@dataclass(frozen=True)
class Place:
    """Where a run stands: finished epochs, batches done of the next one, and that one's figures so far."""

    epoch: int = 0
    batch: int = 0
    figures: dict[str, Any] | None = None


def state_of(run: Run, place: Place, *, finished: bool) -> dict[str, Any]:
    """The tree that a checkpoint holds; every process must ask for it."""
    task = run.task
    foreign = run.processes.gather(process_random(run.device))
    return {
        "epoch": place.epoch,
        "batch": place.batch,
        "figures": place.figures,
        "finished": finished,
        "history": run.history.rows,
        "network": dict(task.model.network.state_dict()),
        "optimizer": task.optimizer.state_dict(),
        "schedule": task.schedule.state_dict(),
        "averaging": task.averaging.state_dict(),
        "technique": task.technique.state_dict(),
        "order": run.epoch_order if place.batch else run.order.get_state(),
        "random": run.random.get_state(),
        "foreign_random": foreign,
        "foreign_random_used": any(run.processes.gather(not _same(run.fresh_random, process_random(run.device)))),
        "twin": run.twin is not None if run.attacked is not None else None,
    }


def restore(run: Run, saved: Saved) -> Place:
    """Put a run, whose session has begun, where the checkpoint was written.

    Raises:
        ValueError: the checkpoint is of another run, or of another number of processes where that changes the result.
    """
    tree, task = saved.tree, run.task
    require_same(saved.identity, run.identity, saved.path)
    task.model.network.load_state_dict(tree["network"])
    task.optimizer.load_state_dict(tree["optimizer"])
    _lay_out(task.optimizer)
    task.schedule.load_state_dict(tree["schedule"])
    task.averaging.load_state_dict(tree["averaging"])
    if "technique" in tree:  # older checkpoints know of none
        task.technique.load_state_dict(tree["technique"])
    run.history.restore(tree["history"])
    run.order.set_state(tree["order"])
    run.random.set_state(tree["random"])
    run.allows_twin = tree["twin"] is not False
    _restore_process_random(run, tree)
    run.last_good = snapshot(task.averaging.averaged())
    run.best = load_best(saved, run.device)
    return Place(tree["epoch"], tree["batch"], tree["figures"])


def load_best(saved: Saved, device: torch.device) -> dict[str, Tensor] | None:
    """The weights of the best epoch before the checkpoint; None where there was none."""
    best = saved.path / BEST
    return load_file(best, device=str(device)) if best.exists() else None


def require_same_place(processes: Processes, place: Place) -> None:
    """Refuse to go on where the processes, each of which reads the folder itself, have found different checkpoints.

    Raises:
        ValueError: as said.
    """
    places = processes.gather((place.epoch, place.batch))
    if len(set(places)) > 1:
        found = ", ".join(f"process {rank}: {epoch}/{batch}" for rank, (epoch, batch) in enumerate(places))
        raise ValueError(
            f"resume: the processes found different checkpoints (epochs/batches: {found}); "
            "the folder must be shared by all machines"
        )


def process_random(device: torch.device) -> dict[str, Any]:
    """The states of this process's global generators, which dropout and foreign attacks draw from."""
    states = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}  # noqa: NPY002
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _restore_process_random(run: Run, tree: Mapping[str, Any]) -> None:
    foreign, processes = tree["foreign_random"], run.processes
    if len(foreign) != processes.count:
        if why := _hangs_on_their_number(run, tree):
            raise ValueError(
                f"resume: the run had {len(foreign)} processes, now there are {processes.count}; {why}, so the result "
                "would change: start as many as before"
            )
        return
    mine = foreign[processes.rank]
    torch.set_rng_state(mine["torch"])
    np.random.set_state(mine["numpy"])  # noqa: NPY002
    random.setstate(mine["python"])
    if "cuda" in mine and run.device.type == "cuda":
        torch.cuda.set_rng_state(mine["cuda"], run.device)


def _hangs_on_their_number(run: Run, tree: Mapping[str, Any]) -> str:
    """Why the result hangs on the number of processes; empty where it does not."""
    if tree["foreign_random_used"]:
        return "its network or attack draws random numbers in each of them"
    if run.options.accumulate > 1:
        return f"accumulate={run.options.accumulate} makes other parts of each batch"
    has_batchnorm = any(isinstance(m, _BatchNorm) for m in run.task.model.network.modules())
    if has_batchnorm and not run.options.sync_batchnorm:
        return "with sync_batchnorm=False BatchNorm sees the rows of one of them"
    return ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    return bool(np.array_equal(one, other))


def _lay_out(optimizer: Optimizer) -> None:
    """Give the optimizer's tensors the memory layout of their parameters, as they had when they were made."""
    for p, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == p.shape:
                state[name] = torch.empty_like(p, dtype=value.dtype).copy_(value)
