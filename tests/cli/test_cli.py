"""The command ``art-ext``."""

import json
from pathlib import Path

import numpy as np
import pytest

from art_ext.cli import main
from art_ext.cli import quickstart as quickstart_module
from art_ext.cli.quickstart import METHODS
from art_ext.losses import LOSSES

SOME = 64  # training images, so that four trainings take seconds


@pytest.mark.parametrize("kind", ["losses", "averagings", "objectives", "suites", "data", "augmentations"])
def test_list_names_and_describes(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", kind])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)
    assert len({line.split()[0] for line in lines}) == len(lines) > 1
    if kind == "losses":
        assert {line.split()[0] for line in lines} == set(LOSSES)


@pytest.mark.parametrize(
    "args, told",
    [
        (["list", "lossess"], "losses"),
        (["quickstrat"], "quickstart"),
        (["quickstart", "--epochs", "many"], "int"),
        (["quickstart", "--colour", "red"], "colour"),
    ],
    ids=["kind", "verb", "type", "option"],
)
def test_bad_command_lines_are_told(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "verb",
    [[], ["quickstart"], ["list"], ["report"], ["reproduce"]],
    ids=["command", "quickstart", "list", "report", "reproduce"],
)
def test_help(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*verb, "--help"])
    assert stop.value.code == 0
    assert "art-ext" in capsys.readouterr().out


@pytest.fixture
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, x_test, y_test = quickstart_module.load("fashion-mnist-5k")
    spread = np.linspace(0, len(x) - 1, 2 * SOME, dtype=int)
    monkeypatch.setattr(quickstart_module, "load", lambda name: (x[spread], y[spread], x_test, y_test))
    monkeypatch.setattr(quickstart_module, "HELD_OUT", SOME)
    monkeypatch.setattr(quickstart_module, "STEPS", 2)


@pytest.mark.slow
@pytest.mark.usefixtures("few_images")
def test_quickstart_compares_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "result"
    main(["quickstart", "--output", str(folder), "--epochs", "2", "--images", "20", "--progress", "false"])
    told = capsys.readouterr().out
    assert all(name in told for name in [*METHODS, "torchattacks CW", "ART PGD-20", "worst case"])
    written = json.loads((folder / "report.json").read_text())
    assert list(written) == list(METHODS)
    for result in written.values():
        assert result["training_seconds"] > 0
        assert [row["epoch"] for row in result["history"]] == [1, 2]
        worst = result["report"]["robust_accuracy"]
        assert worst <= min(a["accuracy"] for a in result["report"]["attacks"].values())
    for picture in ("robustness.png", "learning_curves.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_quickstart_refuses_a_folder_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="taken"):
        main(["quickstart", "--output", str(tmp_path / "taken")])
