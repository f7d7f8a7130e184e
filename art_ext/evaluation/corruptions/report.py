"""The report of an evaluation under corruptions: as a table, as JSON, as a heat map."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from statistics import fmean
from typing import Any

from art_ext.evaluation.stored import read_fields, write_fields
from art_ext.evaluation.table import aligned, percent

NOTE = "in the style of CIFAR-10-C, not comparable with its published files"


@dataclass(frozen=True, kw_only=True)
class CorruptionReport:
    """The result of `evaluate_corruptions`; ``print(report)`` shows a table.

    Args:
        clean_accuracy: without corruption, in [0, 1].
        severities: in the order of the columns.
        accuracies: for each corruption the accuracy at each of ``severities``.
        n_examples: number of images.
        seed: of all random choices.
        versions: of art_ext, torch, ART, numpy and Python.
        device: where the network was.
        precision: dtype of the network's weights.

    Example:
        >>> report = CorruptionReport(
        ...     clean_accuracy=0.9,
        ...     severities=(1, 5),
        ...     accuracies={"fog": (0.8, 0.6), "jpeg": (0.75, 0.25)},
        ...     n_examples=20,
        ... )
        >>> print(report)
               severity 1  severity 5     mean
        clean                          90.00 %
        fog       80.00 %     60.00 %  70.00 %
        jpeg      75.00 %     25.00 %  50.00 %
        mean      77.50 %     42.50 %  60.00 %
        20 images; seed 0; in the style of CIFAR-10-C, not comparable with its published files
        >>> CorruptionReport.from_json(report.to_json()) == report
        True
    """

    clean_accuracy: float
    severities: tuple[int, ...]
    accuracies: dict[str, tuple[float, ...]]
    n_examples: int
    seed: int = 0
    versions: dict[str, str] | None = None
    device: str = "cpu"
    precision: str = "float32"

    @property
    def means(self) -> dict[str, float]:
        """Mean over the severities, for each corruption."""
        return {name: fmean(shares) for name, shares in self.accuracies.items()}

    @property
    def mean_corruption_accuracy(self) -> float:
        """Mean over all corruptions and severities, in [0, 1]."""
        return fmean(self.means.values())

    def __str__(self) -> str:
        columns = [fmean(column) for column in zip(*self.accuracies.values(), strict=True)]
        rows = [
            ("", *(f"severity {s}" for s in self.severities), "mean"),
            ("clean", *[""] * len(self.severities), percent(self.clean_accuracy)),
            *((name, *map(percent, (*shares, self.means[name]))) for name, shares in self.accuracies.items()),
            ("mean", *map(percent, (*columns, self.mean_corruption_accuracy))),
        ]
        return "\n".join([*aligned(rows), f"{self.n_examples} images; seed {self.seed}; {NOTE}"])

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; also written to ``path``, atomically, if given.

        Raises:
            OSError: ``path`` cannot be written; an older file there is untouched.
        """
        data = {"mean_corruption_accuracy": self.mean_corruption_accuracy, "means": self.means, **asdict(self)}
        return write_fields(data, path)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> CorruptionReport:
        """The report of a JSON text, or of a file that `to_json` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: not JSON, or not such a report; the message names the fields.
        """
        own = {f.name for f in fields(cls)}
        read = read_fields(source, own | {"mean_corruption_accuracy", "means"}, what="CorruptionReport")
        data = {name: read[name] for name in own}
        data["severities"] = tuple(data["severities"])
        data["accuracies"] = {name: tuple(shares) for name, shares in data["accuracies"].items()}
        return cls(**data)

    def draw(self, axes: Any) -> None:
        """Paint a heat map of the accuracies on a matplotlib ``Axes``: corruptions down, severities across."""
        rows = list(self.accuracies.values())
        axes.imshow([[100 * share for share in row] for row in rows], cmap="viridis", vmin=0, vmax=100, aspect="auto")
        axes.set_xticks(range(len(self.severities)), [str(s) for s in self.severities])
        axes.set_yticks(range(len(rows)), list(self.accuracies))
        axes.set_xlabel("severity")
        axes.set_title(f"accuracy (%), {self.n_examples} images, clean {percent(self.clean_accuracy)}", fontsize=11)
        for i, row in enumerate(rows):
            for j, share in enumerate(row):
                colour = "black" if share > 0.6 else "white"  # readable on both ends of viridis
                axes.text(j, i, f"{100 * share:.1f}", ha="center", va="center", color=colour, fontsize=8)
