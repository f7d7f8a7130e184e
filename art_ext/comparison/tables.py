"""The table of a comparison: plain text, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from art_ext.comparison.summary import DIFFERENCE, Figure, Row
from art_ext.evaluation import latex, markdown
from art_ext.evaluation.numbers import MINUS

HEADS = {"best": "best", "last": "final", DIFFERENCE: "diff"}
MISSING = "–"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows and what is printed under them.

    Args:
        title: one line.
        rows: a method each.
        notes: sentences on how it was made, and on what is missing.
        command: that repeats it.

    Example:
        >>> figures = {"clean": {"last": Figure(0.8125, 0.01)}, "PGD-20": {"last": Figure(0.5)}}
        >>> row = Row(label="TRADES", seeds=(0, 1), planned=3, figures=figures)
        >>> print(text(Table(title="Accuracy (%)", rows=[row])))
        Accuracy (%)
        <BLANKLINE>
                           clean      PGD-20
                 seeds         final   final
        TRADES  2 of 3  81.25 ± 1.00   50.00
    """

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)
    command: str = ""


def text(table: Table) -> str:
    """For a terminal."""
    cells = [_lower(table), *(_cells(row) for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    upper, at = [" " * (widths[0] + 2 + widths[1])], 2
    for heading, parts in _blocks(table):
        room = sum(widths[at : at + len(parts)]) + 2 * (len(parts) - 1)
        widths[at] += max(0, len(heading) - room)
        upper.append(heading.center(max(room, len(heading))))
        at += len(parts)
    lines = ["  ".join(upper).rstrip(), *(_line(row, widths) for row in cells)]
    notes = ["", *table.notes, *([table.command] if table.command else [])] if table.notes or table.command else []
    return "\n".join([table.title, "", *lines, *notes])


def markdown_text(table: Table) -> str:
    """For a README."""
    head, rows = _head(table), [_cells(row) for row in table.rows]
    rule = ["---", *["---:"] * (len(head) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in ([markdown.escape(c) for c in head], rule, *map(_escaped, rows))]
    notes = [f"- {markdown.escape(note)}" for note in table.notes]
    command = ["", f"```sh\n{table.command}\n```"] if table.command else []
    return "\n".join([markdown.escape(table.title), "", *lines, "", *notes, *command]) + "\n"


def latex_text(table: Table) -> str:
    r"""For a paper; needs ``\usepackage{booktabs}``."""
    blocks = _blocks(table)
    columns = "l" + "c" * sum(len(block) for _, block in blocks)
    return (
        "\n".join(
            [
                r"\begin{table}[t]",
                r"\centering",
                rf"\caption{{{_latex('. '.join([table.title, *map(_sentence, table.notes)]) + '.')}}}",
                r"\resizebox{\textwidth}{!}{%",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                *_latex_head(blocks),
                r"\midrule",
                *(" & ".join(_latex_cells(row)) + latex.END for row in table.rows),
                r"\bottomrule",
                r"\end{tabular}}",
                r"\end{table}",
                *([f"% {table.command}"] if table.command else []),
            ]
        )
        + "\n"
    )


def shown(figure: Figure | None, *, signed: bool = False) -> str:
    """In percent (points), with the standard deviation where there is one.

    Example:
        >>> shown(Figure(0.5, 0.0123)), shown(Figure(-0.01), signed=True), shown(None)
        ('50.00 ± 1.23', '−1.00', '–')
    """
    if figure is None:
        return MISSING
    mean = f"{100 * figure.mean:+.2f}" if signed else f"{100 * figure.mean:.2f}"
    mean = mean[1:] if float(mean) == 0 and signed else mean
    return mean.replace("-", MINUS) + ("" if figure.std is None else f" ± {100 * figure.std:.2f}")


def _blocks(table: Table) -> list[tuple[str, list[str]]]:
    """Heading and the checkpoints under it."""
    return [(heading, list(found)) for heading, found in table.rows[0].figures.items()]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    label, *numbers = cells
    return "  ".join([label.ljust(widths[0]), *map(str.rjust, numbers, widths[1:])])


def _head(table: Table) -> list[str]:
    """The columns in one line."""
    return ["method", "seeds", *(f"{heading} {HEADS[part]}" for heading, parts in _blocks(table) for part in parts)]


def _lower(table: Table) -> list[str]:
    """The columns under their headings."""
    return ["", "seeds", *(HEADS[part] for _, parts in _blocks(table) for part in parts)]


def _cells(row: Row) -> list[str]:
    whole = len(row.seeds) == row.planned
    return [row.label, str(row.planned) if whole else f"{len(row.seeds)} of {row.planned}", *_numbers(row)]


def _numbers(row: Row) -> Iterator[str]:
    for found in row.figures.values():
        yield from (shown(figure, signed=part == DIFFERENCE) for part, figure in found.items())


def _escaped(cells: Sequence[str]) -> list[str]:
    return [markdown.escape(cell) for cell in cells]


def _latex_head(blocks: list[tuple[str, list[str]]]) -> list[str]:
    upper, rules, at = [""], [], 2
    for heading, parts in blocks:
        upper.append(rf"\multicolumn{{{len(parts)}}}{{c}}{{{latex.escape(heading)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + len(parts) - 1}}}")
        at += len(parts)
    lower = ["Method", *(HEADS[part] for _, parts in blocks for part in parts)]
    return [" & ".join(upper) + latex.END, " ".join(rules), " & ".join(lower) + latex.END]


def _latex_cells(row: Row) -> list[str]:
    seeds = "" if len(row.seeds) == row.planned else f" ({len(row.seeds)} of {row.planned} seeds)"
    return [_latex(row.label + seeds), *map(_latex, _numbers(row))]


def _latex(words: str) -> str:
    return latex.escape(words).replace("±", r"$\pm$")


def _sentence(note: str) -> str:
    return note[:1].upper() + note[1:]
