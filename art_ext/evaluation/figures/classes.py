"""What an attack does to each class: accuracy class by class, and which class is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from art_ext.evaluation.figures.drawing import INK, decorate, plain
from art_ext.evaluation.report import RobustnessReport
from art_ext.palette import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

READABLE = 12  # classes up to which numbers fit into the cells, and all names on an axis


def per_class_accuracy(report: RobustnessReport) -> dict[int, tuple[float, float]]:
    """Clean and robust accuracy of each class that occurs, in [0, 1], by class in ascending order.

    Args:
        report: of `evaluate`, with its labels and predictions.

    Raises:
        ValueError: a report without them.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> told = {"labels": [0, 0, 1], "clean_predictions": [0, 0, 1], "predictions": [0, 1, 0]}
        >>> report = RobustnessReport(
        ...     clean_accuracy=1.0, survivors=torch.tensor([True, False, False]), attacks={},
        ...     threat=ThreatModel("linf", 0.1), **{name: torch.tensor(values) for name, values in told.items()},
        ... )
        >>> per_class_accuracy(report)
        {0: (1.0, 0.5), 1: (1.0, 0.0)}
    """
    labels, clean, _ = _columns(report)
    of_class = {int(c): labels == c for c in labels.unique()}
    held = report.survivors if report.survival is None else report.survival
    right = (clean == labels).double(), held.double()
    return {c: (right[0][mask].mean().item(), right[1][mask].mean().item()) for c, mask in of_class.items()}


def confusion(report: RobustnessReport, *, clean: bool = False, classes: int | None = None) -> Tensor:
    """How many examples of each class (row) were taken for which class (column), (C, C) int64.

    Args:
        report: of `evaluate`, with its labels and predictions.
        clean: the clean predictions instead of those in the worst case.
        classes: number of classes C; default: as many as occur in labels and predictions.

    Raises:
        ValueError: a report without labels and predictions, or fewer ``classes`` than occur in it.

    Example:
        >>> from art_ext.threat import ThreatModel
        >>> told = {"labels": [0, 0, 1], "clean_predictions": [0, 0, 1], "predictions": [0, 1, 0]}
        >>> report = RobustnessReport(
        ...     clean_accuracy=1.0, survivors=torch.tensor([True, False, False]), attacks={},
        ...     threat=ThreatModel("linf", 0.1), **{name: torch.tensor(values) for name, values in told.items()},
        ... )
        >>> confusion(report).tolist(), confusion(report, clean=True).tolist()
        ([[1, 1], [1, 0]], [[2, 0], [0, 1]])
    """
    columns = _columns(report)
    labels, predicted = columns[0], columns[1 if clean else 2]
    occurring = int(torch.stack(columns).max()) + 1
    if classes is not None and classes < occurring:
        raise ValueError(f"classes must be at least {occurring}, as many as occur in the report; got {classes}")
    count = classes or occurring
    return torch.bincount(labels * count + predicted, minlength=count**2).view(count, count)


def draw_per_class_accuracy(axes: Axes, report: RobustnessReport, *, names: Sequence[str] = ()) -> None:
    """Bars on matplotlib ``axes``: the clean accuracy of each class, and in front of it the robust one.

    Args:
        axes: where to draw.
        report: as in `per_class_accuracy`.
        names: name of each class, for the axis; default: its number.

    Raises:
        ValueError: as in `per_class_accuracy`, or fewer names than classes.

    Example:
        >>> draw_per_class_accuracy(None, RobustnessReport(clean_accuracy=1.0, survivors=None, attacks={}, threat=None))
        Traceback (most recent call last):
        ...
        ValueError: report must have labels, clean_predictions and predictions; it lacks labels, ...
    """
    table = per_class_accuracy(report)
    told = _names(list(table), names)
    decorate(axes, title="Accuracy of each class", x_label="class", y_label="accuracy", note=_note(report))
    for i, (label, colour) in enumerate((("clean", PALETTE[4]), ("robust", PALETTE[0]))):
        axes.bar(range(len(table)), [shares[i] for shares in table.values()], 0.8 - 0.25 * i, color=colour, label=label)
    axes.set_ylim(0, 1.16)  # room for the legend
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.yaxis.set_major_formatter("{x:.0%}")
    _class_ticks(axes, "x", told)
    axes.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=2, loc="upper right")


def draw_confusion(
    axes: Axes, report: RobustnessReport, *, clean: bool = False, classes: int | None = None, names: Sequence[str] = ()
) -> None:
    """The confusion matrix on matplotlib ``axes``, each row as shares of its class; numbers up to 12 classes.

    Args:
        axes: where to draw.
        report: as in `confusion`.
        clean: as in `confusion`.
        classes: as in `confusion`.
        names: name of each class, for the axes; default: its number.

    Raises:
        ValueError: as in `confusion`, or fewer names than classes.

    Example:
        >>> draw_confusion(None, RobustnessReport(clean_accuracy=1.0, survivors=None, attacks={}, threat=None))
        Traceback (most recent call last):
        ...
        ValueError: report must have labels, clean_predictions and predictions; it lacks labels, ...
    """
    counts = confusion(report, clean=clean, classes=classes)
    told = _names(list(range(len(counts))), names)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    title = f"Confusion, {'clean' if clean else 'worst case'}, in % of the true class"
    decorate(axes, title=title, x_label="predicted", y_label="true class", note=_note(report))
    axes.imshow(shares.numpy(), cmap="Blues", vmin=0, vmax=1)
    _class_ticks(axes, "x", told)
    _class_ticks(axes, "y", told)
    axes.spines[:].set_visible(False)
    for i, j in counts.nonzero().tolist() if len(counts) <= READABLE else ():
        colour = "white" if shares[i, j] > 0.5 else "0.25"
        axes.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=7, color=colour)


def _columns(report: RobustnessReport) -> tuple[Tensor, Tensor, Tensor]:
    columns = report.labels, report.clean_predictions, report.predictions
    named = zip(("labels", "clean_predictions", "predictions"), columns, strict=True)
    if missing := [name for name, column in named if column is None]:
        told = "report must have labels, clean_predictions and predictions; it lacks "
        raise ValueError(told + ", ".join(missing))
    return columns  # type: ignore[return-value]  # none of them is None


def _names(classes: list[int], names: Sequence[str]) -> list[str]:
    if names and len(names) <= max(classes):
        raise ValueError(f"names must name all classes up to {max(classes)}; got {len(names)} names")
    return [plain(names[c]) if names else str(c) for c in classes]


def _class_ticks(axes: Axes, which: Literal["x", "y"], names: list[str]) -> None:
    shown = range(0, len(names), 1 + (len(names) - 1) // (2 * READABLE))
    rotation = 40 if which == "x" and max(map(len, names)) > 3 else 0
    placed = {"rotation": rotation, "ha": "right", "rotation_mode": "anchor"} if rotation else {}
    getattr(axes, f"set_{which}ticks")(shown, [names[i] for i in shown], **placed)
    axes.tick_params(axis=which, length=0)


def _note(report: RobustnessReport) -> str:
    return f"{report.threat}; suite {report.suite}; {report.n_examples} images; seed {report.seed}"
