"""What docs/fast-training.md, docs/mixed-adversaries.md and docs/comparisons.md show is understood, and runs."""

import re
from pathlib import Path

import pytest

from art_ext.comparison import cells_of, grid_of
from art_ext.recipes import merged, recipe_of
from art_ext.recipes.run import checked
from art_ext.recipes.text import parse

DOCS = Path(__file__).resolve().parents[1] / "docs"
LEAST = {"model": {"name": "small_cnn"}, "data": {"name": "digits"}, "threat": {"eps": 0.08}}


def text(page: str) -> str:
    return (DOCS / f"{page}.md").read_text(encoding="utf-8")


def recipes(page: str) -> list[str]:
    """The lines of recipes, in tables and in blocks."""
    return re.findall(r"trainer: \{.*\}", text(page))


LINES = [line for page in ("fast-training", "mixed-adversaries") for line in recipes(page)]


def test_there_are_lines() -> None:
    assert len(LINES) == 6


@pytest.mark.parametrize("line", LINES)
def test_lines_are_recipes(line: str) -> None:
    checked(recipe_of(merged(LEAST, parse(line))))


@pytest.mark.parametrize("options", re.findall(r"`(attack_options: \{.*?\})`", text("fast-training")))
def test_options_are_those_of_fgsm_rs(options: str) -> None:
    checked(recipe_of(merged(LEAST, {"trainer": {"attack": "fgsm-rs", **parse(options)}})))


@pytest.mark.parametrize("techniques", re.findall(r"`(techniques: \[.*?\])`", text("fast-training")))
def test_techniques_are_known(techniques: str) -> None:
    checked(recipe_of(merged(LEAST, {"trainer": parse(techniques)})))


def test_the_sweep_is_a_grid() -> None:
    (block,) = re.findall(r"```yaml\n(base: .*?)```", text("comparisons"), flags=re.DOTALL)
    grid = grid_of(parse(block))
    assert [cell.recipe.threat.eps for cell in cells_of(grid).values()] == [0.05, 0.1, 0.2]


@pytest.mark.parametrize("page", ["comparisons", "mixed-adversaries"])
def test_threats_of_an_evaluation(page: str) -> None:
    found = re.findall(r"`(evaluation: \{threats: .*?\}\}\})`", text(page).replace("\n", " "))
    assert len(found) == 1
    grid = grid_of({"base": "fashion-mnist-5k-piat", "methods": {"a": {}}, **parse(found[0])})
    assert len(grid.judging.columns()) == len(grid.judging.attacks) * len(grid.judging.threats)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["fast-training", "mixed-adversaries"])
def test_examples_run(page: str) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", text(page), flags=re.DOTALL)
    exec(compile(code, page, "exec"), {})
