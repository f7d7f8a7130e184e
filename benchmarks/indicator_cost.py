"""What the indicators of masked gradients add to the suite ``fast``.

Each network of `strong_attacks.py` is evaluated with and without indicators in turn, several rounds, on its first test
images; the figure is the median ratio of seconds, minus one.

    python benchmarks/indicator_cost.py --out FILE [--networks cnn-a-2 …] [--images 1000] [--rounds 3]

Checkpoints and CIFAR-10 are read from the folder ART_EXT_DATA or ``--data``.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from strong_attacks import SUBJECTS

from art_ext import ThreatModel, evaluate
from art_ext.files import atomic_write


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    subject = SUBJECTS[name]
    classifier, threat = subject.classifier(args.data), ThreatModel(subject.norm, subject.eps)
    x, y = subject.images(args.data, args.images)
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(args.rounds):
        for label, times in seconds.items():
            began = perf_counter()
            evaluate(classifier, x, y, threat=threat, indicators=label == "with", progress=False)
            times.append(perf_counter() - began)
    added = median(b / a - 1 for a, b in zip(*seconds.values(), strict=True))
    print(f"{name}: {added:.1%} of {median(seconds['without']):.1f} s", flush=True)
    return {"images": len(x), "threads": torch.get_num_threads(), "added": added, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=["cnn-a-2", "cnn-a-8", "resnet20-1"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=os.environ.get("ART_EXT_DATA"))
    args = parser.parse_args()
    results = {name: measure(name, args) for name in args.networks}
    with atomic_write(args.out) as temporary:
        temporary.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
