"""The native suites against the genuine AutoAttack and those of ART and torchattacks: accuracy, agreement, time.

``run`` evaluates each network by ``fast``, ``standard`` (native) and ``autoattack`` (pyautoattack) in one process on
the same images; agreement is the share of images on which ``standard`` and ``autoattack`` leave the same survivors.
``time`` does it on fewer images, for the ratios of seconds where the suites ran at different times. ``peers`` does it
with ART's PGD, ART's AutoAttack and torchattacks' AutoAttack as they are shipped (ART's needs the package multiprocess,
which it does not ask for).

    python benchmarks/strong_attacks.py run --out DIR [--networks cnn-a-2 …] [--images 1000] [--suites standard …]
    python benchmarks/strong_attacks.py time --out DIR [--networks cnn-a-2 …] [--images 100]
    python benchmarks/strong_attacks.py peers --out DIR [--networks cnn-a-2 …] [--images 100]
    python benchmarks/strong_attacks.py table --out DIR

Checkpoints and CIFAR-10 are read from the folder ART_EXT_DATA or ``--data``; ``own`` is trained first, on the
Fashion-MNIST images of the package. What is in DIR already is skipped, but for the ``--suites`` named.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torchattacks
from art.attacks.evasion import AutoAttack, ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext import PIATTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.evaluation import FunctionAttack
from art_ext.files import atomic_write

Arrays = tuple[np.ndarray, np.ndarray]
Contestant = Callable[[PyTorchClassifier, ThreatModel], Any]
SUITES: dict[str, Contestant] = {name: lambda *_, name=name: name for name in ("fast", "standard", "autoattack")}
CIFAR_A = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KW = ((0.485, 0.456, 0.406), (0.225, 0.225, 0.225))


@dataclass(frozen=True)
class Subject:
    """A network, its test images, and the radius that it is judged at."""

    eps: float
    classifier: Callable[[Path], PyTorchClassifier]
    data: str = "cifar10"
    norm: str = "linf"

    def images(self, folder: Path, count: int) -> Arrays:
        x, y = load(self.data, folder)[2:] if self.data == "cifar10" else load(self.data)[2:]
        return x[:count], y[:count]


def checkpoint(folder: Path, *, name: str, file: str, statistics: tuple[Any, Any]) -> PyTorchClassifier:
    mean, std = statistics
    path = folder / "weights" / file
    return timm_classifier(name, num_classes=10, input_shape=(3, 32, 32), checkpoint=path, mean=mean, std=std)


def own(_: Path) -> PyTorchClassifier:
    """A small network trained by PIAT + NMSE on Fashion-MNIST, half a minute."""
    torch.manual_seed(0)
    classifier = timm_classifier(
        "small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=partial(torch.optim.Adam, lr=1e-3)
    )
    x, y, *_ = load("fashion-mnist-5k")
    PIATTrainer(classifier, threat=ThreatModel("linf", 0.1), steps=7, progress=False).fit(x, y, nb_epochs=10)
    return classifier


cnn_a = partial(checkpoint, name="cnn_a_cifar", file="cifar10_cnn_a_adv4.pth", statistics=CIFAR_A)
wide_kw = partial(checkpoint, name="cnn_a_cifar", file="cifar10_wide_kw.pth", statistics=KW)
resnet20 = partial(checkpoint, name="resnet20_cifar", file="cifar10_resnet20_std.pth", statistics=IMAGENET)
SUBJECTS = {
    "cnn-a-2": Subject(2 / 255, cnn_a),
    "cnn-a-8": Subject(8 / 255, cnn_a),
    "wide-kw-2": Subject(2 / 255, wide_kw),
    "wide-kw-8": Subject(8 / 255, wide_kw),
    "resnet20-1": Subject(1 / 255, resnet20),
    "own": Subject(0.1, own, data="fashion-mnist-5k"),
    "cnn-a-l2": Subject(0.5, cnn_a, norm="l2"),
}


def art_pgd(classifier: PyTorchClassifier, threat: ThreatModel) -> Any:
    order = inf if threat.norm == "linf" else 2
    options = {"eps_step": threat.eps / 4, "max_iter": 20, "num_random_init": 1, "verbose": False}
    return [("ART PGD-20", ProjectedGradientDescentPyTorch(classifier, norm=order, eps=threat.eps, **options))]


def art_autoattack(classifier: PyTorchClassifier, threat: ThreatModel) -> Any:
    order = inf if threat.norm == "linf" else 2
    return [("ART AutoAttack", AutoAttack(classifier, norm=order, eps=threat.eps, eps_step=threat.eps / 4))]


def torchattacks_autoattack(*_: Any) -> Any:
    """As it is shipped: 10 steps, which our adapter makes 100."""

    def shipped(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator) -> Tensor:
        norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
        return torchattacks.AutoAttack(model, norm=norm, eps=threat.eps, n_classes=10, seed=0)(x, y)

    return [FunctionAttack(name="torchattacks AutoAttack", function=shipped)]


PEERS: dict[str, Contestant] = SUITES | {
    "ART PGD-20": art_pgd,
    "ART AutoAttack": art_autoattack,
    "torchattacks AutoAttack": torchattacks_autoattack,
}


def measure(
    subject: Subject, folder: Path, images: int, contestants: dict[str, Contestant], earlier: dict[str, Any]
) -> dict[str, Any]:
    x, y = subject.images(folder, images)
    classifier, threat = subject.classifier(folder), ThreatModel(subject.norm, subject.eps)
    result: dict[str, Any] = {"eps": subject.eps, "norm": subject.norm, "images": len(x)}
    result |= {"threads": torch.get_num_threads(), "suites": dict(earlier)}
    for label, contestant in contestants.items():
        suite, began = contestant(classifier, threat), perf_counter()
        report = evaluate(classifier, x, y, threat=threat, suite=suite, indicators=False, progress=False)
        seconds = perf_counter() - began
        result["suites"][label] = {"seconds": seconds, "report": json.loads(report.to_json())}
        print(f"{label}: {report.robust_accuracy:.1%} in {seconds:.0f} s", flush=True)
    return result


def run(args: argparse.Namespace) -> None:
    for name in args.networks:
        path = args.out / f"{name}{args.suffix}.json"
        earlier = json.loads(path.read_text())["suites"] if path.exists() else {}
        missing = {k: v for k, v in args.contestants.items() if k not in earlier or k in args.suites}
        if missing:
            print(name, flush=True)
            result = measure(SUBJECTS[name], args.data, args.images, missing, earlier)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(result))


def row(name: str, result: dict[str, Any], timed: dict[str, Any]) -> str:
    suites = result["suites"]
    accuracy = {s: 100 * suites[s]["report"]["robust_accuracy"] for s in suites}
    survivors = {s: suites[s]["report"]["survivors"] for s in suites}
    alike = sum(a == b for a, b in zip(survivors["standard"], survivors["autoattack"], strict=True)) / result["images"]
    seconds = {s: found["seconds"] for s, found in timed["suites"].items()}
    cells = [f"{accuracy[s]:.1f}" for s in SUITES] + [f"{100 * alike:.1f}", str(timed["images"])]
    cells += [f"{seconds[s]:.0f}" for s in SUITES]
    ratios = [f"{seconds[s] / seconds['autoattack']:.2f}" for s in ("fast", "standard")]
    return "| " + " | ".join([name, str(result["images"]), *cells, *ratios]) + " |"


def peer_rows(name: str, result: dict[str, Any]) -> list[str]:
    suites = result["suites"]
    return [
        f"| {name} | {result['images']} | {label} | {100 * found['report']['robust_accuracy']:.1f} | "
        f"{found['seconds']:.0f} | {found['seconds'] / suites['autoattack']['seconds']:.2f} |"
        for label, found in suites.items()
    ]


def table(args: argparse.Namespace) -> None:
    def found(suffix: str) -> list[tuple[str, dict[str, Any]]]:
        paths = [(name, args.out / f"{name}{suffix}.json") for name in SUBJECTS]
        return [(name, json.loads(path.read_text())) for name, path in paths if path.exists()]

    head = "| | images | fast, % | standard, % | AutoAttack, % | agreement, % | images timed | fast, s | standard, s |"
    timed = dict(found("-time"))
    rows = [row(name, result, timed.get(name, result)) for name, result in found("")]
    lines = [f"{head} AutoAttack, s | fast / AA | standard / AA |", "|---" * 12 + "|", *rows]
    lines += ["", "| | images | suite | robust, % | s | times AutoAttack's |", "|---" * 6 + "|"]
    lines += [line for pair in found("-peers") for line in peer_rows(*pair)]
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb, suffix, images, contestants in (
        ("run", "", 1000, SUITES),
        ("time", "-time", 100, SUITES),
        ("peers", "-peers", 100, PEERS),
    ):
        running = verbs.add_parser(verb)
        running.add_argument("--networks", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
        running.add_argument("--images", type=int, default=images)
        running.add_argument("--suites", nargs="+", choices=list(contestants), default=[], help="measured again")
        running.add_argument("--data", type=Path, default=os.environ.get("ART_EXT_DATA"))
        running.set_defaults(call=run, suffix=suffix, contestants=contestants)
    verbs.add_parser("table").set_defaults(call=table)
    for verb in verbs.choices.values():
        verb.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
