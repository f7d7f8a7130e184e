"""Defaults written out."""

from typing import Any

import pytest

from art_ext.recipes import DataSection, as_text, load_recipe, recipe_of
from art_ext.recipes.defaults import complete
from art_ext.recipes.options import with_defaults
from art_ext.recipes.text import parse


@pytest.mark.parametrize(
    "changes, path, expected",
    [
        ({"trainer": {"loss": "mart"}}, ("trainer", "loss_options"), {"beta": 5.0}),
        ({"trainer": {"averaging": "ema"}}, ("trainer", "averaging_options"), {"decay": 0.999, "warm_up": True}),
        ({"trainer": {"averaging": None}}, ("trainer", "averaging_options"), {}),
        ({"schedule": {"name": "cosine"}}, ("schedule", "options"), {"minimum": 0.0}),
        (
            {"optimizer": {"name": "sgd", "options": {"momentum": 0.9}}},
            ("optimizer", "options"),
            {"momentum": 0.9, "dampening": 0.0, "nesterov": False},
        ),
    ],
    ids=["loss", "averaging", "no averaging", "schedule", "optimizer"],
)
def test_options_by_default_are_written_out(changes: dict[str, Any], path: tuple[str, str], expected: Any) -> None:
    whole = complete(load_recipe("fashion-mnist-5k-piat", changes))
    assert getattr(getattr(whole, path[0]), path[1]) == expected
    assert complete(whole) == whole
    assert recipe_of(parse(as_text(whole))) == whole


def test_a_folder_knows_its_defaults() -> None:
    recipe = load_recipe("fashion-mnist-5k-piat", {"data": {"name": "folder", "root": "x", "options": {"size": 8}}})
    options = complete(recipe).data.options
    assert (options["train"], options["test"], options["crop"]) == ("train", "val", "random")
    assert "root" not in options
    assert DataSection(name="folder", options=options).options == options


def test_what_is_given_comes_first() -> None:
    def function(given: int, b: tuple[int, int] = (1, 2), a: float = 0.5) -> None:
        """Takes three."""

    assert with_defaults({"a": 2}, function, ["given"]) == {"b": [1, 2], "a": 2}
