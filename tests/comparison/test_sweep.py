"""Accuracies over the radius of the training."""

from pathlib import Path

import pytest

from art_ext.comparison import cells_of, load_grid, write_tables
from art_ext.comparison.columns import Column
from art_ext.comparison.output import _mark
from art_ext.comparison.summary import Figure, Row
from art_ext.comparison.sweep import is_sweep, sweep
from art_ext.palette import PALETTE


def row(line: str, eps: float, value: float | None, *, norm: str = "linf", std: float | None = None) -> Row:
    figure = None if value is None else Figure(value, std)
    figures = {name: {"best": figure, "last": figure, "difference": figure} for name in ("clean", "PGD, own")}
    return Row(label=f"{line} ({eps})", seeds=(0,), planned=1, figures=figures, line=line, norm=norm, eps=eps)


ROWS = [row("AT", 0.1, 0.5), row("AT", 8 / 255, 0.6, std=0.01), row("NMSE", 0.1, 0.4), row("NMSE", 0.2, None)]


@pytest.mark.parametrize(
    "rows, expected",
    [
        pytest.param(ROWS, True, id="several radii"),
        pytest.param(ROWS[:1], False, id="one"),
        pytest.param([row("AT", 0.1, 0.5), row("NMSE", 0.2, 0.5)], False, id="a method each"),
        pytest.param([row("AT", 0.1, 0.5), row("AT", 1.0, 0.5, norm="l2")], False, id="two norms"),
    ],
)
def test_which_grids_are_sweeps(rows: list[Row], expected: bool) -> None:
    assert is_sweep(rows) is expected


@pytest.mark.parametrize("column, expected", [({}, None), ({"eps": 0.1}, 0.1), ({"norm": "l2", "eps": 1.0}, None)])
def test_marks_are_radii_in_the_norm_of_the_training(column: dict, expected: float | None) -> None:
    assert _mark(Column("pgd-20", column), "linf") == expected


def test_the_lines_are_the_accuracies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr("art_ext.comparison.sweep.save", lambda canvas, path: drawn.append(canvas))
    sweep(ROWS, tmp_path / "x.png", title="Digits", marks=[None, 0.1])
    clean, attacked = drawn[0].axes
    at = [line for line in clean.lines if line.get_color() == PALETTE[0] and len(line.get_xdata()) == 2]
    x, y = at[0].get_xdata().tolist(), at[0].get_ydata().tolist()
    assert x == [8 / 255, 0.1]  # in the order of the radii
    assert y == [60.0, 50.0]
    assert [text.get_text() for text in clean.get_xticklabels()] == ["8/255", "0.1", "0.2"]
    assert [line.get_xdata() for line in attacked.lines if line.get_linestyle() == ":"] == [[0.1, 0.1]]
    assert not [line for line in clean.lines if line.get_linestyle() == ":"]


def test_a_picture(tmp_path: Path) -> None:
    sweep(ROWS, tmp_path / "sweep.svg", title="Digits")
    text = (tmp_path / "sweep.svg").read_text(encoding="utf-8")
    assert all(f">{word}</text>" in text for word in ("AT, best", "NMSE, final", "PGD, own", "ε of the training"))


@pytest.mark.parametrize("threats, there", [({"a": {"eps": 0.05}, "b": {"eps": 0.1}}, True), (None, False)])
def test_a_grid_of_several_radii_has_one(make_grid, tmp_path: Path, threats, there: bool) -> None:
    grid = make_grid(
        threats=threats,
        evaluation={"attacks": {"FGSM": "fgsm"}, "threats": {"own": {}, "0.1": {"eps": 0.1}}, "worst_class": True},
    )
    write_tables(grid, cells_of(grid), tmp_path)
    assert (tmp_path / "comparison-eps.png").is_file() is there
    table = (tmp_path / "comparison.txt").read_text(encoding="utf-8")
    assert "FGSM, 0.1, worst class" in table
    assert "worst class: accuracy of the class with the lowest" in table


def test_the_grid_that_ships() -> None:
    grid = load_grid("fashion-mnist-5k-eps-grid")
    cells = cells_of(grid)
    assert [cell.recipe.threat.eps for cell in cells.values()] == [0.025, 0.05, 0.1, 0.15, 0.2]
    assert {cell.recipe.trainer.step_size for cell in cells.values()} == {None}
    assert {cell.line for cell in cells.values()} == {"PGD-AT"}
    assert {str(c.under(next(iter(cells.values())).recipe)) for c in grid.judging.columns().values()} == {
        "ℓ∞ ε=0.025",
        "ℓ∞ ε=0.1",
    }
