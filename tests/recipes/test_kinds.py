"""Trainers and preprocessors that a recipe names: made, refused, trained, and found again on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_ext import AToPTrainer, INNTrainer, NoisyTrainer, PurifierPreprocessor, RobustTrainer
from art_ext.nn.masking import Masking
from art_ext.nn.soft_vote import SoftVote
from art_ext.nn.thresholds import learn_thresholds
from art_ext.preprocessors import PREPROCESSORS
from art_ext.recipes import Recipe, load_run, make_data, recipe_of, run_recipe, shipped
from art_ext.recipes.build import make_classifier
from art_ext.recipes.judging import which_of
from art_ext.recipes.kinds import make_trainer, trained_classifier
from art_ext.recipes.planned import planned
from art_ext.recipes.preprocessing import make_preprocessors
from art_ext.recipes.run import checked

LEAST: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64, "test_examples": 20},
    "threat": {"eps": 0.1},
    "trainer": {"batch_size": 32, "nb_epochs": 2, "progress": False, "precision": "fp32"},
}
QUANTIZED = [{"name": "soft-quantization", "levels": 3}]


def recipe(**sections: dict[str, Any]) -> Recipe:
    return recipe_of({**LEAST, **{name: LEAST.get(name, {}) | keys for name, keys in sections.items()}})


KINDS = {
    "robust": ({}, {}, RobustTrainer),
    "noisy": ({"kind": "noisy", "kind_options": {"noise": "signs"}, "averaging": "ema"}, {}, NoisyTrainer),
    "quantized": ({"kind": "noisy"}, {"preprocessors": QUANTIZED}, NoisyTrainer),
    "inn": ({"kind": "inn", "kind_options": {"snapshots": 2, "beta": 0.0, "gamma": 0.0}}, {}, INNTrainer),
}


@pytest.mark.parametrize("trainer, model, cls", KINDS.values(), ids=KINDS)
def test_a_run_is_found_again(trainer: dict[str, Any], model: dict[str, Any], cls: type, tmp_path: Path) -> None:
    chosen = recipe(trainer=trainer, model=model)
    data = make_data(chosen.data)
    assert type(make_trainer(chosen, make_classifier(chosen, data))) is cls
    done = run_recipe(chosen, tmp_path / "run")
    again, data, classifier = load_run(tmp_path / "run", "last")
    assert again == done.recipe == checked(chosen)
    found, expected = (c.predict(data.x_test) for c in (classifier, done.classifier))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.shape == (20, 10)
    assert isinstance(classifier.model, SoftVote) is (cls is INNTrainer)


ATOP: dict[str, Any] = {
    "kind": "atop",
    "kind_options": {"purifier_options": {"width": 4}, "transform_options": {"grid": 4}, "pretrain_epochs": 1},
    "steps": 1,
}


def test_a_purifier_is_found_again_in_front_of_the_network_that_it_was_trained_for(tmp_path: Path) -> None:
    run_recipe(recipe(), tmp_path / "network")
    weights = str(tmp_path / "network" / "last.safetensors")
    chosen = recipe(trainer=ATOP, model={"checkpoint": weights}, optimizer={"name": "adam", "lr": 1e-3})
    done = run_recipe(chosen, tmp_path / "run")
    again, data, classifier = load_run(tmp_path / "run", "last")
    assert again == done.recipe == checked(chosen)
    (defense,) = classifier.preprocessing_defences
    assert isinstance(defense, PurifierPreprocessor)
    for made in (done.classifier, classifier):
        made.preprocessing_defences[0].set_params(transform=Masking("rt2", grid=4, seed=0))
    found, expected = (c.predict(data.x_test) for c in (classifier, done.classifier))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    trainer = make_trainer(chosen, make_classifier(chosen, data))
    assert type(trainer) is AToPTrainer
    assert trainer.optimizer.defaults["lr"] == 1e-3


def test_a_purifier_needs_a_trained_network() -> None:
    chosen = recipe(trainer=ATOP)
    with pytest.raises(ValueError, match=r"'atop' protects a network that is trained already: .* model\.checkpoint"):
        make_trainer(chosen, make_classifier(chosen, make_data(chosen.data)))


def test_preprocessors_come_in_their_order_with_the_defaults_written_out() -> None:
    chosen = recipe(model={"preprocessors": [{"name": "inn", "alpha": 0.2}, *QUANTIZED]})
    first, second = make_classifier(chosen, make_data(chosen.data)).preprocessing_defences
    assert (type(first).name, first.alpha, first.module.backgrounds.shape[1:]) == ("inn", 0.2, (1, 8, 8))
    assert (type(second).name, second.levels, second.temperature) == ("soft-quantization", 3, 0.1)
    written = checked(chosen).model.preprocessors
    assert written[0]["beta"] == 0.1
    assert written[1]["temperature"] == 0.1
    assert recipe_of({**LEAST, "model": {**LEAST["model"], "preprocessors": written}}).model.preprocessors == written


LEARNT = [{"name": "soft-quantization", "levels": 3, "thresholds": "learnt", "per_channel": True}]


@pytest.mark.parametrize("kind", ["noisy", "robust"])
def test_thresholds_are_learnt_when_the_run_begins_and_kept_with_it(kind: str, tmp_path: Path) -> None:
    chosen = recipe(trainer={"kind": kind, "nb_epochs": 1}, model={"preprocessors": LEARNT})
    done = run_recipe(chosen, tmp_path)
    (layer,) = done.classifier.preprocessing_defences
    expected = learn_thresholds(done.data.x_train, 3, per_channel=True)
    assert layer.module.thresholds.shape == (1, 2)
    assert torch.equal(layer.module.thresholds, expected)
    again, data, classifier = load_run(tmp_path, "last")
    assert again.model.preprocessors[0]["thresholds"] == "learnt"
    assert torch.equal(classifier.preprocessing_defences[0].module.thresholds, expected)
    other = replace(again, data=replace(again.data, train_examples=40))  # judged beside other images
    moved = trained_classifier(other, make_data(other.data), tmp_path / "last.safetensors")
    assert torch.equal(moved.preprocessing_defences[0].module.thresholds, expected)
    np.testing.assert_allclose(moved.predict(data.x_test), classifier.predict(data.x_test), atol=1e-6)


def test_nothing_is_learnt_from_streamed_images() -> None:
    section = recipe(model={"preprocessors": LEARNT}).model
    for images in (None, np.empty((0, 1, 8, 8), np.float32)):
        with pytest.raises(ValueError, match="thresholds: learnt needs images in memory"):
            make_preprocessors(section, (1, 8, 8), "cpu", images)


JUDGED = {
    "robust": ("robust", None, "best"),
    "noisy": ("noisy", None, "last"),
    "inn": ("inn", None, "last"),
    "inn, told": ("inn", "best", "best"),
}


@pytest.mark.parametrize("kind, which, expected", JUDGED.values(), ids=JUDGED)
def test_which_epoch_is_judged_where_images_are_held_out(kind: str, which: str | None, expected: str) -> None:
    chosen = recipe(trainer={"kind": kind}, data={"validation_split": 0.25}, evaluation={"which": which})
    assert which_of(chosen) == expected
    assert which_of(recipe(trainer={"kind": kind})) == "last"


BAD: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "kind": ({"kind": "nois"}, {}, "unknown kind of trainer 'nois'; did you mean 'noisy'"),
    "option": (
        {"kind": "inn", "kind_options": {"alfa": 1}},
        {},
        "unknown option 'alfa' of trainer 'inn'; did you mean",
    ),
    "option of another": ({"kind_options": {"noise": "signs"}}, {}, "unknown option 'noise' of trainer 'robust'"),
    "loss": ({"kind": "inn", "loss": "nmse"}, {}, "trainer.loss is 'nmse', but trainer.kind 'inn' does not use it"),
    "steps": ({"kind": "noisy", "steps": 3}, {}, "trainer.steps is 3, but trainer.kind 'noisy' does not use it"),
    "averaging": ({"kind": "inn", "averaging": "ema"}, {}, "trainer.averaging is 'ema', but trainer.kind 'inn'"),
    "preprocessor": ({}, {"preprocessors": [{"name": "noise"}]}, "unknown preprocessor 'noise'"),
    "without a name": ({}, {"preprocessors": [{"scale": 1}]}, "each must have a name"),
    "its option": ({}, {"preprocessors": [{"name": "inn", "alfa": 1}]}, "unknown option 'alfa' of preprocessor 'inn'"),
    "thresholds": (
        {},
        {"preprocessors": [{"name": "soft-quantization", "thresholds": "lernt"}]},
        "thresholds of preprocessor 'soft-quantization' must be null, numbers or learnt; got 'lernt'",
    ),
    "channels without learning": (
        {},
        {"preprocessors": [{"name": "soft-quantization", "per_channel": True}]},
        "per_channel of preprocessor 'soft-quantization' is about thresholds: learnt, which is missing",
    ),
    "what it needs": ({}, {"preprocessors": [{"name": "noise-injection"}]}, "needs the options scale"),
}


@pytest.mark.parametrize("trainer, model, told", BAD.values(), ids=BAD)
def test_wrong_recipes(trainer: dict[str, Any], model: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        checked(recipe(trainer=trainer, model=model))


def test_the_number_of_epochs_decides_about_the_annealing() -> None:
    quantized = recipe(trainer={"kind": "noisy"}, model={"preprocessors": QUANTIZED})
    assert planned(quantized) == ["the annealing of the soft quantization"]
    constant = replace(quantized, trainer=replace(quantized.trainer, kind_options={"anneal": None}))
    assert planned(constant) == planned(recipe(trainer={"kind": "inn"})) == []


def test_every_preprocessor_and_kind_has_a_recipe() -> None:
    texts = [path.read_text(encoding="utf-8") for path in shipped().values()]
    for kind in ("inn", "atop"):
        assert any(f"kind: {kind}" in text for text in texts), kind
    for name in PREPROCESSORS.keys() - {"inn", "random-transform", "purifier"}:  # their trainers bring their own
        assert any(f"name: {name}" in text for text in texts), name


def test_noise_is_as_the_seed_says(tmp_path: Path) -> None:
    injected = {"preprocessors": [{"name": "noise-injection", "scale": 0.1, "apply_fit": True}]}
    runs = [run_recipe(recipe(model=injected), tmp_path / name).classifier.model.state_dict() for name in "ab"]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
