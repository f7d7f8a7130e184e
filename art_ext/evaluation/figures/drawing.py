"""What all pictures share: axes that are readable on white and on black, inline SVG, files.

Matplotlib is imported when a picture is drawn, and its global state (pyplot, rcParams) is afterwards as before.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from art_ext.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#757575"  # contrast 4.6 with white as with black: above the 4.5 that WCAG AA asks of small text
_NOTE_CHARACTERS_PER_INCH = 19  # at 7 points
_STYLE = "max-width: 100%; height: auto; stroke-linejoin: round; stroke-linecap: butt"


class Drawable(Protocol):
    """A picture as a value: `Curve`, `Landscape`, `Gallery`."""

    def figure(self) -> Figure:
        """A new figure with the picture."""


FigureLike: TypeAlias = "Figure | Drawable"


def figure_of(
    draw: Callable[[Axes], Any], *, size: tuple[float, float] = (4.8, 3.6), projection: str | None = None
) -> Figure:
    """A new figure with one pair of axes, on which ``draw`` is called.

    Args:
        draw: what fills the axes.
        size: width and height in inches.
        projection: ``"3d"``, or None for plain axes.

    Example:
        >>> figure_of(lambda axes: axes.plot([0, 1], [1, 0])).axes[0].lines[0].get_ydata().tolist()
        [1, 0]
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure.add_subplot(projection=projection))
    return figure


def decorate(axes: Axes, *, title: str, x_label: str, y_label: str, note: str = "") -> None:
    """Title, a small note below it, and labels, all in `INK`; text is taken as it is, a ``$`` begins no formula.

    Example:
        >>> figure = figure_of(lambda axes: decorate(axes, title="Cost", x_label="ε", y_label="$", note="one run"))
        >>> figure.axes[0].get_title(loc="left")
        'Cost'
    """
    inches = axes.get_window_extent().width / axes.get_figure(root=True).dpi  # type: ignore[union-attr]  # they stand in a figure
    below = small_print(note, inches)
    pad = 6 + 9 * (below.count("\n") + 1 if below else 0)
    axes.set_title(plain(title), loc="left", fontsize=10, color=INK, pad=pad)
    axes.annotate(
        below, (0, 1), (0, 4), "axes fraction", textcoords="offset points", fontsize=7, color=INK, va="bottom"
    )
    axes.set_xlabel(plain(x_label), color=INK)
    axes.set_ylabel(plain(y_label), color=INK)
    axes.tick_params(colors=INK, labelsize=8)
    for spine in axes.spines.values():
        spine.set_color(INK)


def small_print(text: str, inches: float) -> str:
    r"""Text as it is, broken into lines that at 7 points are no wider than ``inches``.

    Example:
        >>> small_print("PGD-20; 1000 images; seed 0", 1.0)
        'PGD-20; 1000\nimages; seed 0'
    """
    return plain(textwrap.fill(text, max(1, int(_NOTE_CHARACTERS_PER_INCH * inches))))


def plain(text: str) -> str:
    r"""Text that matplotlib shows as it is: a ``$`` begins no formula.

    Example:
        >>> plain("5 $")
        '5 \\$'
    """
    return text.replace("$", r"\$")


def svg(figure_like: FigureLike) -> str:
    """The picture as an ``<svg>`` element for the body of an HTML page.

    Text stays text, the background is transparent, and axes and text have the page's text colour (``currentColor``).
    The same picture gives the same characters; identifiers begin with a digest of them, so that several pictures can
    stand in one page.

    Args:
        figure_like: a matplotlib ``Figure``, or anything with a method ``figure()``.

    Raises:
        TypeError: neither of the two.

    Example:
        >>> text = svg(figure_of(lambda axes: axes.set_title("title")))
        >>> text.startswith("<svg "), ">title</text>" in text, text.endswith("</svg>")
        (True, True, True)
    """
    import matplotlib

    figure, stream = _figure(figure_like), StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "art_ext", "svg.id": None}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    return _inline(stream.getvalue())


def save(figure_like: FigureLike, path: str | os.PathLike[str]) -> None:
    """Write the picture, atomically; the suffix of ``path`` says the format.

    Args:
        figure_like: as in `svg`.
        path: ``.svg`` is the text of `svg`; ``.png`` (200 dots per inch), ``.pdf``, … have a white background.

    Raises:
        TypeError: as in `svg`.
        ValueError: a suffix that matplotlib does not know.
        OSError: ``path`` cannot be written; an older file there is untouched.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "line.png"
        >>> save(figure_of(lambda axes: axes.plot([0, 1])), path)
        >>> path.read_bytes()[1:4]
        b'PNG'
    """
    figure, suffix = _figure(figure_like), Path(path).suffix.lower().removeprefix(".")
    known = figure.canvas.get_supported_filetypes()
    if suffix not in known:
        raise ValueError(f"path must end in one of {', '.join(f'.{s}' for s in sorted(known))}; got {str(path)!r}")
    undated = {"CreationDate": None} if suffix in ("pdf", "ps", "eps") else None
    with atomic_write(path) as temporary:
        if suffix == "svg":
            temporary.write_text(svg(figure), encoding="utf-8")
        else:
            figure.savefig(temporary, format=suffix, dpi=200, facecolor="white", metadata=undated)


def _figure(figure_like: Any) -> Figure:
    from matplotlib.figure import Figure

    if isinstance(figure_like, Figure):
        return figure_like
    if not callable(getattr(figure_like, "figure", None)):
        raise TypeError(
            f"figure_like must be a matplotlib Figure or have a method figure(); got {type(figure_like).__name__}"
        )
    return figure_like.figure()


def _inline(text: str) -> str:
    """The element alone: no prolog, no style sheet (it would hold for the whole page), identifiers of its own."""
    text = text[text.index("<svg ") :].strip()
    text = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", text, count=1, flags=re.DOTALL)
    mark = sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>f{mark}-", text)
    return text.replace("<svg ", f'<svg role="img" style="{_STYLE}" ', 1).replace(INK, "currentColor")
