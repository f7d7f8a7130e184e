"""Real processes, killed and started again: they end in the same bits. `benchmarks/kills.py` does it 40 times."""

import signal
from collections import deque
from pathlib import Path

import pytest

from benchmarks import killing
from benchmarks.killing import Kill, Life, Plan, evaluation_costs, outcome, training_costs, whole, with_kills

CHECKPOINT_EVERY = 5  # batches, of the worker
PLANS = [Plan(number, 0.15, False) for number in (signal.SIGKILL, signal.SIGTERM)]


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def training(tmp_path_factory) -> tuple[Path, float]:
    """The folder of a training that was left in peace, and its seconds."""
    place = tmp_path_factory.mktemp("training")
    _, seconds = whole("train", place, "--scale", "0.4")
    return place, seconds


@pytest.mark.slow
def test_a_training_that_is_killed_ends_in_the_same_bits(training, tmp_path):
    reference, seconds = training
    lives = with_kills("train", tmp_path, deque(PLANS), seconds, "--scale", "0.4")
    assert outcome(tmp_path) == outcome(reference)
    kills = {kill.signal: kill for kill in training_costs(reference, tmp_path, lives)}
    assert kills["SIGKILL"].batches_lost <= CHECKPOINT_EVERY
    assert kills["SIGTERM"].batches_lost == 0
    assert "goes on from there" in kills["SIGTERM"].said


@pytest.mark.slow
def test_an_evaluation_that_is_killed_ends_in_the_same_report(training, tmp_path):
    options = ("--weights", str(training[0] / "run" / "last.safetensors"), "--scale", "0.3")
    wanted, seconds = whole("evaluate", tmp_path / "whole", *options)
    lives = with_kills("evaluate", tmp_path / "killed", deque(PLANS), seconds, *options)
    assert outcome(tmp_path / "killed") == wanted
    assert evaluation_costs(lives)


COUNTER = """
import json, sys, time
from pathlib import Path
place = Path(sys.argv[2])
done = place / "done"
print("begin", time.time(), flush=True)
while (count := len(done.read_text()) if done.exists() else 0) < 20:
    time.sleep(0.05)
    with done.open("a") as file:
        file.write("x")
(place / "outcome.json").write_text(json.dumps({"count": count}))
"""


def test_every_kill_is_tried_until_it_hits(monkeypatch, tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(COUNTER)
    monkeypatch.setattr(killing, "WORKER", worker)
    planned = deque(
        [Plan(signal.SIGKILL, 0.2, False), Plan(signal.SIGTERM, 0.2, False), Plan(signal.SIGINT, 9.0, False)]
    )
    lives = with_kills("count", tmp_path / "run", planned, 1.0)
    assert [life.kill and life.kill.signal for life in lives] == ["SIGKILL", "SIGTERM", None]
    assert [life.kill.code for life in lives if life.kill] == [-signal.SIGKILL, -signal.SIGTERM]
    assert [plan.signal for plan in planned] == [signal.SIGINT]
    assert outcome(tmp_path / "run") == {"count": 20}


@pytest.mark.parametrize(
    "resumed, batches, seconds",
    [("ef", 0, 0.5), ("def", 1, 1.5), ("bcdef", 3, 3.5), ("abcdef", 4, 5.5)],
    ids=["nothing repeated", "one batch", "three", "all"],
)
def test_what_a_kill_costs(tmp_path, resumed, batches, seconds):
    """Batches a to f; the first process trains on a to d at the seconds 1 to 4 and is killed at 4.5."""

    def log(place: Path, pid: int, names: str, start: int) -> None:
        place.mkdir(exist_ok=True)
        with (place / "batches.jsonl").open("a") as file:
            for when, name in enumerate(names, start):
                file.write(f'{{"pid": {pid}, "time": {when}, "batch": "{name}"}}\n')

    log(tmp_path / "whole", 1, "abcdef", 1)
    log(tmp_path / "killed", 2, "abcd", 1)
    log(tmp_path / "killed", 3, resumed, 10)
    kill = Kill("SIGKILL", False, -9, 0.0, "")
    lives = [Life(2, began=-1.0, kept=0.0, hit=4.5, kill=kill), Life(3, began=9.0, kept=0.0)]
    (found,) = training_costs(tmp_path / "whole", tmp_path / "killed", lives)
    assert (found.batches_lost, found.seconds_lost) == (batches, seconds)
