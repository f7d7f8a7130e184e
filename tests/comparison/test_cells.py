"""The cells of a grid."""

from collections.abc import Callable

import pytest

from art_ext.comparison import Grid, cells_of, find_cell

Make = Callable[..., Grid]


def test_every_combination_is_a_cell(make_grid: Make) -> None:
    cells = cells_of(
        make_grid(averaging=["none", "piat"], seeds=[0, 7], threats={"a": {"eps": 0.1}, "b": {"eps": 0.2}})
    )
    ours = [f"pgd-at_{averaging}" for averaging in ("none", "piat")]
    expected = [f"{method}_{t}_seed-{seed}" for t in "ab" for method in (*ours, "art_none") for seed in (0, 7)]
    assert list(cells) == expected
    assert cells["pgd-at_piat_b_seed-7"].row == "PGD-AT + PIAT (b)"
    recipe = cells["pgd-at_piat_b_seed-7"].recipe
    assert (recipe.trainer.averaging, recipe.threat.eps, recipe.trainer.seed) == ("piat", 0.2, 7)


def test_axes_that_are_not_there_change_nothing(make_grid: Make) -> None:
    grid = make_grid(recipe={"trainer": {"averaging": "ema", "step_size": 0.05}})
    cells = cells_of(grid)
    assert list(cells) == ["pgd-at_seed-0", "art_seed-0"]
    ours, art = (cell.recipe.trainer for cell in cells.values())
    assert (ours.averaging, ours.step_size) == ("ema", 0.05)
    assert (art.averaging, art.step_size, art.precision) == (None, 0.05, "fp32")


def test_a_step_size_belongs_to_its_threat(make_grid: Make) -> None:
    threats = {"narrow": {"eps": 0.1}, "wide": {"eps": 0.3, "step_size": 0.2}}
    cells = cells_of(make_grid(recipe={"trainer": {"step_size": 0.05}}, threats=threats))
    assert cells["pgd-at_narrow_seed-0"].recipe.trainer.step_size is None
    assert cells["pgd-at_wide_seed-0"].recipe.trainer.step_size == 0.2


def test_options_of_an_averaging(make_grid: Make) -> None:
    grid = make_grid(averaging={"none": {}, "ema": {"decay": 0.5}}, recipe={"trainer": {"averaging": "piat"}})
    cells = cells_of(grid)
    assert cells["pgd-at_ema_seed-0"].recipe.trainer.averaging_options["decay"] == 0.5
    assert cells["pgd-at_none_seed-0"].recipe.trainer.averaging is None


def test_a_wrong_name_is_answered_with_the_nearest(make_grid: Make) -> None:
    with pytest.raises(ValueError, match="did you mean 'art_seed-0'"):
        find_cell(cells_of(make_grid()), "art_seed-1")
