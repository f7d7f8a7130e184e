"""Runs of ART's trainers, epoch by epoch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from art_ext.comparison.art_run import _ArtRun, run_art
from art_ext.comparison.art_trainers import ART_TRAINERS, OURS_ALONE
from art_ext.recipes import Recipe, is_finished, load_run, merged, recipe_of, run_recipe
from art_ext.recipes.run import checked
from tests.comparison.conftest import QUICK

SGD = {"optimizer": {"name": "sgd", "lr": 0.1}}


def recipe(**sections: Any) -> Recipe:
    content = merged(merged(QUICK["recipe"], OURS_ALONE), {"schedule": {"name": "cosine"}})
    return checked(recipe_of(merged(content, sections)))


def weights(folder: Path, which: str = "last") -> dict[str, torch.Tensor]:
    return dict(load_run(folder, which)[2].model.state_dict())


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Of the files that a run of ours leaves."""
    done = run_recipe(recipe(trainer={"nb_epochs": 1}), tmp_path_factory.mktemp("ours"))
    return {path.name for path in done.folder.iterdir()}


@pytest.mark.parametrize("kind", list(ART_TRAINERS))
def test_it_leaves_what_our_runs_leave(kind: str, names: set[str], tmp_path: Path) -> None:
    history = run_art(recipe(**SGD), kind, {}, tmp_path / "art")
    assert {path.name for path in (tmp_path / "art").iterdir()} == names | {"trainer-of-art.json"}
    assert is_finished(tmp_path / "art")
    assert [row["epoch"] for row in history.rows] == [1, 2]
    assert history.rows[0]["lr"] == 0.1
    begin = _ArtRun(recipe(), kind, {}, tmp_path / "begin").network.state_dict()
    assert any(not torch.equal(begin[key], value) for key, value in weights(tmp_path / "art").items())
    best = max(history.rows, key=lambda row: row["robust"])
    assert json.loads((tmp_path / "art" / "result.json").read_text())["best"] == best


def test_data_split_and_initial_weights_are_ours(tmp_path: Path) -> None:
    art = _ArtRun(recipe(), "pgd", {}, tmp_path)
    done = run_recipe(recipe(trainer={"nb_epochs": 1}), tmp_path / "ours")
    assert art.held_out is not None
    assert done.data.held_out is not None
    assert np.array_equal(art.train_set[0], done.data.x_train)
    assert np.array_equal(art.held_out[0], done.data.held_out[0])


def test_a_run_that_was_stopped_ends_as_the_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = recipe(trainer={"nb_epochs": 3, "augment": "crop"}, **SGD)
    run_art(asked, "awp", {"warmup": 1}, tmp_path / "whole")
    epoch = _ArtRun._epoch

    def stopping(self: _ArtRun, number: int) -> None:
        if number == 2:
            raise KeyboardInterrupt
        epoch(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(_ArtRun, "_epoch", stopping)
        with pytest.raises(KeyboardInterrupt):
            run_art(asked, "awp", {"warmup": 1}, tmp_path / "cut")
    assert not is_finished(tmp_path / "cut")
    history = run_art(asked, "awp", {"warmup": 1}, tmp_path / "cut")
    assert [row["epoch"] for row in history.rows] == [1, 2, 3]
    for which in ("last", "best"):
        whole, cut = weights(tmp_path / "whole", which), weights(tmp_path / "cut", which)
        assert all(torch.equal(value, cut[key]) for key, value in whole.items())


def test_images_are_augmented_anew_in_each_epoch(tmp_path: Path) -> None:
    run = _ArtRun(recipe(trainer={"augment": "crop"}), "pgd", {}, tmp_path)
    x = run.train_set[0]
    one, two = run._augmented(x), run._augmented(x)
    assert one.shape == x.shape
    assert not np.array_equal(one, two)


def test_without_held_out_images_the_training_images_are_watched(tmp_path: Path) -> None:
    history = run_art(recipe(data={"validation_split": 0.0}), "pgd", {}, tmp_path / "run")
    assert not (tmp_path / "run" / "best.safetensors").exists()
    assert all(0 <= row["train_robust"] <= 1 and "robust" not in row for row in history.rows)


def test_weights_that_explode_stop_the_run(tmp_path: Path) -> None:
    wild = recipe(optimizer={"name": "sgd", "lr": 1e30})
    with pytest.raises(FloatingPointError, match="epoch 1"):
        run_art(wild, "pgd", {}, tmp_path / "run")


def test_a_last_batch_of_one_is_refused(tmp_path: Path) -> None:
    asked = recipe(
        data={"train_examples": 44}, model={"name": "preact_resnet_cifar", "options": {"width": 4, "blocks": 1}}
    )
    with pytest.raises(ValueError, match="leaves one of 33 examples over"):
        run_art(asked, "pgd", {}, tmp_path / "run")
