"""What the repository shows of the toy study: its page, and the committed results."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from art_ext.cli import _verbs, whole_parser
from art_ext.cli.parser import prepared
from art_ext.reproduce.piat_toy import Circles, Method, Settings
from art_ext.reproduce.piat_toy.claims import judged
from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.pictures import PICTURES
from art_ext.reproduce.piat_toy.text import claims_table

DOCS = Path(__file__).resolve().parents[2] / "docs"
SHOWN = DOCS / "results" / "piat_toy"
PAGES = [DOCS / "toy.md", SHOWN / "README.md"]


def run_of(row: dict[str, Any]) -> Run:
    method = Method(row["mu"], None if row["lambda"] == "dynamic" else row["lambda"])
    lines = {name: tuple(row[name]) for name in ("clean", "robust", "moved")}
    return Run(method=method, **lines, **{name: row[name] for name in ("seed", "exhaustive", "rise", "seconds")})


@pytest.fixture(scope="module")
def written() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SHOWN / "results.json").read_text(encoding="utf-8"))
    return found


def test_the_verdicts_that_are_shown_follow_from_the_numbers_that_are_kept(written: dict[str, Any]) -> None:
    claims = judged([run_of(row) for row in written["runs"]], tail=written["settings"]["tail"])
    assert "\n".join(claims_table(claims)) in (SHOWN / "README.md").read_text(encoding="utf-8")
    assert [claim["verdict"] for claim in written["claims"]] == [claim.verdict for claim in claims]


def test_what_is_shown_was_made_with_the_defaults_but_for_the_seeds(written: dict[str, Any]) -> None:
    settings = dict(written["settings"])
    circles, margin = Circles(**{**settings.pop("circles"), "radii": (1.0, 2.0)}), settings.pop("margin")
    assert Settings(circles=circles, **{**settings, **_tuples(settings)}) == Settings(seeds=settings["seeds"])
    assert margin == Circles().margin
    assert min(written["ideal_robust_accuracy"]) == 1.0
    assert len(written["runs"]) == len(Settings(seeds=settings["seeds"]).plan())


def _tuples(settings: dict[str, Any]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(value) for name, value in settings.items() if isinstance(value, list)}


@pytest.mark.parametrize("page", PAGES, ids=["toy.md", "README.md"])
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert {Path(link).name for link in links} >= set(PICTURES)


@pytest.mark.parametrize("page", PAGES, ids=["toy.md", "README.md"])
def test_commands_are_understood(page: Path) -> None:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL))
    commands = re.findall(r"art-ext ([a-z].*?)(?:\s+#.*)?$", blocks, flags=re.MULTILINE)
    assert commands
    for line in commands:
        given = whole_parser().parse_args(prepared(shlex.split(line), _verbs()), defaults=False).as_dict()
        assert given["reproduce"]["study"] == "piat-toy"


def test_numbers_of_the_page_are_those_of_the_results(written: dict[str, Any]) -> None:
    """The page's table is the one of the committed folder."""
    claims = judged([run_of(row) for row in written["runs"]], tail=written["settings"]["tail"])
    assert "\n".join(claims_table(claims)) in (DOCS / "toy.md").read_text(encoding="utf-8")
