"""The table of a comparison class by class: what a mean hides, and class-wise methods are made for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from art_ext.comparison.summary import Row
from art_ext.comparison.tables import HEADS, MISSING
from art_ext.evaluation import markdown


def classes_text(rows: Sequence[Row], *, title: str = "") -> str:
    """Markdown: a table for each attack and checkpoint, with a row for each method; the lowest of a row is bold.

    Args:
        rows: of the table, with their ``classes``.
        title: one line.

    Example:
        >>> found = {"PGD-20": {"last": {0: 0.5, 3: 0.125}}}
        >>> print(classes_text([Row(label="CFA", seeds=(0,), planned=1, figures={}, classes=found)], title="Digits"))
        Digits
        <BLANKLINE>
        PGD-20, final, class by class:
        <BLANKLINE>
        | method | 0 | 3 |
        | --- | ---: | ---: |
        | CFA | 50.0 | **12.5** |
        <BLANKLINE>
    """
    parts = [(heading, c) for heading, found in rows[0].classes.items() for c in found]
    tables = ["\n".join(_table(rows, heading, checkpoint)) for heading, checkpoint in parts]
    return "\n\n".join([markdown.escape(title), *tables]) + "\n"


def _table(rows: Sequence[Row], heading: str, checkpoint: str) -> Iterator[str]:
    found = [(row.label, row.classes[heading][checkpoint]) for row in rows]
    classes = sorted({number for _, shares in found for number in shares})
    yield f"{markdown.escape(heading)}, {HEADS[checkpoint]}, class by class:\n"
    yield f"| {' | '.join(['method', *map(str, classes)])} |"
    yield f"| {' | '.join(['---', *['---:'] * len(classes)])} |"
    for label, shares in found:
        yield f"| {' | '.join([markdown.escape(label), *_cells(classes, shares)])} |"


def _cells(classes: Sequence[int], shares: Mapping[int, float]) -> Iterator[str]:
    lowest = min(shares.values(), default=None)
    for number in classes:
        share = shares.get(number)
        told = MISSING if share is None else f"{100 * share:.1f}"
        yield f"**{told}**" if share is not None and share == lowest else told
