"""From recipes to images, classifiers and trainers."""

from typing import Any

import numpy as np
import pytest
import torch

from art_ext.averaging import EMA
from art_ext.recipes import DataSection, Recipe, recipe_of
from art_ext.recipes.build import make_classifier, make_data, make_trainer

LEAST: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 64},
    "threat": {"eps": 0.1},
}


def recipe(**sections: dict[str, Any]) -> Recipe:
    return recipe_of({**LEAST, **{name: LEAST.get(name, {}) | keys for name, keys in sections.items()}})


def test_examples_are_a_choice_that_the_seed_decides() -> None:
    section = DataSection(name="digits", train_examples=200, test_examples=30)
    one, again, other = (make_data(section, seed=seed) for seed in (0, 0, 1))
    assert one.x_train.shape == (200, 1, 8, 8)
    assert len(one.x_test) == len(one.y_test) == 30
    assert np.array_equal(one.x_train, again.x_train)
    assert not np.array_equal(one.x_train, other.x_train)
    assert set(one.y_train) == set(range(10))


def test_classes_are_kept_and_numbered_anew() -> None:
    data = make_data(DataSection(name="digits", classes=[7, 1]))
    assert data.num_classes == 2
    assert set(data.y_train) == set(data.y_test) == {0, 1}


def test_label_noise_spoils_training_labels_only() -> None:
    clean, noisy = (make_data(DataSection(name="digits", label_noise=share)) for share in (0.0, 0.25))
    assert (clean.y_train != noisy.y_train).mean() == pytest.approx(0.25, abs=1e-3)
    assert np.array_equal(clean.y_test, noisy.y_test)


def test_more_examples_than_there_are() -> None:
    with pytest.raises(ValueError, match=r"train_examples is 5000, but there are only 1437"):
        make_data(DataSection(name="digits", train_examples=5000))


def test_the_classifier_is_that_of_the_seed() -> None:
    chosen = recipe(optimizer={"lr": 0.25, "options": {"momentum": 0.5}})
    data = make_data(chosen.data)
    first, second = (make_classifier(chosen, data).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    defaults = make_classifier(chosen, data).optimizer.defaults
    assert (defaults["lr"], defaults["momentum"]) == (0.25, 0.5)


@pytest.mark.parametrize(
    "model, told",
    [
        ({"input_shape": [3, 32, 32]}, r"model.input_shape is \(3, 32, 32\).*\(1, 8, 8\)"),
        ({"num_classes": 4}, "model.num_classes is 4, but 'digits' has 10"),
        ({"name": "small_cn"}, "did you mean .*'small_cnn'"),
    ],
    ids=["shape", "classes", "name"],
)
def test_a_model_for_other_data(model: dict[str, Any], told: str) -> None:
    wrong = recipe(model=model)
    with pytest.raises(ValueError, match=told):
        make_classifier(wrong, make_data(wrong.data))


def test_the_trainer_is_what_the_recipe_says() -> None:
    section = {"loss": "trades", "loss_options": {"beta": 3.0}, "averaging": "ema", "averaging_options": {"decay": 0.5}}
    chosen = recipe(trainer={**section, "grad_clip": 2, "progress": False})
    trainer = make_trainer(chosen, make_classifier(chosen, make_data(chosen.data)))
    assert trainer.loss.name == "trades"
    assert vars(trainer.loss) == {"beta": 3.0}
    assert isinstance(trainer.averaging, EMA)
    assert trainer.averaging.decay == 0.5
    assert trainer.options.grad_clip == 2.0
    assert trainer.threat.eps == 0.1
