"""Pictures over epochs, λ and μ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.figures import Curve
from art_ext.evaluation.figures.curve import STD
from art_ext.reproduce.piat_toy.claims import PAIRS
from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.measures import MEASURES, runs_of, swept
from art_ext.reproduce.piat_toy.settings import Settings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SCHEDULE = "PIAT's schedule"
Lines = dict[str, tuple[float, ...]]


def courses(runs: Sequence[Run], settings: Settings) -> Figure:
    """Robust accuracy after each epoch: a row for each pair of methods, seed 0 on the left, all seeds on the right."""
    note = f"{settings.threat}; PGD-{settings.judging_steps}; {settings.test} test points; "
    figure, grid = _panels(len(PAIRS), 2)
    for row, pair in zip(grid, PAIRS, strict=True):
        found = {name: runs_of(runs, name) for name in reversed(pair)}
        single = {name: of[0].robust for name, of in found.items()}
        _course(row[0], f"{pair[1]} and {pair[0]}, one training", single, f"{note}seed {found[pair[0]][0].seed}")
        several = _merged(_spread(name, [run.robust for run in of]) for name, of in found.items())
        _course(row[1], f"{pair[1]} and {pair[0]}, mean of the seeds", several, f"{note}{settings.seeds} seeds")
    return figure


def weight_sweep(runs: Sequence[Run], settings: Settings) -> Figure:
    """Fixed λ against PIAT's schedule, with NMSE: over the epochs, at the end, and what is lost per epoch."""
    methods = settings.swept_weights
    found = {weight: swept(runs, method, settings) for weight, method in methods.items()}
    note = _note(settings)
    figure, (row,) = _panels(1, 3)
    lines = {
        (SCHEDULE if weight is None else f"λ = {weight:g}"): _mean([run.robust for run in of])
        for weight, of in found.items()
    }
    _course(row[0], "Fixed λ, with NMSE", lines, note)
    for axes, name in zip(row[1:], ("robust", "fall"), strict=True):
        fixed = {weight: of for weight, of in found.items() if weight is not None}
        level = fmean(MEASURES[name].of(run, settings.tail) for run in found[None])
        drawn = _measured("fixed λ", name, fixed, settings) | {SCHEDULE: (level,) * len(fixed)}
        _measure(axes, name, "λ", tuple(fixed), drawn, note, settings)
    return figure


def mu_sweep(runs: Sequence[Run], settings: Settings) -> Figure:
    """The weight μ of NMSE under PIAT's schedule: accuracies at the end, and what is lost per epoch."""
    found = {mu: swept(runs, method, settings) for mu, method in settings.swept_mus.items()}
    note = _note(settings)
    figure, (row,) = _panels(1, 2)
    accuracies = _merged(_measured(name, name, found, settings) for name in ("clean", "robust"))
    _measure(row[0], "robust", "μ", tuple(found), accuracies, note, settings, title="Accuracy at the end")
    _measure(row[1], "fall", "μ", tuple(found), _measured("PIAT+NMSE", "fall", found, settings), note, settings)
    return figure


TITLES = {"robust": "Robust accuracy at the end", "fall": "Robust accuracy lost per epoch"}


def _measure(
    axes: Axes,
    name: str,
    x_label: str,
    x: tuple[float, ...],
    lines: Lines,
    note: str,
    settings: Settings,
    *,
    title: str = "",
) -> None:
    label = f"mean of the last {settings.tail} epochs" if name == "robust" else "mean of all epochs"
    Curve(
        title=title or TITLES[name], x_label=x_label, x=x, lines=lines, y_label=label, log_x=x_label == "μ", note=note
    ).draw(axes)
    axes.yaxis.set_major_formatter("{x:.1%}")


def _course(axes: Axes, title: str, lines: Lines, note: str) -> None:
    epochs = tuple(range(len(next(iter(lines.values())))))
    Curve(title=title, x_label="epoch", x=epochs, lines=lines, y_label="robust accuracy", note=note).draw(axes)
    axes.yaxis.set_major_formatter("{x:.0%}")


def _measured(label: str, name: str, found: Mapping[Any, Sequence[Run]], settings: Settings) -> Lines:
    """Mean and spread of a measure at each place of a sweep."""
    columns = [[MEASURES[name].of(run, settings.tail) for run in of] for of in found.values()]
    return {label: tuple(map(fmean, columns)), label + STD: tuple(map(_std, columns))}


def _spread(label: str, rows: Sequence[Sequence[float]]) -> Lines:
    return {label: _mean(rows), label + STD: tuple(_std(column) for column in zip(*rows, strict=True))}


def _mean(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    return tuple(fmean(column) for column in zip(*rows, strict=True))


def _std(values: Sequence[float]) -> float:
    return stdev(values) if len(values) > 1 else 0.0


def _note(settings: Settings) -> str:
    return f"{settings.threat}; {settings.test} test points; {settings.sweep_seeds} seeds"


def _merged(parts: Any) -> Lines:
    return {name: line for part in parts for name, line in part.items()}


def _panels(rows: int, columns: int) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.9 * columns, 3.1 * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)
