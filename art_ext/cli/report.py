"""``art-ext report``: saved reports as a page, as Markdown or as a LaTeX table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from art_ext.evaluation.html import comparison_page, report_page
from art_ext.evaluation.latex import comparison_latex
from art_ext.evaluation.markdown import comparison_markdown
from art_ext.evaluation.report import RobustnessReport
from art_ext.files import atomic_write

Format = Literal["html", "markdown", "latex"]
SUFFIXES: dict[str, Format] = {".html": "html", ".htm": "html", ".md": "markdown", ".tex": "latex"}


def report(reports: list[str], out: str | None = None, format: Format | None = None, title: str = "") -> None:
    """Make a page of one saved report, or compare several on the same images.

    The first report is what the others are compared with; models are named after their files.

    Args:
        reports: files that RobustnessReport.to_json wrote.
        out: file to write; without it, the text goes to standard output.
        format: html, markdown or latex; by default what the suffix of out says, else html.
        title: heading of the page.
    """
    try:
        text = rendered(read(reports), format or _format_of(out), title)
        if out is None:
            sys.stdout.write(text)
            return
        with atomic_write(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SystemExit(f"art-ext report: {error}") from error
    print(f"written: {out}", file=sys.stderr)


def rendered(reports: dict[str, RobustnessReport], format: Format, title: str = "") -> str:
    """One report, or the comparison of several, in this format."""
    if len(reports) > 1:
        if format == "html":
            return comparison_page(reports, title=title)
        return comparison_latex(reports) if format == "latex" else comparison_markdown(reports)
    ((label, only),) = reports.items()
    if format == "html":
        return report_page(only, title=title or label)
    return only.to_latex() if format == "latex" else only.to_markdown()


def read(paths: Sequence[str]) -> dict[str, RobustnessReport]:
    """The reports by label.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a report; the message names the file.
    """
    files = [Path(path) for path in paths]
    return {label: _read(file) for label, file in zip(labels(files), files, strict=True)}


def labels(files: Sequence[Path]) -> list[str]:
    """A name for each file: its stem; with folders in front where stems are the same; with a number as a last resort.

    Example:
        >>> labels([Path("runs/piat/report.json"), Path("runs/trades/report.json")]), labels([Path("a/piat.json")])
        (['piat/report', 'trades/report'], ['piat'])
    """
    stems = [file.resolve().with_suffix("").parts for file in files]
    for depth in range(1, max(map(len, stems)) + 1):
        names = ["/".join(stem[-depth:]) for stem in stems]
        if len(set(names)) == len(names):
            return names
    return [f"{file.stem} ({number})" for number, file in enumerate(files, 1)]


def _read(file: Path) -> RobustnessReport:
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}")
    try:
        return RobustnessReport.from_json(file)
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # whatever a foreign JSON has at these places
        raise ValueError(f"{file} is not a report that RobustnessReport.to_json wrote: {error}") from error


def _format_of(out: str | None) -> Format:
    return SUFFIXES.get(Path(out).suffix.lower(), "html") if out else "html"
