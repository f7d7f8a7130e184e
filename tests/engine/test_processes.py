"""Training in several processes: the result of one, files written once, one failure ends all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from art_ext.engine.checkpoints import Checkpoints
from tests import forking
from tests.engine.sharded import CASES, EPOCHS, results, train

UNEVEN = ("piat", "trades", "l2", "uneven", "tiny last batch", "augmented", "inn", "inn, tiny last batch")
ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 2e-4  # of weights after two epochs; sums are added in another order, and PGD takes signs of them
FLAT = 5e-3  # where the attack begins on a plateau: KL has no gradient at its start, so rounding decides about signs


def launch(*arguments: str, processes: int = 2) -> subprocess.CompletedProcess[str]:
    return forking.processes("-m", "tests.engine.sharded", *arguments, count=processes)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two and three processes found."""
    found = {}
    for processes in (2, 3):
        file = tmp_path_factory.mktemp("sharded") / "found.safetensors"
        done = launch("everything", str(file), *(CASES if processes == 2 else UNEVEN), processes=processes)
        assert done.returncode == 0, done.stderr[-3000:]
        found[processes] = load_file(file)
    return found


@pytest.fixture(scope="module")
def alone():
    return results(CASES)


@pytest.mark.slow
@pytest.mark.parametrize("case,processes", [*((case, 2) for case in CASES), *((case, 3) for case in UNEVEN)])
def test_several_processes_end_where_one_does(together, alone, case, processes):
    allowed = FLAT if "trades" in case or case == "cfa" else TOLERANCE
    for name, value in alone.items():
        if name.startswith(f"{case}: "):
            torch.testing.assert_close(together[processes][name], value, rtol=allowed, atol=allowed, msg=name)


@pytest.mark.slow
def test_a_purifier_is_the_same_in_all_processes_and_the_classifier_untouched(tmp_path):
    done = launch("purifying", str(tmp_path / "found.safetensors"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert load_file(tmp_path / "found.safetensors")["loss"].isfinite().all()


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "last.safetensors")


@pytest.mark.slow
def test_killed_and_resumed_with_as_many_processes_it_is_bit_equal(tmp_path):
    assert launch("whole", str(tmp_path / "whole"), "0.3").returncode == 0
    assert launch("killed", str(tmp_path / "killed"), "0.3", "6").returncode != 0
    assert Checkpoints(tmp_path / "killed").newest().path.name == "epoch-0001-batch-00002"
    done = launch("go_on", str(tmp_path / "killed"), "0.3")
    assert done.returncode == 0, done.stderr[-3000:]
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    for folder in ("whole", "killed"):
        assert len((tmp_path / folder / "history.jsonl").read_text().splitlines()) == EPOCHS
        left = {p.name for p in (tmp_path / folder).iterdir()}
        assert left == {".lock", "best.safetensors", "checkpoints", "curves.png", "history.jsonl", "last.safetensors"}


@pytest.mark.slow
def test_another_number_of_processes_goes_on_where_nothing_is_drawn(tmp_path):
    assert launch("killed", str(tmp_path / "run"), "0.0", "6").returncode != 0
    train(str(tmp_path / "run"), resume=True, averaging="ema")
    whole = train(str(tmp_path / "whole"), averaging="ema")
    for name, value in whole.get_classifier().model.state_dict().items():
        torch.testing.assert_close(weights_of(tmp_path / "run")[name], value, rtol=TOLERANCE, atol=TOLERANCE, msg=name)


@pytest.mark.slow
def test_another_number_of_processes_is_refused_where_they_draw(tmp_path):
    assert launch("killed", str(tmp_path), "0.3", "6").returncode != 0
    with pytest.raises(ValueError, match="had 2 processes, now there are 1; its network or attack draws random"):
        train(str(tmp_path), resume=True, averaging="ema", dropout=0.3)


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_ends_all(tmp_path):
    done = launch("stopped", str(tmp_path), "3")
    assert done.returncode != 0
    assert "stopped after 0 epochs and 10 batches" in done.stderr
    assert [p.name for p in Checkpoints(tmp_path).found()] == ["epoch-0000-batch-00010"]


@pytest.mark.slow
def test_a_failing_process_ends_all_with_its_message(tmp_path):
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [sys.executable, *command, "-m", "tests.engine.sharded", "failing", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},  # the networks are on the CPU
        timeout=300,
    )
    assert done.returncode != 0
    assert "this process has had enough" in done.stderr
