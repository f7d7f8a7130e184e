"""``torchrun -m art_ext``: the command as several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from art_ext.cli import main

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = [
    *("--data.name", "digits", "--data.train_examples", "128", "--data.validation_split", "0.25"),
    *("--trainer.steps", "1", "--trainer.nb_epochs", "2", "--trainer.precision", "fp32"),
    *("--trainer.progress", "false", "--model.device", "cpu"),
]
RECIPE = "fashion-mnist-5k-piat"
pytestmark = pytest.mark.slow


def launched(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "art_ext"]
    return subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},  # the networks are on the CPU
    )


def test_two_processes_write_one_run_and_one_report(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    process = launched("train", RECIPE, "--output", str(two), *SETTINGS)
    told, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert told.count("last epoch 2") == 1
    main(["train", RECIPE, "--output", str(one), *SETTINGS])
    alone, together = (load_file(folder / "last.safetensors") for folder in (one, two))
    for name, weights in alone.items():
        torch.testing.assert_close(together[name], weights, rtol=2e-4, atol=2e-4)
    assert {path.name for path in two.iterdir()} == {path.name for path in one.iterdir()}
    assert len((two / "history.jsonl").read_text().splitlines()) == 2

    process = launched("evaluate", str(two), "--suite", "fgsm", "--n_examples", "20", "--trainer.progress", "false")
    told, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert told.count("worst case") == 1
    assert len(json.loads((two / "report.json").read_text())["survivors"]) == 20


def test_what_goes_wrong_in_one_is_the_last_word_of_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("taken")
    process = launched("train", RECIPE, "--output", str(tmp_path / "file" / "run"), *SETTINGS)
    _, errors = process.communicate(timeout=400)
    assert process.returncode != 0
    cause = errors.partition("Root Cause")[2]
    assert "cannot be written" in cause
    assert "gloo" not in errors


def test_a_signal_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = [*SETTINGS, "--trainer.nb_epochs", "500", "--output", str(tmp_path / "run")]
    process = launched("train", RECIPE, *words)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "run").glob("checkpoints/epoch-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=200)
    assert f"art-ext train {tmp_path}/run/recipe.yaml --output {tmp_path}/run --resume goes on" in errors
