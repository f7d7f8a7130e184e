"""The README says what the code says, and its example runs."""

import re
import runpy
from pathlib import Path

import pytest

from art_ext.cli import _verbs
from art_ext.cli.listing import markdown_rows

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["losses", "averagings", "inner-attacks", "techniques", "preprocessors", "suites"])
def test_tables_are_the_registries(kind: str) -> None:
    rows = markdown_rows(kind)
    assert "\n".join(rows) in README, f"paste the output of: art-ext list {kind} --markdown true"


def test_losses_of_the_comparison_are_registered() -> None:
    row = next(line for line in README.splitlines() if line.startswith("| losses |"))
    named = {name.strip().lower() for name in row.split("|")[2].split(",")}
    registered = {row.split("`")[1] for row in markdown_rows("losses")}
    assert named == {name for name in registered if not name.startswith(("mail-", "cfa-"))}


def test_verbs_are_those_of_the_command() -> None:
    table = README.partition("| verb |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)) == set(_verbs())


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(code.replace("nb_epochs=10", "nb_epochs=1"))
    runpy.run_path(str(script))
    assert "worst case" in capsys.readouterr().out
