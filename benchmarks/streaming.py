"""Does the input pipeline keep up? Photographs from a folder, decoded while PGD-10 training runs on them.

The 1000 photographs of the NIPS 2017 adversarial development set (224 pixels; ``$ART_EXT_DATA/nips17``), linked into a
folder of class folders. First the pipeline alone: images decoded per second by 0, 1 and 2 workers (0: in the process
itself), with the centre of each photograph and with a random part of it; medians of the rounds. Then training, in turn
one epoch on photographs that are streamed with random crops and one on photographs that stay decoded in memory: images
per second, and the share of the epoch that the training spent waiting for a batch.

    python benchmarks/streaming.py --out DIR [--networks resnet18 tf_efficientnet_lite0] [--images 1000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from art_ext import RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.data import DATA_VARIABLE, CentreCrop, ImageFolder, RandomCrop, image_folder
from art_ext.data.images import Crop
from art_ext.engine.resident import image_batches
from art_ext.engine.streams import ImageBatches
from art_ext.files import atomic_write

FORM: dict[str, Any] = {"shape": (3, 224, 224), "batch_size": 32}
CLASSES, WORKERS = 1000, (0, 1, 2)
CROPS = {"centre": CentreCrop(1.0), "random": RandomCrop()}
THREAT = ThreatModel("linf", 4 / 255)


def class_folders(source: Path, root: Path) -> ImageFolder:
    """Links ``root/<class>/<photograph>`` to the photographs; labels are those of ImageNet."""
    with (source / "images.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            folder = root / f"{int(row['TrueLabel']) - 1:04}"  # the table counts from 1
            folder.mkdir(exist_ok=True)
            name = f"{row['ImageId']}.jpg"
            (folder / name).symlink_to((source / name).resolve())
    return image_folder(root, classes=[f"{label:04}" for label in range(CLASSES)])


def timed(call: Callable[[], Any]) -> float:
    began = perf_counter()
    call()
    return perf_counter() - began


def drain(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def pipeline(folder: ImageFolder, rounds: int) -> dict[str, float]:
    """Images per second, decoded, cropped, as float32 on the device, and nothing done with them."""
    rates: dict[str, float] = {}
    for crop_name, crop in CROPS.items():
        for workers in WORKERS:
            batches = stream(folder, crop, workers)
            order = torch.Generator().manual_seed(0)
            drain(batches.epoch(order))  # starts the workers, and brings the files into the system's cache
            seconds = [timed(lambda: drain(batches.epoch(order))) for _ in range(rounds)]  # noqa: B023
            rates[f"{crop_name}, {workers} workers"] = len(folder) / median(seconds)
            batches.close()
    return rates


def stream(folder: ImageFolder, crop: Crop, workers: int | None) -> ImageBatches:
    return ImageBatches(folder, crop=crop, workers=workers, device=device(), **FORM)


def device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def training(network: str, folder: ImageFolder, rounds: int) -> dict[str, Any]:
    contestants = {
        "streamed": stream(folder, RandomCrop(), workers=None),
        "in memory": image_batches(folder, crop=CentreCrop(1.0), resident=True, **FORM, device=device()),
    }
    trainer = build_trainer(network)
    few = folder.select(np.arange(2 * FORM["batch_size"]))
    trainer.fit_stream(stream(few, RandomCrop(), workers=0), nb_epochs=1)  # warms up; so do the workers here:
    drain(contestants["streamed"].epoch(torch.Generator()))
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        for name, batches in contestants.items():
            rows[name].append(one_epoch(trainer, batches))
            print(f"{network}, round {number + 1}, {name}: {rows[name][-1]}", flush=True)
    middle = {name: {key: median(row[key] for row in of) for key in of[0]} for name, of in rows.items()}
    workers = contestants["streamed"].workers
    return {"network": network, "workers": workers, "images": len(folder), "medians": middle, "rounds": rows}


def build_trainer(network: str) -> RobustTrainer:
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.01, momentum=0.9)
    classifier = timm_classifier(network, num_classes=CLASSES, input_shape=FORM["shape"], optimizer=sgd)
    return RobustTrainer(classifier, threat=THREAT, steps=10, step_size=1 / 255, augment="flip", progress=False)


def one_epoch(trainer: RobustTrainer, batches: Any) -> dict[str, float]:
    before = batches.waited
    trainer.fit_stream(batches, nb_epochs=1)
    rate = trainer.history.rows[0]["images_per_second"]
    return {"images_per_second": rate, "waited_share": (batches.waited - before) * rate / batches.size}


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['photographs']} photographs, 224 pixels, batch {FORM['batch_size']}, {result['device']}, "
        f"{result['cores']} cores, {result['threads']} threads, torch {result['torch']}",
        "\n| pipeline alone, images per second | " + " | ".join(f"{w} workers" for w in WORKERS) + " |",
        "|---|" + "---|" * len(WORKERS),
    ]
    for crop in CROPS:
        rates = (f"{result['pipeline'][f'{crop}, {workers} workers']:.0f}" for workers in WORKERS)
        lines.append(f"| {crop} crop | {' | '.join(rates)} |")
    lines += [
        "\n| PGD-10 training | images an epoch | images per second, in memory | streamed | spent waiting | workers |",
        "|---|---|---|---|---|---|",
    ]
    for training in result["training"]:
        memory, streamed = training["medians"]["in memory"], training["medians"]["streamed"]
        rates = f"{memory['images_per_second']:.1f} | {streamed['images_per_second']:.1f}"
        share = f"{streamed['waited_share']:.2%}"
        lines.append(f"| {training['network']} | {training['images']} | {rates} | {share} | {training['workers']} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "tf_efficientnet_lite0"])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        folder = class_folders(Path(os.environ[DATA_VARIABLE]) / "nips17", Path(root))
        some = folder.select(np.linspace(0, len(folder) - 1, min(args.images, len(folder))).astype(np.int64))
        result = about() | {"photographs": len(folder), "pipeline": pipeline(folder, args.rounds), "training": []}
        for network in args.networks:
            result["training"].append(training(network, some, args.rounds))
            write(result, args.out)
    print(table(result))


def about() -> dict[str, Any]:
    return {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "machine": platform.machine(),
    }


def write(result: dict[str, Any], out: Path | None) -> None:
    if out:
        for name, text in (("streaming.json", json.dumps(result, indent=1)), ("summary.md", table(result))):
            with atomic_write(out / name) as temporary:
                temporary.write_text(text)


if __name__ == "__main__":
    main()
