"""What docs/recipes.md says can be done."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from art_ext.cli import _verbs, whole_parser
from art_ext.cli.parser import prepared
from art_ext.recipes import load_recipe, recipe_of, shipped
from art_ext.recipes.layers import merged, read_layers
from art_ext.recipes.run import checked
from art_ext.recipes.text import parse

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "recipes.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


COMMANDS = re.findall(r"(?:art-ext|-m art_ext) ([a-z].*?)(?:\s+#|\)|$)", "\n".join(blocks("sh")), flags=re.MULTILINE)


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_are_understood(line: str) -> None:
    words = prepared(shlex.split(line), _verbs())
    given = whole_parser().parse_args(words, defaults=False).as_dict()
    verb = given.pop("subcommand")
    if verb == "train" and not line.startswith("train runs/"):
        named = given[verb]
        changes = {key: value for key, value in named.items() if isinstance(value, dict)}
        checked(load_recipe(named["recipe"], changes))


def test_files_are_recipes(tmp_path: Path) -> None:
    whole, section = blocks("yaml")
    (tmp_path / "mine.yaml").write_text(whole)
    mine = checked(load_recipe(tmp_path / "mine.yaml"))
    assert (mine.trainer.loss, mine.trainer.averaging, mine.schedule.name) == ("trades", "ema", "cosine")
    checked(recipe_of(merged(read_layers("imagenette-resnet18-piat"), parse(section))))


def test_recipes_that_are_named_ship() -> None:
    for name in re.findall(r"`((?:cifar10|fashion|imagenette)-[\w-]+)`", PAGE):
        assert name in shipped()
    assert sum(name.startswith("piat-") for name in shipped()) == 15 + 3


@pytest.mark.slow
def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python")
    (tmp_path / "script.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tmp_path / "script.py"))
    assert "worst case" in capsys.readouterr().out
