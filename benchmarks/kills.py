"""Exact resume, proved by kills: processes that are killed at random moments end in the same bits.

Trainings (each averaging in turn, dropout, BatchNorm, augmentation, validation, scheduler) and evaluations are killed
with SIGKILL, SIGTERM and SIGINT in turn, several times each, a third of the times in the middle of writing, and started
again until they are done. Weights, checkpoints, optimizer, history and predictions, or the report, are compared with
those of a process that was left in peace. A batch that is trained twice is found by a hash of its adversarial examples.
With --trainings 0 or --evaluations 0 that part of the result is left as it is.

    OMP_NUM_THREADS=1 python benchmarks/kills.py --out docs/results/kills [--trainings 30] [--evaluations 10] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from kill_worker import VARIANTS
from killing import SIGNALS, Kill, evaluation_costs, plans, training_costs, whole, with_kills

from art_ext.files import atomic_write

HEAD = """| | signal | kills | batches repeated, at most | seconds repeated, at most | seconds to end, at most |
|---|---|---|---|---|---|
"""


def trainings(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill trainings so many times."""
    undisturbed = {v: whole("train", folder / v, "--variant", v) for v in VARIANTS}
    report(f"undisturbed: {', '.join(f'{v} {seconds:.1f} s' for v, (_, seconds) in undisturbed.items())}")
    planned, variants, runs = plans(seed, kills, writes=True), cycle(VARIANTS), []
    while planned:
        variant = next(variants)
        wanted, seconds = undisturbed[variant]
        place = folder / f"{variant}-{len(runs)}"
        lives = with_kills("train", place, planned, seconds, "--variant", variant)
        runs.append(compared(variant, wanted, place, training_costs(folder / variant, place, lives)))
    return {"undisturbed_seconds": {v: seconds for v, (_, seconds) in undisturbed.items()}, "runs": runs}


def evaluations(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill evaluations of what a training leaves so many times."""
    whole("train", folder / "trained")
    options = ("--weights", str(folder / "trained" / "run" / "last.safetensors"))
    wanted, seconds = whole("evaluate", folder / "evaluation", *options)
    report(f"undisturbed: evaluation {seconds:.1f} s")
    planned, runs = plans(seed, kills, writes=False), []
    while planned:
        place = folder / f"evaluation-{len(runs)}"
        lives = with_kills("evaluate", place, planned, seconds, *options)
        runs.append(compared("evaluation", wanted, place, evaluation_costs(lives)))
    return {"undisturbed_seconds": {"evaluation": seconds}, "runs": runs}


def killed(runs: list[dict[str, Any]]) -> int:
    return sum(len(run["kills"]) for run in runs)


def compared(name: str, wanted: dict[str, Any], place: Path, kills: list[Kill]) -> dict[str, Any]:
    found = json.loads((place / "outcome.json").read_text())
    different = sorted(key for key in {*wanted, *found} if wanted.get(key) != found.get(key))
    report(f"{place.name}: {len(kills)} kills, {'differs: ' + ', '.join(different) if different else 'bit-equal'}")
    return {"of": name, "different": different, "kills": [asdict(kill) for kill in kills]}


def rows(what: str, runs: list[dict[str, Any]]) -> str:
    text = ""
    for number in SIGNALS:
        kills = [kill for run in runs for kill in run["kills"] if kill["signal"] == number.name]
        if kills:
            batches = [kill["batches_lost"] for kill in kills if kill["batches_lost"] is not None]
            most = [f"{max(kill[name] for kill in kills):.2f}" for name in ("seconds_lost", "seconds_to_end")]
            cells = [what, number.name, len(kills), max(batches, default=""), *most]
            text += f"| {' | '.join(map(str, cells))} |\n"
    return text


def summary(result: dict[str, Any]) -> str:
    kinds = [what for what in ("training", "evaluation") if what in result]
    text = ""
    for what in kinds:
        runs = result[what]["runs"]
        equal = sum(not run["different"] for run in runs)
        text += f"{what}: {killed(runs)} kills in {len(runs)} runs, of which {equal} ended bit-equal\n\n"
    return text + HEAD + "".join(rows(what, result[what]["runs"]) for what in kinds)


def report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--trainings", type=int, default=30)
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    stored = args.out / "result.json"
    result: dict[str, Any] = json.loads(stored.read_text()) if stored.exists() else {}
    result |= {"torch": torch.__version__, "machine": platform.machine(), "seed": args.seed}
    with TemporaryDirectory() as folder:
        if args.trainings:
            result["training"] = trainings(Path(folder), args.trainings, args.seed)
        if args.evaluations:
            result["evaluation"] = evaluations(Path(folder), args.evaluations, args.seed)
    with atomic_write(stored) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n")
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text(summary(result))
    if any(run["different"] for what in ("training", "evaluation") for run in result.get(what, {"runs": []})["runs"]):
        raise SystemExit("not bit-equal")


if __name__ == "__main__":
    main()
