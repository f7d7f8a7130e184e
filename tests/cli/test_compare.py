"""``art-ext compare``."""

import importlib
import json
import shlex
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from art_ext.cli import main
from art_ext.comparison import Outcome
from art_ext.recipes.text import dump
from tests.comparison.conftest import quick

Words = Callable[..., list[str]]


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Words:
    """The words of the command on a quick grid, with changes."""
    monkeypatch.chdir(tmp_path)

    def make(*more: str, **changes: Any) -> list[str]:
        Path("digits.yaml").write_text(dump(quick(**changes)), encoding="utf-8")
        return ["compare", "digits.yaml", "--output", "out", "--progress", "false", *more]

    return make


def test_a_grid_becomes_a_table(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    main(words(seeds=[0, 1]))
    told = capsys.readouterr().out
    assert Path("out/comparison.txt").read_text(encoding="utf-8") == told
    assert {path.name for path in Path("out").glob("comparison.*")} == {
        f"comparison.{suffix}" for suffix in ("txt", "md", "tex", "json", "png")
    }
    for said in ("PGD-AT", "ART", "±", "16 test images", "ε = 0.1", "seeds 0, 1", "compare digits.yaml --output out"):
        assert said in told
    raw = json.loads(Path("out/comparison.json").read_text(encoding="utf-8"))
    assert {cell["state"] for cell in raw["cells"].values()} == {"done"}
    cell = raw["cells"]["art_seed-1"]
    assert cell["art"] == {"trainer": "pgd", "options": {}}
    file = cell["reports"]["best"]["FGSM"]["file"]
    assert json.loads(Path("out", file).read_text())["robust_accuracy"] == cell["accuracies"]["FGSM"]["best"]
    assert raw["rows"][0]["seeds"] == [0, 1]
    assert "missing" not in told


def test_cells_are_commands_of_their_own(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    main(words("--list", "--cell", "pgd-at_seed-0"))
    main(words("--list"))
    one, *both = capsys.readouterr().out.splitlines()
    assert both[0] == one == "art-ext compare digits.yaml --output out --cell pgd-at_seed-0"
    assert not Path("out").exists()
    main([*shlex.split(one)[1:], "--progress", "false"])
    told = capsys.readouterr().out
    assert "missing, not in the table: art_seed-0" in told
    assert [line.split() for line in told.splitlines() if line.startswith("ART")] == [
        ["ART", "0", "of", "1", *"––––––"]
    ]
    main(words("--list"))
    assert capsys.readouterr().out.splitlines() == both[1:]


def test_a_failed_cell_makes_the_status(words: Words, capsys: pytest.CaptureFixture[str]) -> None:
    wild = {"art": "pgd", "optimizer": {"name": "sgd", "lr": 1e30}}
    with pytest.raises(SystemExit) as stop:
        main(words(methods={"wild": wild, "pgd-at": {}}))
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert "failed: wild_seed-0: FloatingPointError" in err
    assert "out/wild_seed-0/error.txt" in err
    assert "failed, not in the table: wild_seed-0" in out
    assert any(line.startswith("pgd-at") and "–" not in line for line in out.splitlines())


@pytest.mark.parametrize("asked, status", [((), None), (("--cell", "art_seed-0"), 1)], ids=["all", "this cell"])
def test_a_cell_asked_for_that_others_have_makes_the_status(
    words: Words, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: Any, status: Any
) -> None:
    module = importlib.import_module("art_ext.cli.compare")
    monkeypatch.setattr(module, "run_cells", lambda *args, **options: Outcome((), {}, ("art_seed-0",)))
    Path("out").mkdir()
    with pytest.raises(SystemExit) if status else nullcontext() as stop:
        main(words(*asked))
    assert (stop and stop.value.code) == status
    assert "other processes are at work on: art_seed-0" in capsys.readouterr().err


def test_an_interrupted_command_says_how_to_go_on(
    words: Words, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopping(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("art_ext.comparison.running.run_recipe", stopping)
    with pytest.raises(SystemExit) as stop:
        main(words())
    assert stop.value.code == 130
    assert "art-ext compare digits.yaml --output out goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more, changes, told",
    [
        (["--cell", "art_seed-3"], {}, "did you mean 'art_seed-0'"),
        ([], {"methods": {}}, "at least one method"),
        ([], {"recipe": {"data": {"validation_split": 0.0}}}, "asks for 'best'"),
        (["--output", "digits.yaml/out"], {}, "cannot be written"),
    ],
    ids=["cell", "empty", "checkpoint", "folder"],
)
def test_bad_input_is_told_in_a_line(more: list[str], changes: dict[str, Any], told: str, words: Words) -> None:
    with pytest.raises(SystemExit, match=rf"^art-ext compare: .*{told}"):
        main(words(*more, **changes))


def test_grids_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "grids"])
    assert "fashion-mnist-5k-grid" in capsys.readouterr().out
