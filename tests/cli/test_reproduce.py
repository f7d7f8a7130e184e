"""``art-ext reproduce``."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from art_ext.cli import main
from art_ext.reproduce import STUDIES
from art_ext.reproduce.piat_toy import Settings
from art_ext.reproduce.piat_toy.pictures import PICTURES


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What the study was called with, instead of its work."""
    found: list[dict[str, object]] = []

    def run(folder: Path, **given: object) -> str:
        found.append({"folder": folder, **given})
        return "the verdicts"

    monkeypatch.setitem(STUDIES, "piat-toy", replace(STUDIES["piat-toy"], run=run))
    return found


@pytest.mark.parametrize(
    "options, wanted",
    [
        ([], {"folder": Path("reproductions/piat-toy"), "seeds": 6, "progress": True}),
        (["--output", "a b", "--seeds", "9"], {"folder": Path("a b"), "seeds": 9, "progress": True}),
        (["--progress", "false"], {"folder": Path("reproductions/piat-toy"), "seeds": 6, "progress": False}),
    ],
    ids=["defaults", "options", "silent"],
)
def test_options_reach_the_study(
    options: list[str], wanted: dict[str, object], calls: list[dict[str, object]], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["reproduce", "piat-toy", *options])
    (given,) = calls
    command = str(given.pop("command"))
    assert given == wanted
    assert command.startswith("art-ext reproduce piat-toy --output ")
    assert command.endswith(f" --seeds {wanted['seeds']}")
    assert "the verdicts" in capsys.readouterr().out


def test_the_command_of_the_page_makes_the_same_again(calls: list[dict[str, object]]) -> None:
    main(["reproduce", "piat-toy", "--output", "a b"])
    main(shlex.split(str(calls[0]["command"]))[1:])
    assert calls[0] == calls[1]


@pytest.mark.parametrize(
    "args, told",
    [
        (["piat-toi"], "unknown study 'piat-toi'; did you mean 'piat-toy'"),
        (["piat-toy", "--seeds", "1"], "seeds must be a whole number from 2 to 20; got 1"),
    ],
    ids=["study", "seeds"],
)
def test_mistakes_are_told_in_a_line(args: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", *args, "--output", str(tmp_path / "new")])
    assert str(stop.value.code).startswith("art-ext reproduce: ")
    assert told in str(stop.value.code)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_a_file_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(SystemExit, match=r"art-ext reproduce: .*taken"):
        main(["reproduce", "piat-toy", "--output", str(tmp_path / "taken")])


@pytest.mark.parametrize("option, told", [("--seeds=many", "int"), ("--colour=red", "colour")], ids=["type", "option"])
def test_bad_options_are_told(option: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "piat-toy", option])
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(folder: Path, **given: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setitem(STUDIES, "piat-toy", replace(STUDIES["piat-toy"], run=stopped))
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", "piat-toy"])
    assert stop.value.code == 130
    assert "begins anew" in capsys.readouterr().err


def test_the_study_is_carried_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = {"train": 32, "test": 20, "width": 4, "epochs": 1, "steps": 1, "judging_steps": 1}
    monkeypatch.setattr("art_ext.reproduce.piat_toy.Settings", lambda seeds: Settings(seeds=seeds, **numbers))
    monkeypatch.setattr("art_ext.reproduce.piat_toy.judging.PLANE", 3)
    monkeypatch.setattr("art_ext.reproduce.piat_toy.study.PICTURES", {"mu.png": PICTURES["mu.png"]})
    main(["reproduce", "piat-toy", "--output", str(tmp_path / "new"), "--seeds", "2", "--progress", "false"])
    written = json.loads((tmp_path / "new" / "results.json").read_text(encoding="utf-8"))
    assert written["settings"]["seeds"] == 2
    assert len(written["settings"]["weights"]) == 5
    assert (tmp_path / "new" / "mu.png").read_bytes().startswith(b"\x89PNG")
    told = capsys.readouterr()
    assert told.err == ""
    assert f"written: {tmp_path}/new/README.md" in told.out
