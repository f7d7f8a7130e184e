"""What each training method costs beside PGD-AT: seconds of an epoch, in turns, as ratios of one run.

PGD-10 training of a small CNN on 28 × 28 pixels, and of a ViT of two blocks for what belongs to ViTs. An epoch of
--batches batches of 128 for each method and round, the order turned from round to round; ratios of medians.

    python benchmarks/method_cost.py --out docs/results/method_cost [--rounds 5] [--batches 4]
"""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch.optim import SGD
from train_throughput import timed

from art_ext import RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.attacks.mixed import MixedAdversaries
from art_ext.files import atomic_write
from art_ext.losses import LOSSES, get_loss
from art_ext.techniques import AWP, AttentionAndPatches, EpsWarmUp

THREAT = ThreatModel("linf", 0.1)
BALLS = (THREAT, ThreatModel("l2", 1.4))
CLASSWISE = ("cfa", "cfa-at")
CNN: dict[str, dict[str, Any]] = {
    "pgd-at": {},
    **{name: {"loss": get_loss(name, after=0) if name in CLASSWISE else name} for name in LOSSES if name != "pgd-at"},
    "awp": {"techniques": [AWP(after=0)]},
    "natural": {"techniques": ["natural"]},
    "mat-rand": {"attack": MixedAdversaries(BALLS, choose="rand")},
    "mat-max": {"attack": MixedAdversaries(BALLS, choose="max")},
    "fgsm-rs": {"attack": "fgsm-rs"},
    "free": {"techniques": ["free"]},
    "noisenet": {"parametric_noise": "layer"},
    "piat": {"averaging": "piat"},
}
VIT: dict[str, dict[str, Any]] = {
    "pgd-at": {},
    "eps-warm-up": {"techniques": [EpsWarmUp()]},
    "a&p": {"techniques": [AttentionAndPatches()]},
}


def trainer_of(network: str, options: dict[str, Any]) -> RobustTrainer:
    given = {key: value for key, value in options.items() if key != "parametric_noise"}
    more = {key: value for key, value in options.items() if key == "parametric_noise"}
    optimizer = partial(SGD, lr=0.01, momentum=0.9)
    name = "small_cnn"
    if network == "vit":
        name, more = "vit_tiny_patch16_224", {"patch_size": 4, "embed_dim": 64, "depth": 2, "num_heads": 2}
    made = timm_classifier(name, num_classes=10, input_shape=(1, 28, 28), optimizer=optimizer, **more)
    one_step = given.get("attack") == "fgsm-rs" or "free" in given.get("techniques", ())
    steps = {} if one_step else {"steps": 10}
    return RobustTrainer(made, threat=THREAT, progress=False, **steps, **given)


def seconds(methods: dict[str, dict[str, Any]], network: str, args: argparse.Namespace) -> dict[str, list[float]]:
    n = 128 * args.batches
    x, y = np.random.default_rng(0).random((n, 1, 28, 28), np.float32), np.arange(n) % 10
    trainers = {name: trainer_of(network, options) for name, options in methods.items()}
    found: dict[str, list[float]] = {name: [] for name in methods}
    names = list(methods)
    for number in range(args.rounds + 1):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            took = timed(lambda: trainers[name].fit(x, y, nb_epochs=2, batch_size=128))  # noqa: B023
            rows = trainers[name].history.column("seconds")
            found[name].append(min(took, rows[-1]))  # the second epoch: class-wise methods differ from then on
    return {name: values[1:] for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=4)
    args = parser.parse_args()
    lines = ["| network | method | seconds per batch | × PGD-AT |", "|---|---|---|---|"]
    result: dict[str, Any] = {"torch": torch.__version__, "threads": torch.get_num_threads(), "batches": args.batches}
    for network, methods in (("small CNN", CNN), ("vit", VIT)):
        found = result[network] = seconds(methods, network, args)
        base = median(found["pgd-at"])
        for name, values in found.items():
            lines.append(f"| {network} | {name} | {median(values) / args.batches:.3f} | {median(values) / base:.2f} |")
    args.out.mkdir(parents=True, exist_ok=True)
    for path, text in (
        (args.out / "results.json", json.dumps(result)),
        (args.out / "summary.md", "\n".join(lines) + "\n"),
    ):
        with atomic_write(path) as temporary:
            temporary.write_text(text)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
