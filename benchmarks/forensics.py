"""What a detector of attacks is worth: which family it says, how many false alarms, and who goes past it.

A small CNN learns Fashion-MNIST (the 5000 images of the package), naturally or by PGD training, and a detector learns
the attacks on it: FGSM, PGD in ℓ∞ and in ℓ2, Carlini & Wagner. On test images follow

    confusion     what it says of these attacks, and of APGD, MIM, Square, DeepFool, bent images and noise
    evasion       PGD that does not know of the detector, and PGD through classifier and detector, over ε
    false alarms  the same rate, with a threshold from images that the classifier was trained on, and from others

    python benchmarks/forensics.py run --out DIR [--tasks natural …] [--features penultimate …] [--seeds 0 1 2]
    python benchmarks/forensics.py table --out DIR     # summary.md, confusion.png, evasion.png

A cell whose file is in DIR is skipped; commands may share it.
"""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier

from art_ext import NoisyTrainer, RobustTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.data import DATASETS, load
from art_ext.detectors import AttackForensics, ConfusionReport, EvasionReport, confusion, evasion
from art_ext.detectors.evasion import AWARE, UNAWARE
from art_ext.detectors.training import conformal_threshold
from art_ext.evaluation.figures import save
from art_ext.files import atomic_write

DATA = "fashion-mnist-5k"
THREAT = ThreatModel("linf", 26 / 255)
EPS = tuple(level / 255 for level in (8, 16, 26))
TASKS = {
    "natural": ("natural training", partial(NoisyTrainer, noise=None)),
    "pgd-at": ("PGD-AT, 5 steps", partial(RobustTrainer, steps=5)),
}
FEATURES = {"penultimate": "pixels, features and logits", "logits": "pixels and logits"}
RATE = 0.05


def protected(task: str, x: np.ndarray, y: np.ndarray, args: argparse.Namespace, seed: int) -> PyTorchClassifier:
    """The classifier that the detector watches over."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adam = partial(torch.optim.Adam, lr=1e-3)
        classifier = timm_classifier(
            "small_cnn", num_classes=10, input_shape=DATASETS[DATA].input_shape, optimizer=adam, device=args.device
        )
    trainer = TASKS[task][1](classifier, threat=THREAT, seed=seed)
    trainer.fit(x, y, nb_epochs=args.classifier_epochs, batch_size=64)
    return classifier


def run(args: argparse.Namespace) -> None:
    for task, features, seed in product(args.tasks, args.features, args.seeds):
        path = args.out / f"{task}-{features}-seed{seed}.json"
        if not path.exists():
            cell = measured(task, features, seed, args)
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(cell, indent=1))


def measured(task: str, features: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    x, y, x_test, y_test = load(DATA, args.data)
    order = np.random.default_rng(seed).permutation(len(y_test))
    x_test, y_test = x_test[order], y_test[order]
    seen, unseen = x[: args.train], x[args.train : args.train + args.calibration]
    classifier = protected(task, seen, y[: args.train], args, seed)
    detector = AttackForensics(classifier, threat=THREAT, false_positive_rate=RATE, features=features, seed=seed)
    began = time.process_time()
    detector.fit(seen[: args.learnt], y[: args.learnt], nb_epochs=args.epochs, calibration=unseen)
    learning = time.process_time() - began
    few = slice(0, args.images)
    return {
        "task": task,
        "features": features,
        "seed": seed,
        "images": {"classifier": len(seen), "detector": args.learnt, "calibration": len(unseen)},
        "epochs": detector.history,
        "seconds of learning": learning,
        "seconds of an image": seconds(lambda: detector.detect(x_test)) / len(x_test),
        "seconds of an image, classifier": seconds(lambda: classifier.predict(x_test)) / len(x_test),
        "accuracy": float((classifier.predict(x_test).argmax(1) == y_test).mean()),
        "false alarms": alarms(detector, seen[args.learnt : args.learnt + args.calibration], unseen, x_test),
        "confusion": json.loads(confusion(detector, x_test[few], y_test[few], seed=seed).to_json()),
        "evasion": json.loads(
            evasion(detector, x_test[few], y_test[few], eps=EPS, steps=args.steps, seed=seed).to_json()
        ),
    }


def seconds(call: Any) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


def alarms(detector: AttackForensics, seen: np.ndarray, unseen: np.ndarray, test: np.ndarray) -> dict[str, float]:
    """Rate on test images, by what chose the threshold: images that the classifier was trained on, or others."""
    scores = {name: detector.detect(x)[0]["score"] for name, x in (("seen", seen), ("unseen", unseen), ("test", test))}
    limits = {name: conformal_threshold(torch.from_numpy(scores[name]), RATE) for name in ("seen", "unseen")}
    return {name: float((scores["test"] > limit).mean()) for name, limit in limits.items()}


# ---- tables ---------------------------------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> None:
    cells = [json.loads(path.read_text()) for path in sorted(args.out.glob("*-seed*.json"))]
    order = {key: i for i, key in enumerate(product(TASKS, FEATURES))}
    cells.sort(key=lambda cell: (order[cell["task"], cell["features"]], cell["seed"]))
    lines = [*evaded(cells), "", *alarmed(cells), "", *families(cells)]
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    if cells:
        save(ConfusionReport.from_json(json.dumps(cells[0]["confusion"])), args.out / "confusion.png")
        save(EvasionReport.from_json(json.dumps(cells[0]["evasion"])), args.out / "evasion.png")


def told(cell: dict[str, Any]) -> str:
    return f"{TASKS[cell['task']][0]} | {FEATURES[cell['features']]} | {cell['seed']}"


def evaded(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| classifier | detector sees | seed | ε | PGD fools | of its images detected | it evades | PGD that knows the "
        "detector evades |",
        "|---" * 8 + "|",
    ]
    for cell in cells:
        report = EvasionReport.from_json(json.dumps(cell["evasion"]))
        for i, eps in enumerate(report.eps):
            shares = report.fooled[UNAWARE][i], report.detected[UNAWARE][i], report.evaded[UNAWARE][i]
            figures = " | ".join(f"{100 * share:.0f} %" for share in (*shares, report.evaded[AWARE][i]))
            lines.append(f"| {told(cell)} | {round(255 * eps)}/255 | {figures} |")
    return lines


def alarmed(cells: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| classifier | detector sees | seed | accuracy | false alarms, threshold from new images | from images that "
        "the classifier has learnt | learning, s | an image, ms | classifier alone, ms |",
        "|---" * 9 + "|",
    ]
    for cell in cells:
        shares = cell["accuracy"], cell["false alarms"]["unseen"], cell["false alarms"]["seen"]
        times = (1000 * cell[name] for name in ("seconds of an image", "seconds of an image, classifier"))
        figures = [*(f"{100 * share:.1f} %" for share in shares), f"{cell['seconds of learning']:.0f}"]
        lines.append(f"| {told(cell)} | " + " | ".join([*figures, *(f"{t:.2f}" for t in times)]) + " |")
    return lines


def families(cells: list[dict[str, Any]]) -> list[str]:
    lines = []
    for cell in cells:
        report = ConfusionReport.from_json(json.dumps(cell["confusion"]))
        lines += [f"{told(cell)}:".replace(" |", ","), "", "```", str(report), "```", ""]
    return lines[:-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = (verbs.add_parser(name) for name in ("run", "table"))
    for verb, call in ((running, run), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    running.add_argument("--data", default=None, help="folder of data sets (default: ART_EXT_DATA)")
    running.add_argument("--device", default="auto")
    running.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["natural"])
    running.add_argument("--features", nargs="+", choices=list(FEATURES), default=["penultimate"])
    running.add_argument("--seeds", nargs="+", type=int, default=[0])
    running.add_argument("--train", type=int, default=3500, help="images that the classifier learns")
    running.add_argument("--learnt", type=int, default=1000, help="of these, images that the detector learns")
    running.add_argument("--calibration", type=int, default=1000, help="images that choose the threshold")
    running.add_argument("--images", type=int, default=200, help="test images to attack")
    running.add_argument("--classifier-epochs", type=int, default=10)
    running.add_argument("--epochs", type=int, default=10)
    running.add_argument("--steps", type=int, default=150, help="of PGD in evasion")
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
