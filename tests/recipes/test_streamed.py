"""Recipes whose images are read while the training runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_ext.recipes import DataSection, Recipe, judge, load_run, make_data, recipe_of, run_recipe
from art_ext.recipes.build import make_classifier
from tests.data.pictures import cut_short, write_folder, write_shard

SIZE = {"size": 8, "workers": 0}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, images in (("train", 12), ("val", 5)):
        write_folder(tmp_path / "set" / split, {"cat": images, "dog": images, "eel": images})
    return tmp_path / "set"


def folder(root: Path, *, options: dict[str, Any] | None = None, **keys: Any) -> DataSection:
    return DataSection(name="folder", root=str(root), options={**SIZE, **(options or {})}, **keys)


def recipe(root: Path, **trainer: Any) -> Recipe:
    return recipe_of(
        {
            "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
            "data": {"name": "folder", "root": str(root), "options": SIZE, "validation_split": 0.25},
            "threat": {"eps": 0.1},
            "trainer": {"steps": 1, "nb_epochs": 2, "batch_size": 8, "progress": False, "precision": "fp32", **trainer},
            "evaluation": {"suite": "fgsm"},
        }
    )


def test_a_folder_is_trained_on_and_judged(root: Path, tmp_path: Path) -> None:
    done = run_recipe(recipe(root, averaging="piat", loss="nmse"), tmp_path / "run")
    assert [row["epoch"] for row in done.history.rows] == [1, 2]
    assert "robust" in done.history.rows[0]
    found, data, classifier = load_run(tmp_path / "run")
    assert len(judge(found, classifier, data).survivors) == 15
    assert found.data.options["crop"] == "random"


def test_a_resumed_run_on_a_folder_ends_where_the_whole_one_does(root: Path, tmp_path: Path) -> None:
    whole = run_recipe(recipe(root), tmp_path / "whole").classifier.model.state_dict()
    run_recipe(recipe(root, nb_epochs=1), tmp_path / "cut")
    longer = recipe(root)
    longer = replace(longer, data=replace(longer.data, options={"size": 8, "workers": 1}))  # as many as there are cores
    resumed = run_recipe(longer, tmp_path / "cut", resume=True).classifier.model.state_dict()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


def test_what_is_asked_for_is_chosen(root: Path) -> None:
    section = folder(root, classes=["eel", "cat"], train_examples=20, test_examples=6, validation_split=0.2)
    data = make_data(section)
    assert data.num_classes == 2
    assert data.streamed is not None
    assert data.held_out is not None
    assert (len(data.streamed.source), len(data.held_out[1]), len(data.y_test)) == (16, 4, 6)
    assert data.x_train.shape == (0, 3, 8, 8)
    assert data.x_test.shape == (6, 3, 8, 8)


def test_labels_are_spoilt_but_for_those_held_out(root: Path) -> None:
    clean, noisy = (make_data(folder(root, label_noise=share, validation_split=0.5)) for share in (0.0, 0.5))
    assert clean.streamed is not None
    assert noisy.streamed is not None
    assert clean.held_out is not None
    assert noisy.held_out is not None
    labels = [data.streamed.source.labels for data in (clean, noisy)]
    assert (labels[0] != labels[1]).sum() == 9
    assert np.array_equal(clean.held_out[1], noisy.held_out[1])


def test_a_relative_root_is_found_where_the_data_are(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ART_EXT_DATA", str(root.parent))
    assert len(make_data(folder(Path("set"))).y_test) == 15
    with pytest.raises(FileNotFoundError, match="elsewhere"):
        make_data(folder(Path("elsewhere")))


def test_an_unreadable_image_is_named_or_left_out(root: Path) -> None:
    broken = cut_short(root / "val" / "cat" / "0.jpg")
    with pytest.raises(ValueError, match=r"val/cat/0\.jpg"):
        _ = make_data(folder(root)).x_test
    assert broken.exists()
    assert len(make_data(folder(root, options={"on_error": "skip"})).y_test) == 15


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's, of an archive read in part
def test_shards_are_trained_on_and_judged(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    for name, numbers in (("train-0", range(20)), ("train-1", range(20, 40)), ("test", range(7))):
        write_shard(tmp_path / f"{name}.tar", numbers)
    chosen = recipe_of(
        {
            "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
            "data": {
                "name": "shards",
                "root": str(tmp_path),
                "options": {"train": "train-{0..1}.tar", "test": "test.tar", "held_out": "test.tar", "num_classes": 10}
                | SIZE,
            },
            "threat": {"eps": 0.1},
            "trainer": {"steps": 1, "nb_epochs": 1, "batch_size": 8, "progress": False},
            "evaluation": {"suite": "fgsm"},
        }
    )
    done = run_recipe(chosen, tmp_path / "run")
    assert "robust" in done.history.rows[0]
    found, data, classifier = load_run(tmp_path / "run")
    assert data.y_test.tolist() == list(range(7))
    assert len(judge(found, classifier, data).survivors) == 7


@pytest.mark.parametrize("key", ["train_examples", "label_noise", "validation_split"])
def test_nothing_can_be_chosen_from_shards(key: str) -> None:
    options = {"train": "a.tar", "test": "b.tar", "num_classes": 2, **SIZE}
    with pytest.raises(ValueError, match=f"data.{key} cannot be had of shards"):
        make_data(DataSection(name="shards", root="x", options=options, **{key: 1 if key == "train_examples" else 0.5}))


def test_the_first_images_of_a_folder_are_all_of_one_class(tmp_path: Path) -> None:
    for split in ("train", "val"):
        write_folder(tmp_path / split, {"cat": 32, "dog": 32, "eel": 32})
    some = recipe(tmp_path)
    some = replace(some, evaluation=replace(some.evaluation, n_examples=30))
    data = make_data(some.data)
    with pytest.warns(UserWarning, match="the first 30 test images are of 1 classes out of 3, so the set is sorted"):
        judge(some, make_classifier(some, data), data)
