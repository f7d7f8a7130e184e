"""The figures of the epoch under way, shown as progress."""

from __future__ import annotations

from art_ext.progress import progress_bar


class Bar:
    """Progress over all batches of a run: loss, accuracies, images per second, time left.

    On a terminal one bar that is redrawn. In a log file plain lines: one for each epoch, and one every 30 seconds
    within an epoch that takes longer (`art_ext.progress`). ``done`` batches were trained before this process
    began: they say nothing about its speed.
    """

    def __init__(self, epochs: int, batches: int, enabled: bool, done: int = 0) -> None:
        self.epochs, self.batches = epochs, batches
        self._bar = progress_bar(epochs * batches, "batch", show=enabled, done=done)
        self._validation: dict[str, str] = {}

    def show(self, epoch: int, batch: int, row: dict[str, float]) -> None:
        """Move to this batch of this epoch (from 1)."""
        self._describe(epoch, row)
        self._bar.update((epoch - 1) * self.batches + batch - self._bar.n)

    def finish(self, row: dict[str, float]) -> None:
        """The epoch of this row of the history is over; the next ones show its validation accuracies."""
        self._validation = {name: f"{row[name]:.1%}" for name in ("clean", "robust") if name in row}
        self._describe(int(row["epoch"]), row)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the bar as it stands."""
        self._bar.close()

    def _describe(self, epoch: int, row: dict[str, float]) -> None:
        figures = {"loss": f"{row['loss']:.3f}"}
        if "train_robust" in row:
            figures["train robust"] = f"{row['train_robust']:.1%}"
        figures |= self._validation | {"images/s": f"{row['images_per_second']:.0f}"}
        self._bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
        self._bar.set_postfix_str(", ".join(f"{name}={value}" for name, value in figures.items()), refresh=False)
