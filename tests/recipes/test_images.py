"""The images of a recipe."""

from typing import Any

import numpy as np
import pytest

from art_ext.recipes import DataSection, make_data, recipe_of
from art_ext.recipes.build import fit, make_classifier
from art_ext.recipes.kinds import make_trainer


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


def test_held_out_images_keep_their_labels() -> None:
    clean, noisy = (
        make_data(DataSection(name="digits", validation_split=0.25, label_noise=share), seed=3) for share in (0.0, 0.5)
    )
    assert clean.held_out is not None
    assert noisy.held_out is not None
    assert np.array_equal(clean.held_out[1], noisy.held_out[1])
    assert (clean.y_train != noisy.y_train).mean() == pytest.approx(0.5, abs=1e-3)


def test_the_split_is_that_of_the_trainer() -> None:
    recipe = recipe_of(
        {
            "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
            "data": {"name": "digits", "train_examples": 90, "validation_split": 0.3},
            "threat": {"eps": 0.1},
            "trainer": {"steps": 1, "nb_epochs": 1, "progress": False, "seed": 5},
        }
    )
    data, whole = (
        make_data(section, seed=5) for section in (recipe.data, DataSection(name="digits", train_examples=90))
    )
    trainers = [make_trainer(recipe, make_classifier(recipe, data)) for _ in "ab"]
    fit(recipe, trainers[0], data)
    trainers[1].fit(whole.x_train, whole.y_train, validation_split=0.3, nb_epochs=1, batch_size=128)
    ours, its = ({k: v for k, v in t.history.rows[0].items() if "second" not in k} for t in trainers)
    assert ours == its
    assert "robust" in ours


@pytest.mark.parametrize(
    "section, told",
    [
        ({"name": "cifar"}, "did you mean 'cifar100?'"),
        ({"name": "digits", "options": {"size": 8}}, "takes no options"),
        ({"name": "digits", "classes": ["three"]}, "are numbers; got 'three'"),
        ({"name": "digits", "train_examples": 2, "validation_split": 0.9}, "leaves nothing of 2"),
        ({"name": "digits", "label_noise": 1.5}, "label_noise must be in"),
        ({"name": "folder"}, "needs the options size"),
        ({"name": "folder", "options": {"size": 8}}, "needs data.root"),
        ({"name": "folder", "root": "x", "options": {"size": 8, "crop": "middle"}}, "crop must be random or centre"),
        ({"name": "folder", "root": "x", "options": {"size": 8, "worker": 1}}, "did you mean 'workers'"),
        ({"name": "shards", "root": "x", "options": {"size": 8}}, "needs the options train, test, num_classes"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_sections_are_told(section: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_data(DataSection(**section))
