"""What depends on the planned number of epochs."""

from typing import Any

import pytest

from art_ext.averaging import AVERAGINGS
from art_ext.losses import LOSSES
from art_ext.recipes import load_recipe
from art_ext.recipes.planned import planned


@pytest.mark.parametrize(
    "changes, told",
    [
        ({}, []),
        ({"schedule": {"name": "piecewise-linear"}}, ["the schedule 'piecewise-linear'"]),
        ({"trainer": {"averaging": "swa"}}, ["the averaging 'swa'"]),
        ({"trainer": {"averaging": "ema"}}, []),
        ({"trainer": {"loss": "mail", "averaging": "swa"}}, ["the loss 'mail'", "the averaging 'swa'"]),
        ({"trainer": {"loss": "mail", "loss_options": {"burn_in": 0.0}}}, []),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_parts_told_in_shares_of_the_epochs(changes: dict[str, Any], told: list[str]) -> None:
    assert planned(load_recipe("fashion-mnist-5k-piat", changes)) == told


@pytest.mark.parametrize("name", LOSSES)
def test_losses_that_switch_something_on(name: str) -> None:
    found = planned(load_recipe("fashion-mnist-5k-piat", {"trainer": {"loss": name}}))
    assert bool(found) == name.startswith("mail")


def test_averagings_are_those_that_are_known_here() -> None:
    known = {"piat", "ema", "swa", "fawa"}
    assert set(AVERAGINGS) == known, "if the new one counts on the planned number, so must planned()"
