"""Parametric noise by one line of a recipe."""

from pathlib import Path
from typing import Any

import pytest
import torch

from art_ext.engine import History
from art_ext.nn.parametric_noise import noise_scales
from art_ext.recipes import Recipe, load_run, make_data, recipe_of, run_recipe, shipped
from art_ext.recipes.build import make_classifier

LEAST: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 2}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64, "test_examples": 20},
    "threat": {"eps": 0.1},
    "trainer": {
        "loss": "alp",
        "loss_options": {"weight": 0},
        "steps": 1,
        "batch_size": 32,
        "nb_epochs": 1,
        "progress": False,
    },
    "optimizer": {"lr": 0.1, "weight_decay": 0.01},
}


def recipe(noise: str | None) -> Recipe:
    return recipe_of({**LEAST, "model": LEAST["model"] | {"parametric_noise": noise}})


@pytest.fixture(autouse=True)
def unplotted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of each epoch takes longer than all the rest."""
    monkeypatch.setattr(History, "plot", lambda self, path: None)


def test_a_run_learns_the_sizes_and_is_found_again(tmp_path: Path) -> None:
    trained = run_recipe(recipe("element"), tmp_path).classifier.model
    sizes = noise_scales(trained)
    assert all(bool((alpha != 0.25).any()) for alpha in sizes.values())
    again, _, classifier = load_run(tmp_path, "last")
    assert again.model.parametric_noise == "element"
    found = classifier.model.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in trained.state_dict().items())


@pytest.mark.parametrize("noise", ["layer", "channel", "element"])
def test_the_optimizer_of_a_recipe_does_not_decay_them(noise: str) -> None:
    chosen = recipe(noise)
    classifier = make_classifier(chosen, make_data(chosen.data))
    assert [group["weight_decay"] for group in classifier.optimizer.param_groups] == [0.01, 0.0]
    plain = recipe(None)
    assert len(make_classifier(plain, make_data(plain.data)).optimizer.param_groups) == 1


def test_weights_without_noise_to_begin_with(tmp_path: Path) -> None:
    run_recipe(recipe(None), tmp_path)
    start = LEAST["model"] | {"parametric_noise": "layer", "checkpoint": str(tmp_path / "last.safetensors")}
    chosen = recipe_of({**LEAST, "model": start})
    assert len(noise_scales(make_classifier(chosen, make_data(chosen.data)).model)) == 6


def test_an_unknown_granularity_names_the_key() -> None:
    with pytest.raises(ValueError, match=r'"model.parametric_noise".*layer.*chanel'):
        recipe("chanel")


def test_recipes_ship() -> None:
    texts = {name: path.read_text(encoding="utf-8") for name, path in shipped().items()}
    assert {name for name, text in texts.items() if "parametric_noise:" in text} == {
        "noisenet-cifar10-resnet20",
        "noisenet-fashion-mnist-5k",
    }
