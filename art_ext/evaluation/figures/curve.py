"""A curve as a value: lines over a common axis that can be kept as JSON and drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from math import inf, log2
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.figures.drawing import INK, decorate, figure_of, plain
from art_ext.palette import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STD = " std"  # the line "a std" is the standard deviation of the line "a"
LINES = ("-", "--", ":", "-.")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One or several lines over a common axis, as a value that can be kept as JSON and drawn.

    Args:
        title: what is shown.
        x_label: the horizontal axis, with its unit.
        x: places on it, ascending.
        lines: values at these places by the line's name. A line ``"a std"`` beside a line ``"a"`` is its standard
            deviation, and is drawn as a band around it.
        y_label: the vertical axis; ``"accuracy"`` is drawn from 0 to 100 %.
        log_x: logarithmic horizontal axis, to base 2; linear between a first place at 0 and the second.
        note: how it was measured: attack, ε, number of images, seed.

    Raises:
        ValueError: no line, a line of another length than ``x``, values that are not finite, ``x`` not ascending, or
            negative where ``log_x``.

    Example:
        >>> curve = Curve(title="t", x_label="ε", x=(0, 0.1), lines={"PGD-20": (0.9, 0.4)})
        >>> Curve.from_dict(curve.to_dict()) == curve
        True
    """

    title: str
    x_label: str
    x: tuple[float, ...]
    lines: dict[str, tuple[float, ...]]
    y_label: str = "accuracy"
    log_x: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        """Bring the numbers into one form, and refuse what cannot be drawn."""
        object.__setattr__(self, "x", ascending("x", self.x))
        object.__setattr__(self, "lines", {k: tuple(float(v) for v in line) for k, line in self.lines.items()})
        if self.log_x and self.x[0] < 0:
            raise ValueError(f"x must be ≥ 0 on a logarithmic axis; got {self.x[0]}")
        if not self.lines:
            raise ValueError("lines must hold at least one line; got none")
        for name, line in self.lines.items():
            if len(line) != len(self.x) or not all(-inf < v < inf for v in line):
                raise ValueError(f"lines[{name!r}] must hold {len(self.x)} finite values, as many as x; got {line}")

    def to_dict(self) -> dict[str, Any]:
        """The fields, for `json.dumps` and `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        """The curve of what `to_dict` gave, also after a journey through JSON.

        Raises:
            ValueError: missing or unknown fields.
        """
        if different := set(data) ^ {f.name for f in fields(cls)}:
            raise ValueError(f"not a Curve of this version; missing or unknown: {sorted(different)}")
        return cls(**data)

    def figure(self) -> Figure:
        """A new figure with the curve."""
        return figure_of(self.draw)

    def draw(self, axes: Axes) -> None:
        """Draw the curve on matplotlib ``axes``."""
        decorate(axes, title=self.title, x_label=self.x_label, y_label=self.y_label, note=self.note)
        means = [name for name in self.lines if name.removesuffix(STD) not in set(self.lines) - {name}]
        for i, name in enumerate(means):
            # the first of several is wide, so that it can be seen below another that covers it
            self._draw_line(axes, name, i, width=2.5 if i == 0 < len(means) - 1 else 1.5)
        if self.log_x:
            _to_base_2(axes, self.x)
        if self.y_label == "accuracy":
            axes.set_ylim(0, 1.02)
            axes.yaxis.set_major_formatter("{x:.0%}")
        axes.grid(color=INK, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if len(means) > 1 or len(self.lines) > 1:
            axes.legend(frameon=False, fontsize=8, labelcolor=INK)

    def _draw_line(self, axes: Axes, name: str, i: int, *, width: float) -> None:
        line, std, colour = self.lines[name], self.lines.get(name + STD), PALETTE[i % len(PALETTE)]
        label = plain(name if std is None else f"{name}, mean ± std")
        marker = "o" if len(self.x) <= 25 else None
        axes.plot(
            self.x, line, color=colour, marker=marker, markersize=4, label=label, linewidth=width, ls=LINES[i % 4]
        )
        if std is not None:
            low, high = ([v + sign * s for v, s in zip(line, std, strict=True)] for sign in (-1, 1))
            axes.fill_between(self.x, low, high, color=colour, alpha=0.25, linewidth=0)


def _to_base_2(axes: Axes, x: tuple[float, ...]) -> None:
    if x[0]:
        axes.set_xscale("log", base=2)
    else:
        axes.set_xscale("symlog", base=2, linthresh=x[1] if len(x) > 1 else 1.0)
    powers = [v for v in x if not v or log2(v).is_integer()]
    axes.set_xticks(x if len(x) <= 10 or len(powers) < 2 else powers)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def ascending(name: str, values: Sequence[float], *, least: float = -inf, whole: bool = False) -> tuple[float, ...]:
    """``values`` as numbers; refused where they do not ascend from ``least`` on, or are not whole as they must."""
    try:
        numbers = tuple(float(v) for v in values)
    except TypeError as error:
        raise TypeError(f"{name} must be a sequence of numbers; got {values!r}") from error
    fits = all(least <= v < inf for v in numbers) and all(a < b for a, b in pairwise(numbers))
    if not numbers or not fits or numbers[0] == -inf or (whole and any(v % 1 for v in numbers)):
        kind, limit = "whole" if whole else "finite", "" if least == -inf else f", at least {least:g}"
        raise ValueError(f"{name} must hold ascending {kind} numbers{limit}; got {list(values)}")
    return numbers
