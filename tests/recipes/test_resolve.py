"""From files and mappings to typed recipes, and back."""

from pathlib import Path
from typing import Any

import pytest

from art_ext.engine import EngineOptions
from art_ext.recipes import (
    as_text,
    differences,
    find,
    load_recipe,
    merged,
    read_recipe,
    recipe_of,
    save_recipe,
    shipped,
)
from art_ext.recipes.layers import keys_of, read_layers
from art_ext.recipes.run import checked
from art_ext.recipes.text import parse

LEAST: dict[str, Any] = {"model": {"name": "small_cnn"}, "data": {"name": "digits"}, "threat": {"eps": 0.1}}
TEXT = """
model: {name: small_cnn}
data: {name: digits}
threat: {eps: 8/255}
trainer: {loss: nmse, loss_options: {mu: 2}}
"""


@pytest.mark.parametrize("name", shipped())
def test_shipped_recipes_are_whole_and_read_back_the_same(name: str) -> None:
    recipe = checked(load_recipe(name))
    assert recipe.description
    assert recipe_of(parse(as_text(recipe))) == recipe


def test_every_option_of_the_engine_is_a_key_of_the_trainer() -> None:
    assert set(EngineOptions.__dataclass_fields__) - {"checkpoint_dir"} <= set(keys_of("trainer"))


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"trainr": {}}, "'trainr'; did you mean 'trainer'"),
        ({"trainer": {"lss": 1}}, "'trainer.lss'; did you mean 'trainer.loss'"),
        ({"trainer": {"eps": 0.1}}, "did you mean 'threat.eps'"),
        ({"trainer": {"checkpoint_dir": "x"}}, "unknown key 'trainer.checkpoint_dir'"),
        ({"trainer": 3}, "trainer must be a section"),
        ({"trainer": {"steps": 2.5}}, '"trainer.steps".*int.*2.5'),
        ({"trainer": {"loss": 3}}, '"trainer.loss".*str.*3'),
        ({"threat": {"eps": "much"}}, '"threat.eps".*float.*much'),
        ({"threat": {"norm": "l7"}}, '"threat.norm".*linf.*l7'),
        ({"trainer": {"nb_epochs": 0}}, "section trainer: nb_epochs must be at least 1"),
        ({"trainer": {"precision": "int8"}}, "section trainer: precision"),
        ({"trainer": {"tracking": "tensorbord"}}, "tensorboard"),
        ({"data": {"name": "digits", "validation_split": 1.0}}, "section data: validation_split"),
        ({"data": {"name": "digits", "train_examples": 0}}, "train_examples must be at least 1"),
        ({"data": {}}, "data.name"),
        ({"model": {}}, "model.name"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_bad_recipes_name_the_key(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        recipe_of({**LEAST, **changes}, source="recipe mine")


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"loss": "nmsee"}, "did you mean 'nmse'"),
        ({"loss_options": {"my": 1.0}}, "'my' of loss 'nmse'; did you mean 'mu'"),
        ({"averaging": "piatt"}, "did you mean 'piat'"),
        ({"averaging_options": {"decay": 0.9}}, "need an averaging"),
        ({"averaging": "ema", "averaging_options": {"dekay": 0.9}}, "did you mean 'decay'"),
    ],
    ids=["loss", "loss option", "averaging", "options of none", "averaging option"],
)
def test_names_and_options_are_checked_before_any_data_are_read(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked(recipe_of({**LEAST, "trainer": {"loss": "nmse", **changes}}))


@pytest.mark.parametrize(
    "section, changes, told",
    [
        ("optimizer", {"name": "sgdd"}, "did you mean 'sgd'"),
        ("optimizer", {"options": {"momentun": 0.9}}, "did you mean 'momentum'"),
        ("optimizer", {"options": {"lr": 0.9}}, "unknown option 'lr'"),
        ("optimizer", {"lr": -1.0}, "learning rate"),
        ("schedule", {"name": "cosin"}, "did you mean 'cosine'"),
        ("schedule", {"name": "multistep"}, "needs the options milestones"),
        ("schedule", {"name": "multistep", "options": {"milestones": [36]}}, "shares of the epochs"),
    ],
    ids=["optimizer", "its option", "given twice", "lr", "schedule", "missing option", "milestones"],
)
def test_optimizer_and_schedule_are_checked_before_any_data_are_read(
    section: str, changes: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError, match=told):
        checked(recipe_of({**LEAST, section: changes}))


def test_the_file_and_the_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT)
    assert load_recipe(path).threat.eps == 8 / 255
    changed = load_recipe(path, {"trainer": {"steps": 3}})
    assert (changed.trainer.steps, changed.trainer.loss_options) == (3, {"mu": 2})
    assert load_recipe(path, {"trainer": {"loss": "trades"}}).trainer.loss_options == {}


def test_bases_lie_underneath(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(TEXT)
    (tmp_path / "middle.yaml").write_text("base: ./base.yaml\ntrainer: {loss_options: {mu: 3}, steps: 4}\n")
    (tmp_path / "top.yaml").write_text("base: middle.yaml\ntrainer: {steps: 5}\n")
    trainer = load_recipe(tmp_path / "top.yaml").trainer
    assert (trainer.loss, trainer.loss_options, trainer.steps) == ("nmse", {"mu": 3}, 5)


def test_a_circle_of_bases_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml")
    (tmp_path / "b.yaml").write_text("base: a.yaml")
    with pytest.raises(ValueError, match="circle"):
        read_layers(tmp_path / "a.yaml")


def test_names_and_paths() -> None:
    assert find("fashion-mnist-5k-piat").name == "fashion-mnist-5k-piat.yaml"
    with pytest.raises(ValueError, match="did you mean 'fashion-mnist-5k-piat'"):
        find("fashion-mnist-5k-pait")
    with pytest.raises(FileNotFoundError, match=r"mine\.yaml"):
        find("mine.yaml")


def test_merging_leaves_both_as_they_were() -> None:
    under = {"trainer": {"loss": "nmse", "loss_options": {"mu": 1}}}
    assert merged(under, {"trainer": {"loss_options": {"ce_on": "adv"}}})["trainer"]["loss_options"] == {
        "mu": 1,
        "ce_on": "adv",
    }
    merged(under, {"trainer": {"loss": "alp"}})
    assert under == {"trainer": {"loss": "nmse", "loss_options": {"mu": 1}}}


def test_saved_and_read_and_compared(tmp_path: Path) -> None:
    recipe = recipe_of(LEAST)
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    other = recipe_of({**LEAST, "trainer": {"steps": 3}, "description": "another"})
    assert differences(recipe, other) == {"trainer.steps": (10, 3)}
