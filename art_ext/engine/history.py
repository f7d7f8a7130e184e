"""The figures of each epoch: in memory, as JSON lines, as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from art_ext.engine.checkpoint import or_warn
from art_ext.files import atomic_write
from art_ext.palette import PALETTE

Row = dict[str, float]


class History:
    """One row of figures per epoch, in ``path`` as a JSON line when there is one.

    Columns: ``epoch`` (from 1), ``lr``, ``loss``, ``train_robust`` (accuracy on the adversarial training batches),
    ``seconds``, ``images_per_second``, with a validation set ``clean`` and ``robust``, and those of the loss and of the
    averaging.
    Accuracies are shares in [0, 1].

    Example:
        >>> history = History()
        >>> history.append({"epoch": 1, "robust": 0.25})
        >>> history.append({"epoch": 2, "robust": 0.20})
        >>> history.best("robust")
        {'epoch': 1, 'robust': 0.25}
    """

    def __init__(self, path: Path | None = None) -> None:
        self.rows: list[Row] = []
        self._path = path
        self._write()

    def __len__(self) -> int:
        """Epochs so far."""
        return len(self.rows)

    def append(self, row: Row) -> None:
        """Add an epoch; where the file cannot be written, that is a warning, and the next epoch tries again."""
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        if self._path is not None:
            with or_warn(self._path), atomic_write(self._path) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in self.rows))

    def keep_in(self, path: Path) -> None:
        """Write to this file from now on, beginning with the rows so far."""
        self._path = path
        self._write()

    def restore(self, rows: list[Row]) -> None:
        """Go on from these rows."""
        self.rows = list(rows)
        self._write()

    def column(self, name: str) -> list[float]:
        """The values of one figure, in the order of the epochs that have it."""
        return [row[name] for row in self.rows if name in row]

    def best(self, name: str) -> Row | None:
        """The first epoch with the highest value of a figure; None where no epoch has it."""
        return max((row for row in self.rows if name in row), key=lambda row: row[name], default=None)

    def plot(self, path: str | Path) -> None:
        """Draw loss and accuracies over the epochs as a picture (PNG, SVG, PDF by the suffix)."""
        plot_histories({"": self}, path)


ACCURACIES = {"clean": "clean, validation", "robust": "robust, validation", "train_robust": "robust, training"}


def plot_histories(histories: dict[str, History], path: str | Path) -> None:
    """Draw the learning curves of several runs side by side: one panel per figure, one line per run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {"loss": "training loss", **ACCURACIES}
    shown = {k: v for k, v in panels.items() if any(h.column(k) for h in histories.values())}
    figure = Figure(figsize=(4 * len(shown), 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, len(shown), squeeze=False)[0]
    for axis, (name, title) in zip(axes, shown.items(), strict=True):
        axis.set_prop_cycle(color=PALETTE)
        for label, history in histories.items():
            rows = [row for row in history.rows if name in row]
            scale = 1 if name == "loss" else 100
            axis.plot([r["epoch"] for r in rows], [scale * r[name] for r in rows], label=label, marker=".")
        axis.set(title=title, xlabel="epoch", ylabel="" if name == "loss" else "%")
        axis.grid(alpha=0.3)
    if len(histories) > 1:
        axes[-1].legend(frameon=False, fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
