"""Recipes carried out."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

from art_ext.recipes import Recipe, is_finished, judge, load_run, read_recipe, recipe_of, run, run_recipe

QUICK: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 128, "test_examples": 32, "validation_split": 0.25},
    "threat": {"eps": 0.1},
    "trainer": {"loss": "nmse", "averaging": "piat", "steps": 1, "nb_epochs": 2, "batch_size": 32, "precision": "fp32"},
    "optimizer": {"name": "adam", "lr": 0.01},
    "schedule": {"name": "piecewise-linear"},
    "evaluation": {"suite": "fgsm", "n_examples": 16},
}


def quick(**trainer: Any) -> Recipe:
    return recipe_of({**QUICK, "trainer": {**QUICK["trainer"], "progress": False, **trainer}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_a_run_leaves_all_that_is_needed(folder: Path) -> None:
    done = run_recipe(quick(), folder, command=["art-ext", "train"])
    written = {
        "recipe.yaml",
        "environment.json",
        "result.json",
        "last.safetensors",
        "best.safetensors",
        "history.jsonl",
    }
    assert written <= {path.name for path in folder.iterdir()}
    assert is_finished(folder)
    assert read_recipe(folder / "recipe.yaml") == done.recipe
    assert done.recipe.trainer.loss_options == {"mu": 4.0, "ce_on": "adv"}
    result = json.loads((folder / "result.json").read_text())
    assert result["last"]["epoch"] == 2
    assert result["seconds"] > 0
    assert result["best"]["robust"] <= 1
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"] == ["art-ext", "train"]
    assert environment["versions"]["torch"] == torch.__version__
    assert [row["lr"] for row in done.history.rows] == pytest.approx([0.01, 0.01])


def test_a_loaded_run_is_the_trained_classifier(folder: Path) -> None:
    done = run_recipe(quick(), folder)
    recipe, data, classifier = load_run(folder, "last")
    assert recipe == done.recipe
    assert np.array_equal(classifier.predict(data.x_test), done.classifier.predict(done.data.x_test))
    report = judge(recipe, classifier, data)
    assert len(report.survivors) == 16
    assert list(report.attacks) == ["FGSM"]


def test_the_same_recipe_gives_the_same_weights(tmp_path: Path) -> None:
    one, two = (run_recipe(quick(), tmp_path / name).classifier.model.state_dict() for name in "ab")
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_resumed_run_ends_where_the_whole_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_recipe(quick(), tmp_path / "whole").classifier.model.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr("art_ext.engine.validation.Validation.accuracies", _stopping_at_the_second_call())
        with pytest.raises(KeyboardInterrupt):
            run_recipe(quick(), tmp_path / "cut")
    assert not is_finished(tmp_path / "cut")
    resumed = run_recipe(quick(), tmp_path / "cut", resume=True)
    assert [row["epoch"] for row in resumed.history.rows] == [1, 2]
    assert all(torch.equal(whole[key], value) for key, value in resumed.classifier.model.state_dict().items())


def _stopping_at_the_second_call() -> Any:
    from art_ext.engine.validation import Validation

    calls, accuracies = [], Validation.accuracies

    def stopping(self: Validation, *args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return accuracies(self, *args)

    return stopping


def test_resuming_where_nothing_is_yet_begins(folder: Path) -> None:
    assert len(run_recipe(quick(nb_epochs=1), folder, resume=True).history) == 1


def test_a_folder_is_for_one_run(folder: Path) -> None:
    run_recipe(quick(nb_epochs=1), folder)
    with pytest.raises(FileExistsError, match="holds a run already"):
        run_recipe(quick(nb_epochs=1), folder)
    with pytest.raises(ValueError, match=r"trainer.steps: 1 there, 2 here"):
        run_recipe(quick(nb_epochs=1, steps=2), folder, resume=True)
    run_recipe(quick(nb_epochs=1, keep_checkpoints=1), folder, resume=True)


def test_wrong_recipes_touch_no_folder(folder: Path) -> None:
    wrong = quick()
    with pytest.raises(ValueError, match="did you mean 'nmse'"):
        run_recipe(replace(wrong, trainer=replace(wrong.trainer, loss="nmsee")), folder)
    assert not folder.exists()


def test_no_run_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"recipe\.yaml"):
        load_run(folder)


def test_more_epochs_where_their_number_decides_about_nothing_else(tmp_path: Path) -> None:
    constant = {**QUICK, "schedule": {}, "trainer": {**QUICK["trainer"], "progress": False}}
    longer = recipe_of({**constant, "trainer": {**constant["trainer"], "nb_epochs": 3}})
    whole = run_recipe(longer, tmp_path / "whole").classifier.model.state_dict()
    run_recipe(recipe_of(constant), tmp_path / "run")
    resumed = run_recipe(longer, tmp_path / "run", resume=True)
    assert all(torch.equal(whole[key], value) for key, value in resumed.classifier.model.state_dict().items())
    assert read_recipe(tmp_path / "run" / "recipe.yaml").trainer.nb_epochs == 3
    with pytest.raises(ValueError, match=r"trainer.nb_epochs: 3 there, 2 here"):
        run_recipe(recipe_of(constant), tmp_path / "run", resume=True)


def test_more_epochs_where_a_schedule_counts_on_their_number(folder: Path) -> None:
    run_recipe(quick(nb_epochs=1), folder)
    with pytest.raises(ValueError, match="the number of epochs decides about the schedule 'piecewise-linear'"):
        run_recipe(quick(nb_epochs=2), folder, resume=True)


def test_every_resumption_is_on_record(folder: Path) -> None:
    run_recipe(quick(nb_epochs=1), folder, command=["first"])
    for words in ("second", "third"):
        run_recipe(quick(nb_epochs=1), folder, resume=True, command=[words])
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["command"] == ["first"]
    assert [later["command"] for later in environment["resumed"]] == [["second"], ["third"]]


def test_two_runs_in_one_folder(folder: Path) -> None:
    folder.mkdir()
    lock = FileLock(folder / ".lock")
    with lock, pytest.raises(FileExistsError, match="another process is training in"):
        run_recipe(quick(), folder)
    assert not (folder / "recipe.yaml").exists()


def test_the_folder_is_locked_from_the_first_look_to_the_last_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other run may begin while the images are read, or between the training and the result."""
    found: list[str] = []

    def watched(name: str) -> Any:
        function = getattr(run, name)

        def trying(*args: Any, **options: Any) -> Any:
            with pytest.raises(Timeout):
                FileLock(folder / ".lock").acquire(timeout=0)
            found.append(name)
            return function(*args, **options)

        return trying

    for name in ("make_data", "record", "write_json"):
        monkeypatch.setattr(run, name, watched(name))
    run_recipe(quick(nb_epochs=1), folder)
    assert found == ["make_data", "record", "write_json"]
    FileLock(folder / ".lock").acquire(timeout=0).lock.release()
