"""The pages: one report, or several side by side."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from art_ext.evaluation.compare import compare
from art_ext.evaluation.facts import by_severity, count, failed_attacks, notes, reasons, threat_text
from art_ext.evaluation.html import view
from art_ext.evaluation.numbers import p_text, points, significant
from art_ext.evaluation.table import percent
from art_ext.evaluation.verdict import VERDICTS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from art_ext.evaluation.corruptions import CorruptionReport
    from art_ext.evaluation.report import RobustnessReport

PNG = b"\x89PNG\r\n\x1a\n"
ADDRESS = re.compile(r"(https?://[^\s<>\"']*[^\s<>\"'.,;:)\]])")
KINDS = {"trusted": "good", "suspect": "warn", "broken evaluation": "bad", "unchecked": "open"}
Figure = tuple[str, str | bytes]


def report_page(
    report: RobustnessReport,
    *,
    title: str = "",
    figures: Sequence[Figure] = (),
    further: Sequence[RobustnessReport | CorruptionReport] = (),
) -> str:
    """One report as a page of HTML that needs nothing else.

    Args:
        report: the report.
        title: heading; says what was evaluated.
        figures: pairs of a caption and a picture: SVG as text or PNG as bytes.
        further: reports on the same model under other threat models, a line each: another ball, or corruptions.

    Raises:
        TypeError: a picture is neither text nor bytes, or ``further`` holds something else.
        ValueError: a picture is not SVG, or not PNG.

    Example:
        >>> import torch
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> fgsm = AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)
        >>> report = RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor([True, False]),
        ...                           attacks={"FGSM": fgsm}, threat=ThreatModel("linf", 8 / 255))
        >>> page = report_page(report, title="ResNet-18 <draft>")
        >>> "ResNet-18 &lt;draft&gt;" in page, "http" in page
        (True, False)
    """
    classes = view.class_rows(report)
    return _render(
        "report.html.j2",
        title=title or "Robustness report",
        report=report,
        robust=view.known(report),
        reasons=reasons(report),
        n_ran=len(report.attacks) - len(failed_attacks(report)),
        bars=view.bars(report),
        signs=by_severity(report.indicators),
        classes=classes[: view.MOST_CLASSES],
        n_classes=len(classes),
        further=[view.further_row(other) for other in further],
        environment=view.environment({"": report}),
        figures=[(caption, _data_uri(picture)) for caption, picture in figures],
    )


def comparison_page(reports: Mapping[str, RobustnessReport], *, title: str = "") -> str:
    """Several reports on the same images as one page; the first is what the others are compared with.

    Args:
        reports: report of each model by its label.
        title: heading.

    Raises:
        ValueError: the reports cannot be compared; see `compare`.

    Example:
        >>> comparison_page({})
        Traceback (most recent call last):
        ...
        ValueError: reports must hold at least one report
    """
    found = compare(reports)
    return _render(
        "comparison.html.j2",
        title=title or "Robustness of " + count(len(reports), "model"),
        found=found,
        reports=reports,
        reasons={label: reasons(report) for label, report in reports.items()},
        groups=view.groups(found),
        environment=view.environment(reports),
    )


def _render(template: str, **content: Any) -> str:
    return _templates().get_template(template).render(content)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(Path(__file__).parent, encoding="utf-8")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {
        "percent": percent,
        "points": points,
        "p": p_text,
        "significant": significant,
        "count": count,
        "threat": threat_text,
        "notes": notes,
        "interval": view.interval_text,
        "linked": _linked,
    }
    made.globals |= {"kinds": KINDS, "BROKEN": VERDICTS[-1]}
    return made


def _linked(text: str) -> Markup:
    """Addresses as links; the rest of the text as text."""
    from markupsafe import Markup

    link = Markup('<a href="{0}" rel="noreferrer">{1}</a>')
    parts = ADDRESS.split(text)
    return Markup("").join(
        link.format(part, part.partition("://")[2]) if i % 2 else part for i, part in enumerate(parts)
    )


def _data_uri(picture: str | bytes) -> str:
    """As an image, an SVG can neither run scripts nor fetch anything, and its ids are its own."""
    if isinstance(picture, str):
        if "<svg" not in picture:
            raise ValueError(f"a figure given as text must be SVG; got {picture[:40]!r}")
        return "data:image/svg+xml;base64," + b64encode(picture.encode()).decode()
    if not isinstance(picture, bytes):
        raise TypeError(f"a figure must be SVG text or PNG bytes; got {type(picture).__name__}")
    if not picture.startswith(PNG):
        raise ValueError(f"a figure given as bytes must be PNG; it starts with {picture[:8]!r}")
    return "data:image/png;base64," + b64encode(picture).decode()
