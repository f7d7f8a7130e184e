"""The figures of the epoch under way, read from the device only now and then."""

from __future__ import annotations

import math
from collections.abc import Mapping
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.engine.progress import Bar
from art_ext.processes import ALONE, Processes
from art_ext.scores import hard

READ_EVERY = 1.0  # seconds between two looks at the device; each one waits for it


class NonFiniteLossError(FloatingPointError):
    """The training loss, or a weight, became NaN or infinite."""

    def __init__(self, what: str, lr: float) -> None:
        super().__init__(
            f"{what}, learning rate {lr:g}; the weights of the last finished epoch are restored; a lower learning "
            "rate, grad_clip or precision='fp32' may help"
        )


def require_finite(network: nn.Module, epoch: int, lr: float) -> None:
    """Look at the weights after an epoch: what the last update spoilt, no loss has seen.

    Raises:
        NonFiniteLossError: a parameter is NaN or infinite.
    """
    if not is_finite(network):
        raise NonFiniteLossError(f"weights are NaN or infinite after the updates of epoch {epoch}", lr)


def is_finite(network: nn.Module) -> bool:
    """Whether all parameters are."""
    return all(bool(p.isfinite().all()) for p in network.parameters())


class Meter:
    """Losses and hits of one epoch, kept on the device so that the batch loop never waits for it.

    Of several processes each counts its own rows; `total` adds them up.
    """

    def __init__(
        self, epoch: int, batches: int, device: torch.device, bar: Bar, lr: float, processes: Processes = ALONE
    ) -> None:
        self.epoch, self.bar, self.lr, self.processes = epoch, bar, lr, processes
        self._losses = torch.zeros(batches, device=device)
        self._hits = torch.zeros((), device=device, dtype=torch.int64)
        self._figures: dict[str, Tensor] = {}
        self._judges = True
        self.batch = self.images = 0
        self._began = self._looked = monotonic()

    @torch.no_grad()
    def add(
        self,
        loss: Tensor,
        logits_adv: Tensor | None,
        y: Tensor,
        weight: float = 1.0,
        figures: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Count some rows of the batch under way, whose mean loss has this weight in that of the batch."""
        self._losses[self.batch] += loss.detach() * weight
        for name, value in (figures or {}).items():
            self._figures[name] = self._figures.get(name, torch.zeros_like(value)) + value.detach() * weight
        self._judges = logits_adv is not None
        if weight and logits_adv is not None:
            self._hits += (logits_adv.argmax(1) == hard(y)).sum()

    def finish_batch(self, images: int) -> None:
        """All rows of a batch of so many images, in all processes, are counted."""
        self.batch += 1
        self.images += images
        if monotonic() - self._looked > READ_EVERY:
            self.look()

    def look(self) -> dict[str, float]:
        """The figures so far, of this process.

        Raises:
            NonFiniteLossError: a loss was NaN or infinite; says at which epoch, batch and learning rate.
        """
        return self._row(self._losses, int(self._hits) * self.processes.count)

    def total(self) -> dict[str, float]:
        """The figures so far, of all processes; raises as `look`."""
        losses = self.processes.sum(self._losses.clone()) / self.processes.count
        row = self._row(losses, int(self.processes.sum(self._hits.clone())))
        sums = {name: self.processes.sum(value.clone()) for name, value in self._figures.items()}
        return row | {name: float(value) / self.processes.count / max(1, self.batch) for name, value in sums.items()}

    def _row(self, losses: Tensor, hits: int) -> dict[str, float]:
        values = losses[: self.batch].tolist()
        for batch, loss in enumerate(values, 1):
            if not math.isfinite(loss):
                raise NonFiniteLossError(f"loss is {loss} at epoch {self.epoch}, batch {batch}", self.lr)
        self._looked = monotonic()
        seconds = self._looked - self._began
        row = {
            "loss": math.fsum(values) / max(1, self.batch),
            **({"train_robust": hits / max(1, self.images)} if self._judges else {}),
            "seconds": seconds,
            "images_per_second": self.images / max(seconds, 1e-9),
        }
        self.bar.show(self.epoch, self.batch, row)
        return row

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint in the middle of an epoch must hold: the sums over all processes."""
        return {
            "losses": self.processes.sum(self._losses.clone()),
            "hits": self.processes.sum(self._hits.clone()),
            "figures": {name: self.processes.sum(value.clone()) for name, value in self._figures.items()},
            "batch": self.batch,
            "images": self.images,
            "seconds": monotonic() - self._began,
            "lr": self.lr,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a `state_dict`: the first process takes over the sums."""
        if self.processes.is_first:
            self._losses.copy_(state["losses"])
            self._hits.copy_(state["hits"])
        # an older checkpoint has none; the other processes begin at zero, with the same names
        for name, value in state.get("figures", {}).items():
            self._figures[name] = value.to(self._hits.device) * self.processes.is_first
        self.batch, self.images, self.lr = state["batch"], state["images"], state["lr"]
        self._began -= state["seconds"]
