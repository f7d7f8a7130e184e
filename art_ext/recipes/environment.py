"""Where and with what a run was made."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from art_ext.evaluation.report import versions

_SECONDS_FOR_GIT = 10


def describe_environment(seed: int, command: Sequence[str] | None = None) -> dict[str, Any]:
    """Versions, git commits, hardware, seed and command line, as plain data.

    Args:
        seed: of the run.
        command: the words of the command; default those of this process.

    Example:
        >>> sorted(describe_environment(seed=0))
        ['command', 'git', 'hardware', 'seed', 'versions']
    """
    libraries = {name: version(name) for name in ("torchvision", "timm", "accelerate")}
    return {
        "command": list(sys.argv if command is None else command),
        "seed": seed,
        "versions": versions() | libraries,
        "git": {"art_ext": git_commit(Path(__file__).parent), "working directory": git_commit(Path.cwd())},
        "hardware": _hardware(),
    }


def git_commit(folder: Path) -> str | None:
    """The commit that ``folder`` is at, with ``+changes`` where files differ from it; None outside of git."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    return f"{commit}+changes" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS_FOR_GIT, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, a repository of somebody else
        return None
    return done.stdout.strip()


def _hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
