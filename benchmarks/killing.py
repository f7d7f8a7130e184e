"""Kill a process again and again until it has finished its work, and see what each kill cost.

Shared by the command `kills.py` and by the tests.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

WORKER = Path(__file__).with_name("kill_worker.py")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
SAVED = "goes on from there"  # said by a training that has saved where it stood
POLL, PATIENCE = 0.0005, 600.0  # seconds between two looks at a folder; for a process to end by itself


@dataclass(frozen=True)
class Plan:
    """When and how to kill: after so many seconds of work, or as soon after them as something is being written."""

    signal: signal.Signals
    after: float
    at_write: bool


@dataclass(frozen=True)
class Kill:
    """A kill that hit, and what it cost.

    Args:
        signal: its name.
        at_write: it hit while a file or a folder was being written.
        code: exit status of the process.
        seconds_to_end: from the signal to the end of the process.
        said: the last line that the process wrote to stderr.
        batches_lost: finished batches of training that were trained again; None for an evaluation.
        seconds_lost: of work before the signal that had to be done again.
    """

    signal: str
    at_write: bool
    code: int
    seconds_to_end: float
    said: str
    batches_lost: int | None = None
    seconds_lost: float = 0.0


@dataclass(frozen=True)
class Life:
    """One process.

    Args:
        pid: its number.
        began: when its work began, in seconds since 1970, as all moments here.
        kept: when an evaluation last kept a batch; ``began`` where it kept none.
        hit: when it was killed; None where it ended by itself.
        kill: how, likewise.
    """

    pid: int
    began: float
    kept: float
    hit: float | None = None
    kill: Kill | None = None


def plans(seed: int, kills: int, *, writes: bool) -> deque[Plan]:
    """The three signals in turn, at moments between 0 and 40 % of the whole work (``after`` as a share of it).

    With ``writes`` a third of them wait for a write: files that take their place only when they are whole.
    """
    draw = random.Random(seed)
    numbers = islice(cycle(SIGNALS), kills)
    return deque(Plan(number, draw.uniform(0, 0.4), writes and draw.random() < 1 / 3) for number in numbers)


def whole(kind: str, place: Path, *options: str) -> tuple[dict[str, Any], float]:
    """What an undisturbed process ends with, and the seconds of its work."""
    with _start(kind, place, options) as process:
        began = _began(process)
        if _end(process):
            raise RuntimeError(f"the undisturbed process failed: {_said(place)}")
        return outcome(place), time.time() - began


def with_kills(kind: str, place: Path, kills: deque[Plan], seconds: float, *options: str) -> list[Life]:
    """Start a process, kill it, start it again, until the work is done.

    Args:
        kind: of the worker.
        place: folder of this run.
        kills: those to come; each that hit is removed, and without any a process is left in peace.
        seconds: that the whole work takes, of which ``kills`` name shares.
        options: of the worker.
    """
    lives: list[Life] = []
    while not (place / "outcome.json").exists():
        plan = replace(kills[0], after=kills[0].after * seconds) if kills else None
        with _start(kind, place, options) as process:
            lives.append(_live(process, place, plan))
        if lives[-1].kill:
            kills.popleft()
        elif not (place / "outcome.json").exists():
            raise RuntimeError(f"a process that nobody killed failed: {_said(place)}")
    return lives


def outcome(place: Path) -> dict[str, Any]:
    """What the process that finished wrote."""
    found: dict[str, Any] = json.loads((place / "outcome.json").read_text())
    return found


def training_costs(reference: Path, place: Path, lives: Sequence[Life]) -> list[Kill]:
    """The kills of a training with their costs, from the batches that each process trained on.

    Raises:
        KeyError: a batch that the undisturbed training (``reference``) never saw.
    """
    position = {event["batch"]: i for i, event in enumerate(_events(reference))}
    logs = [[e for e in _events(place) if e["pid"] == life.pid] for life in lives]
    kills, resumed = [], len(position)  # where the next process that trained at all went on
    for life, log in reversed([*zip(lives, logs, strict=True)]):
        trained = {position[event["batch"]]: event["time"] for event in log}
        if life.kill and life.hit:
            kept = [when for number, when in trained.items() if number < resumed]
            since = life.hit if SAVED in life.kill.said else max([life.began, *kept])
            lost = sum(number >= resumed for number in trained)
            kills.append(replace(life.kill, batches_lost=lost, seconds_lost=max(0.0, life.hit - since)))
        resumed = min(trained, default=resumed)
    return kills[::-1]


def evaluation_costs(lives: Sequence[Life]) -> list[Kill]:
    """The kills of an evaluation with their costs."""
    return [replace(life.kill, seconds_lost=life.hit - life.kept) for life in lives if life.kill and life.hit]


def _start(kind: str, place: Path, options: Sequence[str]) -> subprocess.Popen[str]:
    place.mkdir(parents=True, exist_ok=True)
    with (place / "stderr.txt").open("w") as err:
        command = [sys.executable, str(WORKER), kind, str(place), *options]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=err, text=True)


def _began(process: subprocess.Popen[str]) -> float:
    assert process.stdout is not None
    words = process.stdout.readline().split()
    return float(words[1]) if words else time.time()


def _end(process: subprocess.Popen[str]) -> int:
    try:
        return process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def _live(process: subprocess.Popen[str], place: Path, plan: Plan | None) -> Life:
    pieces, _ = _journal(place)
    began, kill, hit = _began(process), None, None
    if plan is not None and _wait_for(process, place, plan, began):
        hit = time.time()
        process.send_signal(plan.signal)
    code = _end(process)
    if plan is not None and hit is not None and code:
        kill = Kill(plan.signal.name, plan.at_write, code, time.time() - hit, _said(place))
    now, when = _journal(place)
    return Life(process.pid, began, when if now > pieces else began, hit, kill)


def _wait_for(process: subprocess.Popen[str], place: Path, plan: Plan, began: float) -> bool:
    """Wait for the moment of the plan; False where the process ended before."""
    while process.poll() is None:
        late = time.time() - began >= plan.after
        if late and (not plan.at_write or _writing(place)):
            return True
        time.sleep(POLL if late else min(0.01, max(POLL, plan.after - (time.time() - began))))
    return False


def _writing(place: Path) -> bool:
    return any(".tmp" in path.name for path in (place / "run").rglob(".*"))


def _journal(place: Path) -> tuple[int, float]:
    """Lines in the journal of an evaluation, and when the last of them was written."""
    path = place / "run" / "journal-0.jsonl"
    return (path.read_bytes().count(b"\n"), path.stat().st_mtime) if path.exists() else (0, 0.0)


def _events(place: Path) -> list[dict[str, Any]]:
    path = place / "batches.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _said(place: Path) -> str:
    lines = [line for line in (place / "stderr.txt").read_text().splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""
