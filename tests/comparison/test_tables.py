"""The table as text, Markdown, LaTeX and a picture."""

from pathlib import Path

import pytest

from art_ext.comparison.picture import picture
from art_ext.comparison.summary import Figure, Row
from art_ext.comparison.tables import Table, latex_text, markdown_text, text


def row(label: str, best: float | None, seeds: int = 2, planned: int = 2) -> Row:
    std = 0.012 if seeds > 1 else None
    known = None if best is None else Figure(best, std)
    difference = None if best is None else Figure(-0.01, std)
    return Row(
        label=label,
        seeds=tuple(range(seeds)),
        planned=planned,
        figures={name: {"best": known, "last": known, "difference": difference} for name in ("clean", "CW & co")},
    )


TABLE = Table(
    title="Digits: accuracy (%)",
    rows=[row("PGD-AT", 0.5), row("A_B", 0.25, seeds=1), row("none", None, seeds=0)],
    notes=["the first 500 images; ℓ∞, ε = 0.1", "mean ± standard deviation"],
    command="art-ext compare grid.yaml --output out",
)


def test_text() -> None:
    lines = text(TABLE).splitlines()
    assert lines[0] == "Digits: accuracy (%)"
    upper, lower, *rows = lines[2:7]
    assert upper.split() == ["clean", "CW", "&", "co"]
    assert lower.split() == ["seeds", *["best", "final", "diff"] * 2]
    assert len({len(line) for line in (lower, *rows)}) == 1
    assert 0 < lower.index("best") < upper.index("clean") < lower.index("diff") < lower.rindex("best")
    assert [line.split()[0] for line in rows] == ["PGD-AT", "A_B", "none"]
    assert rows[0].split()[1:5] == ["2", "50.00", "±", "1.20"]
    assert rows[0].endswith("−1.00 ± 1.20")
    assert rows[1].split()[1:5] == ["1", "of", "2", "25.00"]
    assert "±" not in rows[1]
    assert rows[2].split()[4:] == ["–"] * 6
    assert lines[-1] == TABLE.command


def test_markdown() -> None:
    lines = markdown_text(TABLE).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len({line.count(" | ") for line in table}) == 1
    assert table[0].startswith("| method | seeds | clean best")
    assert table[3].startswith(r"| A\_B | 1 of 2 |")
    assert "- mean ± standard deviation" in lines
    assert lines[-3:] == ["```sh", TABLE.command, "```"]


def test_latex() -> None:
    lines = latex_text(TABLE).splitlines()
    rows = [line for line in lines if line.startswith(("PGD-AT", r"A\_B", "none", "Method"))]
    assert {line.count("&") for line in rows} == {6}
    assert r"50.00 $\pm$ 1.20" in rows[1]
    assert rows[2].startswith(r"A\_B (1 of 2 seeds) &")
    assert r" & \multicolumn{3}{c}{clean} & \multicolumn{3}{c}{CW \& co} \\" in lines
    assert r"\cmidrule(lr){2-4} \cmidrule(lr){5-7}" in lines
    (caption,) = [line for line in lines if line.startswith(r"\caption")]
    assert r"$\varepsilon$ = 0.1. Mean $\pm$ standard deviation.}" in caption
    assert lines[-1] == f"% {TABLE.command}"


@pytest.mark.parametrize("rows", [TABLE.rows, TABLE.rows[2:]], ids=["some", "none"])
def test_picture(rows: list[Row], tmp_path: Path) -> None:
    picture(rows, tmp_path / "table.svg", title="Digits")
    drawn = (tmp_path / "table.svg").read_text(encoding="utf-8")
    assert all(f">{row.label}</text>" in drawn for row in rows)
    assert drawn.count("missing</text>") == 2
    assert all(f">{name}</text>" in drawn for name in ("clean", "CW &amp; co", "Digits"))
