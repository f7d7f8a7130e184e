"""A grid so small that a cell takes a second."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from art_ext.comparison import Grid, grid_of
from art_ext.recipes import merged
from art_ext.recipes.text import dump

QUICK: dict[str, Any] = {
    "description": "digits",
    "recipe": {
        "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
        "data": {"name": "digits", "train_examples": 64, "validation_split": 0.25},
        "threat": {"eps": 0.1},
        "trainer": {"steps": 1, "nb_epochs": 2, "batch_size": 32, "precision": "fp32", "progress": False},
        "optimizer": {"name": "adam", "lr": 0.01},
    },
    "methods": {"pgd-at": {"label": "PGD-AT"}, "art": {"label": "ART", "art": "pgd"}},
    "seeds": [0],
    "evaluation": {"attacks": {"FGSM": "fgsm"}, "n_examples": 16},
}


def quick(**changes: Any) -> dict[str, Any]:
    """The mapping of the quick grid with these keys merged in; methods, attacks and the like are replaced."""
    content = deepcopy(QUICK)
    for key, value in changes.items():
        content[key] = merged(content["recipe"], value) if key == "recipe" else value
    return content


@pytest.fixture
def make_grid() -> Callable[..., Grid]:
    return lambda **changes: grid_of(quick(**changes))


@pytest.fixture
def grid_file(tmp_path: Path) -> Callable[..., Path]:
    def write(**changes: Any) -> Path:
        path = tmp_path / "digits.yaml"
        path.write_text(dump(quick(**changes)), encoding="utf-8")
        return path

    return write
