"""``art-ext evaluate``."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from art_ext.cli import main
from art_ext.evaluation import RobustnessReport
from art_ext.recipes import recipe_of, run_recipe

RECIPE: dict[str, Any] = {
    "model": {"name": "small_cnn", "options": {"width": 4}, "device": "cpu"},
    "data": {"name": "digits", "train_examples": 96, "test_examples": 40, "validation_split": 0.25},
    "threat": {"eps": 0.05},
    "trainer": {"steps": 1, "nb_epochs": 1, "progress": False},
    "evaluation": {"suite": "fgsm"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(recipe_of(RECIPE), tmp_path_factory.mktemp("evaluate") / "run").folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def attacks_in(folder: Path) -> list[str]:
    return list(RobustnessReport.from_json(folder / "report.json").attacks)


def test_a_run_is_judged_as_its_recipe_says(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["evaluate", str(run)])
    report = RobustnessReport.from_json(run / "report.json")
    assert (list(report.attacks), len(report.survivors), report.threat.eps) == (["FGSM"], 40, 0.05)
    assert (run / "report.html").read_text().startswith("<!DOCTYPE html>")
    told = capsys.readouterr().out
    assert "worst case" in told
    assert str(run / "report.html") in told


@pytest.mark.parametrize(
    "words, attacks, examples, eps",
    [
        ("--suite pgd-20 --n_examples 10", ["PGD-20"], 10, 0.05),
        ("--suite [fgsm,pgd-20]", ["FGSM", "PGD-20"], 40, 0.05),
        ("--evaluation.suite margin-pgd-20 --threat.eps 8/255", ["margin-PGD-20"], 40, 8 / 255),
        ("--which last --data.test_examples 20", ["FGSM"], 20, 0.05),
    ],
)
def test_options(run: Path, words: str, attacks: list[str], examples: int, eps: float) -> None:
    main(["evaluate", str(run), "--trainer.progress", "false", *words.split()])
    report = RobustnessReport.from_json(run / "report.json")
    assert (list(report.attacks), len(report.survivors), report.threat.eps) == (attacks, examples, eps)


def test_the_weights_are_those_that_are_named(run: Path) -> None:
    (run / "best.safetensors").write_bytes(b"damaged")
    main(["evaluate", str(run), "--which", "last"])
    main(["evaluate", str(run / "last.safetensors")])
    with pytest.raises(SystemExit, match="art-ext evaluate: "):
        main(["evaluate", str(run)])


def test_a_recipe_and_a_checkpoint(run: Path, tmp_path: Path) -> None:
    weights = tmp_path / "elsewhere" / "mine.safetensors"
    weights.parent.mkdir()
    shutil.copy(run / "last.safetensors", weights)
    main(["evaluate", str(run / "recipe.yaml"), "--checkpoint", str(weights), "--output", str(tmp_path / "reports")])
    assert attacks_in(tmp_path / "reports") == ["FGSM"]


def test_finished_batches_are_not_attacked_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["evaluate", str(run), "--evaluation.batch_size", "8"]
    main(words)
    first = json.loads((run / "report.json").read_text())
    (journal,) = (run / "evaluation").glob("*/journal-0.jsonl")
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]))  # as if killed after the second batch
    main(words)
    again = json.loads((run / "report.json").read_text())
    assert again["survivors"] == first["survivors"]
    assert journal.read_text().splitlines(keepends=True)[:3] == lines[:3]
    main([*words, "--suite", "pgd-20"])  # another evaluation has another journal
    assert len(list((run / "evaluation").iterdir())) == 2


@pytest.mark.parametrize(
    "words, told",
    [
        ("nowhere", "no run at nowhere"),
        ("{run}/checkpoints", "there is no recipe.yaml"),
        ("{run}/other.safetensors", "give a recipe, and --checkpoint"),
        ("{run} --checkpoint {run}/none.pt", "no weights at"),
        ("{run} --suite fats", "did you mean 'fast'"),
        ("{run} --data.nme x", "did you mean"),
        ("{run} --model.options.width 8", "does not fit the architecture"),
        ("{run} --n_examples 0", "n_examples"),
    ],
)
def test_bad_input_is_told(run: Path, words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", *words.replace("{run}", str(run)).split()])
    assert told in f"{stop.value.code}{capsys.readouterr().err}"


def test_ctrl_c(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("art_ext.recipes.reports.judge", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(run)])
    assert stop.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
