"""The figures of the epoch under way: read from the device only now and then, shown as progress."""

from __future__ import annotations

import math
from time import monotonic

import torch
from torch import Tensor, nn

from art_ext.progress import progress_bar

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
    if not all(bool(p.isfinite().all()) for p in network.parameters()):
        raise NonFiniteLossError(f"weights are NaN or infinite after the updates of epoch {epoch}", lr)


class Meter:
    """Losses and hits of one epoch, kept on the device so that the batch loop never waits for it."""

    def __init__(self, epoch: int, batches: int, device: torch.device, bar: Bar, lr: float) -> None:
        self.epoch, self.bar, self.lr = epoch, bar, lr
        self._losses = torch.zeros(batches, device=device)
        self._hits = torch.zeros((), device=device, dtype=torch.int64)
        self.batch = self.images = 0
        self._began = self._looked = monotonic()

    @torch.no_grad()
    def add(self, loss: Tensor, logits_adv: Tensor, y: Tensor) -> None:
        """Count a batch."""
        self._losses[self.batch] = loss.detach()
        self._hits += (logits_adv.argmax(1) == y).sum()
        self.batch += 1
        self.images += len(y)
        if monotonic() - self._looked > READ_EVERY:
            self.look()

    def look(self) -> dict[str, float]:
        """The figures so far.

        Raises:
            NonFiniteLossError: a loss was NaN or infinite; says at which epoch, batch and learning rate.
        """
        losses = self._losses[: self.batch].tolist()
        for batch, loss in enumerate(losses, 1):
            if not math.isfinite(loss):
                raise NonFiniteLossError(f"loss is {loss} at epoch {self.epoch}, batch {batch}", self.lr)
        self._looked = monotonic()
        seconds = self._looked - self._began
        row = {
            "loss": math.fsum(losses) / max(1, self.batch),
            "train_robust": int(self._hits) / max(1, self.images),
            "seconds": seconds,
            "images_per_second": self.images / max(seconds, 1e-9),
        }
        self.bar.show(self.epoch, self.batch, row)
        return row


class Bar:
    """Progress over all batches of a run: loss, accuracies, images per second, time left.

    On a terminal one bar that is redrawn. In a log file plain lines: one for each epoch, and one every 30 seconds
    within an epoch that takes longer (`art_ext.progress`).
    """

    def __init__(self, epochs: int, batches: int, enabled: bool) -> None:
        self.epochs, self.batches = epochs, batches
        self._bar = progress_bar(epochs * batches, "batch", show=enabled)
        self._validation: dict[str, str] = {}

    def show(self, epoch: int, batch: int, row: dict[str, float]) -> None:
        """Move to this batch of this epoch (from 1)."""
        self._describe(epoch, row)
        self._bar.update((epoch - 1) * self.batches + batch - self._bar.n)

    def validated(self, clean: float, robust: float) -> None:
        """Show these accuracies until the next ones."""
        self._validation = {"clean": f"{clean:.1%}", "robust": f"{robust:.1%}"}

    def finish(self, row: dict[str, float]) -> None:
        """The epoch of this row of the history is over."""
        if "robust" in row:
            self.validated(row["clean"], row["robust"])
        self._describe(int(row["epoch"]), row)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _describe(self, epoch: int, row: dict[str, float]) -> None:
        figures = {"loss": f"{row['loss']:.3f}", "train robust": f"{row['train_robust']:.1%}", **self._validation}
        figures["images/s"] = f"{row['images_per_second']:.0f}"
        self._bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.set_postfix_str(", ".join(f"{name}={value}" for name, value in figures.items()), refresh=False)
