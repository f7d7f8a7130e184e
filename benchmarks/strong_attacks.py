"""The native suites against the genuine AutoAttack: accuracy, agreement per example, and time, on real checkpoints.

Each network is evaluated by ``fast``, ``strong`` and ``standard`` (pyautoattack) in one process on the same images, so
that the ratios of seconds mean something. Agreement is the share of images on which the survivors of ``strong`` and
``standard`` are the same.

    python benchmarks/strong_attacks.py run --out DIR [--networks cnn-a-2 …] [--images 1000]
    python benchmarks/strong_attacks.py table --out DIR

Checkpoints and CIFAR-10 are read from the folder ART_EXT_DATA or ``--data``. A network whose file is in DIR is skipped.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext import ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.files import atomic_write

SUITES = ("fast", "strong", "standard")
CIFAR_A = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KW = ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225))


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the radius that it is judged at."""

    timm_name: str
    file: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]]
    eps: float
    norm: str = "linf"

    def classifier(self, folder: Path) -> PyTorchClassifier:
        mean, std = self.statistics
        return timm_classifier(
            self.timm_name,
            num_classes=10,
            input_shape=(3, 32, 32),
            checkpoint=folder / "weights" / self.file,
            mean=mean,
            std=std,
        )


SUBJECTS = {
    "cnn-a-2": Subject("cnn_a_cifar", "cifar10_cnn_a_adv4.pth", CIFAR_A, 2 / 255),
    "cnn-a-8": Subject("cnn_a_cifar", "cifar10_cnn_a_adv4.pth", CIFAR_A, 8 / 255),
    "wide-kw-2": Subject("cnn_a_cifar", "cifar10_wide_kw.pth", KW, 2 / 255),
    "wide-kw-8": Subject("cnn_a_cifar", "cifar10_wide_kw.pth", KW, 8 / 255),
    "resnet20-1": Subject("resnet20_cifar", "cifar10_resnet20_std.pth", IMAGENET, 1 / 255),
}


def measure(subject: Subject, folder: Path, images: int) -> dict[str, Any]:
    x, y = load("cifar10", folder)[2:]
    classifier, threat = subject.classifier(folder), ThreatModel(subject.norm, subject.eps)
    result: dict[str, Any] = {"eps": subject.eps, "norm": subject.norm, "images": images, "suites": {}}
    for suite in SUITES:
        began = perf_counter()
        report = evaluate(
            classifier, x[:images], y[:images], threat=threat, suite=suite, indicators=False, progress=False
        )
        seconds = perf_counter() - began
        result["suites"][suite] = {"seconds": seconds, "report": json.loads(report.to_json())}
    return result


def run(args: argparse.Namespace) -> None:
    for name in args.networks:
        path = args.out / f"{name}.json"
        if not path.exists():
            result = measure(SUBJECTS[name], args.data, args.images)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(result))
            print(row(name, result), flush=True)


def row(name: str, result: dict[str, Any]) -> str:
    suites = result["suites"]
    accuracy = {s: 100 * suites[s]["report"]["robust_accuracy"] for s in SUITES}
    survivors = {s: suites[s]["report"]["survivors"] for s in SUITES}
    alike = sum(a == b for a, b in zip(survivors["strong"], survivors["standard"], strict=True)) / result["images"]
    seconds = {s: suites[s]["seconds"] for s in SUITES}
    cells = [f"{accuracy[s]:.1f}" for s in SUITES] + [f"{100 * alike:.1f}"] + [f"{seconds[s]:.0f}" for s in SUITES]
    ratios = [f"{seconds[s] / seconds['standard']:.2f}" for s in SUITES[:2]]
    return "| " + " | ".join([name, *cells, *ratios]) + " |"


def table(args: argparse.Namespace) -> None:
    head = "| | fast | strong | AutoAttack | agreement, % | s | s | s | fast / AA | strong / AA |"
    found = [(n, args.out / f"{n}.json") for n in SUBJECTS]
    lines = [head, "|---" * 10 + "|", *(row(n, json.loads(p.read_text())) for n, p in found if p.exists())]
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    for verb in (running, tabling):
        verb.add_argument("--out", type=Path, required=True)
    running.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    running.add_argument("--images", type=int, default=1000)
    running.add_argument("--data", type=Path, default=os.environ.get("ART_EXT_DATA"))
    running.set_defaults(call=run)
    tabling.set_defaults(call=table)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
