"""Where and with what a run was made."""

import subprocess
from pathlib import Path

import pytest
import torch

from art_ext.recipes.environment import describe_environment, git_commit


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True)


def test_what_is_needed_to_repeat_a_run_is_there() -> None:
    told = describe_environment(seed=7, command=["art-ext", "train", "mine.yaml"])
    assert told["seed"] == 7
    assert told["command"] == ["art-ext", "train", "mine.yaml"]
    assert told["versions"]["torch"] == torch.__version__
    assert {"art_ext", "python", "timm", "torchvision", "accelerate"} <= set(told["versions"])
    assert told["hardware"]["cores"] >= 1
    assert len(told["hardware"]["gpus"]) == torch.cuda.device_count()


def test_the_commit_says_whether_files_have_changed_since(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git(tmp_path, "init")
    assert git_commit(tmp_path) is None  # no commit yet
    (tmp_path / "file").write_text("one")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-m", "first")
    commit = git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "untracked").write_text("not of the project")
    assert git_commit(tmp_path) == commit
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{commit}+changes"


def test_a_machine_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None
