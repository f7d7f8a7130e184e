"""What exact resume costs: size and time of a checkpoint beside an epoch, on the ResNet-18 recipe of the PIAT paper.

A few batches are trained to know the seconds of a batch; then a checkpoint is written several times.

    python benchmarks/checkpoint_cost.py --out DIR [--batches 4] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np
import torch

from art_ext import PIATTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.engine.checkpoint import BEST
from art_ext.engine.checkpoints import Checkpoints, link
from art_ext.files import atomic_write

EPOCH = 50_000  # images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    x, y = rng.random((128 * args.batches, 3, 32, 32), dtype=np.float32), rng.integers(0, 10, 128 * args.batches)
    classifier = timm_classifier("resnet18", num_classes=10, input_shape=(3, 32, 32))
    with tempfile.TemporaryDirectory() as folder:
        trainer = PIATTrainer(classifier, threat=ThreatModel("linf", 8 / 255), checkpoint_dir=folder)
        trainer.fit(x, y, validation_data=(x[:128], y[:128]), nb_epochs=2)  # the second epoch is warm
        seconds = trainer.history.column("seconds")[-1] * EPOCH / len(x)
        store = Checkpoints(Path(folder))
        saved = store.newest()
        times = []
        for _ in range(args.repeats):
            began = perf_counter()
            path = store.write(saved.tree, saved.identity, best=partial(link, Path(folder) / BEST))
            times.append(perf_counter() - began)
        size = sum(f.stat().st_size for f in path.iterdir() if f.name != "best.safetensors")
        began = perf_counter()
        trainer.resume()
        reading = perf_counter() - began
    result = {
        "mebibytes": size / 2**20,
        "seconds_to_write": statistics.median(times),
        "seconds_to_read": reading,
        "seconds_of_an_epoch": seconds,
        "share_of_an_epoch": statistics.median(times) / seconds,
        "device": str(classifier.device),
        "torch": torch.__version__,
    }
    with atomic_write(args.out / "result.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
