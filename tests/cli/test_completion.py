"""``art-ext completion``."""

import shutil
import subprocess
from pathlib import Path

import pytest

from art_ext.cli import main
from art_ext.comparison import shipped_grids
from art_ext.losses import LOSSES
from art_ext.recipes import shipped
from art_ext.reproduce import STUDIES
from art_ext.trainers import TRAINERS

pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "art-ext.bash"
    with path.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        main(["completion", "bash"])
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "words, expected",
    [
        (["art-ext", "ev"], {"evaluate"}),
        (["art-ext", "train", ""], set(shipped())),
        (["art-ext", "train", "x.yaml", "--trainer.lo"], {"--trainer.loss", "--trainer.loss_options"}),
        (["art-ext", "train", "x.yaml", "--trainer.loss", ""], set(LOSSES)),
        (["art-ext", "train", "x.yaml", "--trainer.kind", ""], set(TRAINERS)),
        (["art-ext", "evaluate", "runs/x", "--which", ""], {"best", "last"}),
        (["art-ext", "list", "tra"], {"trainers"}),
        (["art-ext", "compare", ""], set(shipped_grids())),
        (["art-ext", "reproduce", ""], set(STUDIES)),
    ],
    ids=["verbs", "recipes", "fields", "losses", "trainers", "weights", "kinds", "grids", "studies"],
)
def test_bash_completes(script: Path, words: list[str], expected: set[str]) -> None:
    line = " ".join(f"'{word}'" for word in words)
    asked = f"""
        source {script}
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMP_LINE="{" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
        $(complete -p art-ext | sed 's/.*-F \\([^ ]*\\).*/\\1/') art-ext "${{COMP_WORDS[COMP_CWORD]}}" "{words[-2]}"
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert {word.strip() for word in done.stdout.split()} >= expected, done.stderr


def test_other_shells(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "zsh"])
    assert "#compdef art-ext" in capsys.readouterr().out


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    with pytest.raises(SystemExit, match=r"pip install 'art-ext\[completion\]'"):
        main(["completion", "bash"])
