"""The verb ``report``."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from art_ext.cli import main
from art_ext.cli.report import labels
from art_ext.evaluation import AttackResult, RobustnessReport
from art_ext.threat import ThreatModel

REPORT = RobustnessReport(
    clean_accuracy=0.75,
    survivors=torch.tensor([True, False, True, False]),
    attacks={"PGD": AttackResult(accuracy=0.5, seconds=1.0, forwards=20.0, backwards=20.0)},
    threat=ThreatModel("linf", 8 / 255),
)
MARKS = {"html": "<!DOCTYPE html>", "markdown": "| --- |", "latex": r"\begin{tabular}"}


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    other = replace(REPORT, survivors=torch.ones(4, dtype=torch.bool))
    for name, report in {"PGD-AT": REPORT, "piat": other}.items():
        report.to_json(tmp_path / f"{name}.json")
    return [str(tmp_path / "PGD-AT.json"), str(tmp_path / "piat.json")]


@pytest.mark.parametrize("number", [1, 2], ids=["one", "several"])
@pytest.mark.parametrize(
    "name, options, format",
    [
        ("page.html", [], "html"),
        ("page.md", [], "markdown"),
        ("page.tex", [], "latex"),
        ("page.txt", [], "html"),
        ("page.txt", ["--format", "markdown"], "markdown"),
        ("page.html", ["--format", "latex"], "latex"),
    ],
)
def test_writes(saved: list[str], tmp_path: Path, number: int, name: str, options: list[str], format: str) -> None:
    out = tmp_path / "new" / name
    main(["report", *saved[:number], "--out", str(out), *options])
    text = out.read_text(encoding="utf-8")
    assert MARKS[format] in text
    assert not any(mark in text for other, mark in MARKS.items() if other != format)
    assert ("piat" in text) == (number == 2)


def test_options_may_come_first(saved: list[str], tmp_path: Path) -> None:
    main(["report", "--out", str(tmp_path / "page.html"), "--title", "Mine", *saved])
    assert "<h1>Mine</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_prints_without_out(saved: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["report", *saved, "--format", "markdown"])
    assert capsys.readouterr().out.startswith("|  | clean | PGD | worst case |")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "there is no file .*foreign.json"),
        ("", "foreign.json is not a report"),
        ("no JSON", "foreign.json is not a report"),
        ("[1, 2]", "foreign.json is not a report .* list"),
        ('{"standard": {}}', "foreign.json is not a report .* missing or unknown: .*'standard'"),
    ],
    ids=["missing", "empty", "text", "a list", "another object"],
)
def test_other_files_are_refused(saved: list[str], tmp_path: Path, content: str | None, message: str) -> None:
    foreign = tmp_path / "foreign.json"
    if content is not None:
        foreign.write_text(content)
    with pytest.raises(SystemExit, match=f"^art-ext report: .*{message}"):
        main(["report", saved[0], str(foreign), "--out", str(tmp_path / "page.html")])
    assert not (tmp_path / "page.html").exists()


def test_a_report_with_a_foreign_inside_is_refused(tmp_path: Path) -> None:
    text = REPORT.to_json().replace('"norm": "linf"', '"rule": "linf"')
    (tmp_path / "foreign.json").write_text(text)
    with pytest.raises(SystemExit, match=r"foreign.json is not a report .* 'rule'"):
        main(["report", str(tmp_path / "foreign.json")])


def test_what_cannot_be_compared_is_refused(saved: list[str], tmp_path: Path) -> None:
    replace(REPORT, threat=ThreatModel("l2", 0.5)).to_json(tmp_path / "other.json")
    with pytest.raises(SystemExit, match="'PGD-AT' and 'other' cannot be compared: different threat models"):
        main(["report", saved[0], str(tmp_path / "other.json")])


@pytest.mark.parametrize(
    "args, told",
    [(["report"], "reports"), (["report", "a.json", "--format", "pdf"], "markdown")],
    ids=["none", "format"],
)
def test_bad_command_lines_are_told(args: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "files, names",
    [
        (["a/piat.json", "a/trades.json"], ["piat", "trades"]),
        (["piat/report.json", "trades/report.json"], ["piat/report", "trades/report"]),
        (["a/piat.json", "a/piat.json"], ["piat (1)", "piat (2)"]),
        (["ResNet-18 v1.2.json"], ["ResNet-18 v1.2"]),
    ],
    ids=["names", "folders", "the same file", "a dot"],
)
def test_labels(files: list[str], names: list[str]) -> None:
    assert labels([Path(file) for file in files]) == names
