"""What is judged, and where the reports lie."""

from pathlib import Path

import pytest

from art_ext.comparison import Judging
from art_ext.comparison.judging import about, is_judged, places
from art_ext.recipes import load_recipe

RECIPE = load_recipe("fashion-mnist-5k-piat")


def test_other_settings_ask_for_other_reports() -> None:
    asked = [Judging(), Judging(seed=1), Judging(n_examples=5), Judging(attacks={"PGD-20": "fgsm"})]
    found = {places(judging, RECIPE, Path())["last"]["PGD-20"] for judging in asked}
    assert len(found) == len(asked)


def test_checkpoints_come_in_one_order() -> None:
    assert Judging(checkpoints=("last", "best")).checkpoints == ("best", "last")


def test_nothing_is_judged_yet(tmp_path: Path) -> None:
    assert not is_judged(Judging(), RECIPE, tmp_path)


@pytest.mark.parametrize("attack, told", [("margin-pgd-20", "Carlini"), ("standard", "native"), ("fgsm", "fgsm")])
def test_columns_are_said_for_what_they_are(attack: str, told: str) -> None:
    (line,) = about(Judging(attacks={"CW": attack}))
    assert line.startswith("CW: ")
    assert told in line
