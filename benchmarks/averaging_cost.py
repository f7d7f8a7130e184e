"""What weight averaging costs: its share of an epoch of PGD-10 training on CIFAR-10 (391 batches of 128).

python benchmarks/averaging_cost.py [--network resnet18] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import nn
from train_throughput import timed

from art_ext import RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.averaging import EMA, SWA, ParameterInterpolation
from art_ext.files import atomic_write

BATCH, BATCHES_PER_EPOCH, REPEATS = 128, 391, 7


def seconds_per_batch(network: str) -> float:
    classifier = timm_classifier(network, num_classes=10, input_shape=(3, 32, 32))
    trainer = RobustTrainer(
        classifier, threat=ThreatModel("linf", 8 / 255), steps=10, step_size=2 / 255, progress=False
    )
    x = np.random.default_rng(0).random((BATCH, 3, 32, 32), np.float32)
    times = [timed(lambda: trainer.fit(x, np.arange(BATCH) % 10, nb_epochs=1)) for _ in range(4)]
    return median(times[1:])


def seconds_per_epoch(network: nn.Module) -> dict[str, float]:
    """Seconds each averaging adds to an epoch; SWA without its BatchNorm pass, which is one forward of the data."""
    costs = {}
    for name, averaging in (("piat", ParameterInterpolation()), ("ema", EMA()), ("swa", SWA(0.0))):
        averaging.start(network)
        step = median(timed(averaging.after_step) for _ in range(REPEATS))
        epoch = median(timed(lambda: averaging.after_epoch(5, 10, lambda _: None)) for _ in range(REPEATS))  # noqa: B023
        costs[name] = BATCHES_PER_EPOCH * step + epoch
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    batch = seconds_per_batch(args.network)
    network = timm_classifier(args.network, num_classes=10, input_shape=(3, 32, 32)).model
    costs = seconds_per_epoch(network)
    epoch = BATCHES_PER_EPOCH * batch
    result = {
        "network": args.network,
        "torch": torch.__version__,
        "seconds_per_batch": batch,
        "averaging_seconds_per_epoch": costs,
        "share_of_epoch": {name: cost / epoch for name, cost in costs.items()},
    }
    print(json.dumps(result, indent=1))
    if args.out:
        with atomic_write(args.out) as temporary:
            temporary.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
