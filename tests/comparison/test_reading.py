"""Grids as they are written: what is read, and what is told."""

from pathlib import Path
from typing import Any

import pytest

from art_ext.comparison import cells_of, grid_of, load_grid, shipped_grids
from tests.comparison.conftest import quick


@pytest.mark.parametrize("name", list(shipped_grids()))
def test_shipped_grids_make_sense(name: str) -> None:
    grid = load_grid(name)
    cells = cells_of(grid)
    assert grid.description
    assert len({cell.row for cell in cells.values()}) > 1
    assert {cell.seed for cell in cells.values()} == set(grid.seeds)


def test_a_base_lies_beside_the_grid(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("base: fashion-mnist-5k-piat\ntrainer: {nb_epochs: 3}")
    (tmp_path / "grid.yaml").write_text("base: ./base.yaml\nmethods: {trades: {trainer: {loss: trades}}}")
    (cell,) = cells_of(load_grid(tmp_path / "grid.yaml")).values()
    assert (cell.recipe.trainer.nb_epochs, cell.recipe.trainer.loss) == (3, "trades")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"methods": {}}, "methods must name at least one method"),
        ({"method": {}}, "unknown key 'method'; did you mean 'methods'"),
        ({"seeds": []}, "seeds must be a list of at least one"),
        ({"seeds": [1, 1]}, "1 is there twice"),
        ({"seeds": [-1]}, "whole number"),
        ({"methods": {"a b": {}}}, "got 'a b'"),
        ({"methods": {"a": {"lable": "A"}}}, "did you mean 'label'"),
        ({"methods": {"a": {"trainer": {"lss": "mart"}}}}, "did you mean 'trainer.loss'"),
        ({"methods": {"a": {"label": "X"}, "b": {"label": "X"}}}, "'X' is there twice"),
        ({"methods": {"a": {"art_options": {"beta": 1}}}}, "need art"),
        ({"methods": {"a": {"art": "trades", "trainer": {"loss": "mart"}}}}, "trainer.loss cannot be set"),
        ({"averaging": ["piatt"]}, "did you mean 'piat'"),
        ({"averaging": ["ema", "ema"]}, "'ema' is there twice"),
        ({"threats": {"wide": {"norm": "l2"}}}, "threat wide: eps is missing"),
        ({"threats": {"wide": {"epsilon": 1}}}, "did you mean 'eps'"),
        ({"evaluation": {"atacks": {}}}, "did you mean 'attacks'"),
        ({"evaluation": {"attacks": {"A": "pgd-2"}}}, "did you mean 'pgd-20'"),
        ({"evaluation": {"attacks": {}}}, "at least one column"),
        ({"evaluation": {"checkpoints": ["bset"]}}, "did you mean 'best'"),
        ({"evaluation": {"checkpoints": "best"}}, "must be a list"),
        ({"evaluation": {"n_examples": 0}}, "n_examples must be"),
        ({"evaluation": {"worst_class": "yes"}}, "worst_class must be true or false"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=r"^grid grid.*" + told):
        grid_of({**quick(), **changes} if "averaging" not in changes else quick(**changes))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"methods": {"a": {}, "A": {}}}, "two cells are called 'a_seed-0'"),
        ({"recipe": {"data": {"validation_split": 0.0}}}, "asks for 'best', but the run holds no images out"),
        ({"methods": {"a": {"trainer": {"loss": "mrt"}}}}, "cell a_seed-0: .*did you mean 'mart'"),
        ({"methods": {"a": {"trainer": {"steps": "many"}}}}, "cell a_seed-0: .*trainer.steps"),
        ({"methods": {"a": {"art": "madri"}}}, "did you mean 'madry-pgd'"),
        ({"methods": {"a": {"art": "trades", "art_options": {"betta": 1}}}}, "did you mean 'beta'"),
        ({"methods": {"a": {"art": "fbf", "threat": {"norm": "l2"}}}}, "knows the norm linf only"),
        ({"methods": {"a": {"art": "pgd", "trainer": {"grad_clip": 1.0}}}}, "do not know trainer.grad_clip"),
        ({"averaging": ["ema"], "methods": {"a": {"trainer": {"averaging": "swa"}}}}, "an averaging of its own"),
        ({"averaging": {"ema": {"decai": 1}}}, "did you mean 'decay'"),
    ],
)
def test_cells_that_make_no_sense_are_told_before_any_run(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        cells_of(grid_of(quick(**changes)))


@pytest.mark.parametrize(
    "grid, error, told",
    [
        ("fashion-mnist-grid", ValueError, "did you mean 'fashion-mnist-5k-grid'"),
        ("missing.yaml", FileNotFoundError, "no grid at missing.yaml"),
    ],
)
def test_grids_that_are_not_there(grid: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        load_grid(grid)
