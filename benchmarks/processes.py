"""One process against several: how far the weights come apart, and how much sooner they are done.

Each loss, and each averaging, trains a small CNN with BatchNorm on Fashion-MNIST images, first in one process, then in
``--processes``, with one thread each and the same global batch. Signs of gradients and a learning rate of 0.1 make much
of little: how much, a third run tells, in one process on images that are changed by 10⁻⁶ of random noise.

    python benchmarks/processes.py --out DIR [--images 512] [--epochs 1] [--processes 2]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from art_ext import RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.files import atomic_write
from art_ext.isolation import seeded
from art_ext.losses import LOSSES
from art_ext.processes import Processes

CASES: dict[str, dict[str, Any]] = {loss: {"loss": loss} for loss in sorted(LOSSES)} | {
    f"{loss}, {averaging}": {"loss": loss, "averaging": averaging}
    for loss, averaging in (("nmse", "piat"), ("pgd-at", "ema"), ("pgd-at", "swa"))
}


def train(images: int, epochs: int, noise: float, options: dict[str, Any]) -> tuple[dict[str, torch.Tensor], float]:
    """Weights and seconds of the training loop; ``noise`` is the standard deviation of what is added to the images."""
    with seeded(0):
        classifier = timm_classifier("resnet20_cifar", num_classes=10, input_shape=(1, 28, 28), device="cpu")
    x, y, *_ = load("fashion-mnist-5k")
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:images].numpy()
    trainer = RobustTrainer(
        classifier, threat=ThreatModel("linf", 0.1), steps=5, precision="fp32", progress=False, **options
    )
    added = noise * np.random.default_rng(0).standard_normal(x[chosen].shape)
    trainer.fit((x[chosen] + added).clip(0, 1).astype(x.dtype), y[chosen], batch_size=128, nb_epochs=epochs)
    return dict(classifier.model.named_parameters()), sum(trainer.history.column("seconds"))


def worker(folder: Path, images: int, epochs: int, noise: float) -> None:
    torch.set_num_threads(1)
    first = Processes.launched().is_first
    for case, options in CASES.items():
        weights, seconds = train(images, epochs, noise, options)
        if first:
            save_file(weights, folder / f"{case}.safetensors", {"seconds": str(seconds)})
            (folder / f"{case}.txt").write_text(str(seconds))
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def launch(processes: int, folder: Path, noise: float, args: argparse.Namespace) -> None:
    starter = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    rest = ["--worker", str(folder), "--images", str(args.images), "--epochs", str(args.epochs), "--noise", str(noise)]
    command = [sys.executable, *(starter if processes > 1 else ()), __file__, *rest]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def compare(one: Path, several: Path, noisy: Path) -> dict[str, dict[str, float]]:
    found = {}
    for case in CASES:
        alone = load_file(one / f"{case}.safetensors")
        apart = [
            max((alone[name].double() - weight.double()).abs().max().item() for name, weight in other.items())
            for other in (load_file(folder / f"{case}.safetensors") for folder in (several, noisy))
        ]
        seconds = [float((folder / f"{case}.txt").read_text()) for folder in (one, several)]
        found[case] = {"several": apart[0], "noisy": apart[1], "seconds_one": seconds[0], "seconds_several": seconds[1]}
    return found


def summary(found: dict[str, dict[str, float]], args: argparse.Namespace) -> str:
    lines = [
        f"| training | largest difference of a weight, {args.processes} processes | images changed by 10⁻⁶ | "
        f"seconds, 1 process | {args.processes} processes | ratio |",
        "|---" * 6 + "|",
    ]
    for case, row in found.items():
        one, several = row["seconds_one"], row["seconds_several"]
        cells = [case, f"{row['several']:.1e}", f"{row['noisy']:.1e}", f"{one:.1f}", f"{several:.1f}"]
        lines.append(f"| {' | '.join(cells)} | {several / one:.2f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder for result.json and summary.md")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--noise", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return worker(args.worker, args.images, args.epochs, args.noise)
    if args.out is None:
        parser.error("--out is needed")
    with tempfile.TemporaryDirectory() as temporary:
        folders = [Path(temporary) / name for name in ("one", "several", "noisy")]
        for folder, processes, noise in zip(folders, (1, args.processes, 1), (0.0, 0.0, 1e-6), strict=True):
            folder.mkdir()
            launch(processes, folder, noise, args)
        found = compare(*folders)
    stated = {"images": args.images, "epochs": args.epochs, "processes": args.processes, "torch": torch.__version__}
    with atomic_write(args.out / "result.json") as temporary_file:
        temporary_file.write_text(json.dumps(stated | {"cases": found}, indent=1))
    with atomic_write(args.out / "summary.md") as temporary_file:
        temporary_file.write_text(summary(found, args))
    print(summary(found, args))
    return None


if __name__ == "__main__":
    main()
