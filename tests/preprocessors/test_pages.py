"""The pages about defenses: their code runs, their defaults are those of the code, their links lead somewhere."""

import inspect
import re
from pathlib import Path

import pytest

from art_ext import INNTrainer
from art_ext.preprocessors import PREPROCESSORS

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "defenses"
PAGES = {name: (FOLDER / f"{name}.md").read_text(encoding="utf-8") for name in PREPROCESSORS}


def first_column(page: str, head: str) -> set[str]:
    """The words in code type of the first column of the table with that head."""
    table = page.partition(f"| {head} |")[2].partition("\n\n")[0]
    return set(re.findall(r"`(\w+)`", " ".join(row.split("|")[1] for row in table.splitlines()[1:])))


@pytest.mark.parametrize("name", PAGES)
def test_code_runs(name, tmp_path, monkeypatch):
    from PIL import Image

    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (30, 20), "red").save(tmp_path / "photographs" / "one.png")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGES[name], flags=re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)


@pytest.mark.parametrize("name", PAGES)
def test_every_hyper_parameter_is_in_the_table(name):
    told = first_column(PAGES[name], "parameter")
    assert set(PREPROCESSORS[name].options) - {"input_shape"} <= told
    assert told <= set(inspect.signature(PREPROCESSORS[name].__init__).parameters)


def test_arguments_of_the_trainer_are_its_own():
    told = first_column(PAGES["inn"], "argument of `INNTrainer`")
    own = set(inspect.signature(INNTrainer.__init__).parameters) - {"self", "classifier", "threat", "options"}
    assert told == own


@pytest.mark.parametrize("name", PAGES)
def test_paper_and_links(name):
    assert PREPROCESSORS[name].paper in PAGES[name]
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", PAGES[name])
    assert links
    assert [link for link in links if not (FOLDER / link).exists()] == []
