"""Noise injection: the table of the adversarial-training report, with the gradient of one draw and the mean of several.

Networks: one (--architecture) trained on CIFAR-10 by PGD (ε = 0.03), the same with noise at inference alone, with noise
in training and at inference, that one with a vote of draws, and one trained on natural images under noise. Columns:
natural, ℓ∞ PGD (ε = 0.03), ℓ2 PGD (ε = 0.83), ℓ∞ FGSM, each with gradients of one draw and averaged over ``--eot``.
Success is judged by 20 fresh draws.

    python benchmarks/noise_injection.py run --out DIR [--networks …] [--train 10000] [--epochs 20] [--images 1000]
    python benchmarks/noise_injection.py table --out DIR      # summary.md, accuracy.png

CIFAR-10 is read from the folder ART_EXT_DATA or ``--data``. A network that is trained, and a cell that is done, are not
done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import NoiseInjection, NoisyTrainer, RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.files import atomic_write
from art_ext.nn.noise import Noise
from art_ext.nn.soft_vote import SoftVote
from art_ext.palette import PALETTE

LINF, L2 = ThreatModel("linf", 0.03), ThreatModel("l2", 0.83)
ATTACKS = {"ℓ∞ PGD": (LINF, "pgd-20"), "ℓ2 PGD": (L2, "pgd-20"), "ℓ∞ FGSM": (LINF, "fgsm")}
# which training, noise in training, noise at inference
NETWORKS: dict[str, tuple[str, str, bool]] = {
    "PGD-AT": ("robust", "robust", False),
    "PGD-AT, noise at inference": ("robust", "robust", True),
    "PGD-AT, noise in both": ("robust", "robust-noisy", True),
    "PGD-AT, noise in both, vote": ("robust", "robust-noisy", True),
    "natural, noise in both": ("natural", "natural-noisy", True),
}


def classifier_of(args: argparse.Namespace, *, training: bool, inference: bool) -> PyTorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        sgd = partial(torch.optim.SGD, lr=args.lr, momentum=0.9, weight_decay=5e-4)
        classifier = timm_classifier(args.architecture, num_classes=10, input_shape=(3, 32, 32), optimizer=sgd)
    if training or inference:
        noise = NoiseInjection(
            scale=args.scale, distribution=args.distribution, apply_fit=training, apply_predict=inference
        )
        classifier.set_params(preprocessing_defences=[noise])
    return classifier


def trainer_of(kind: str, classifier: PyTorchClassifier, options: dict[str, Any]) -> Any:
    if kind == "natural":
        return NoisyTrainer(classifier, threat=LINF, noise=None, **options)
    return RobustTrainer(classifier, threat=LINF, steps=10, step_size=0.0075, **options)


def trained(name: str, args: argparse.Namespace) -> PyTorchClassifier:
    """The classifier, trained now or before; several networks may share a training."""
    kind, run, inference = NETWORKS[name]
    noisy, folder = run.endswith("-noisy"), args.out / "training" / run
    # while it trains, the noise is where training has it: the inner attack sees what acts at inference
    training = classifier_of(args, training=noisy, inference=noisy)
    trainer = trainer_of(kind, training, {"checkpoint_dir": folder, "augment": "crop-flip", "seed": args.seed})
    if not (folder / "done").exists():
        x, y, *_ = load("cifar10", args.data)
        milestones = [round(0.6 * args.epochs), round(0.8 * args.epochs)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(trainer.optimizer, milestones)
        with suppress(FileNotFoundError):
            trainer.resume()
        trainer.fit(x[: args.train], y[: args.train], nb_epochs=args.epochs, scheduler=schedule)
        (folder / "done").write_text("")
    trainer.restore("last")
    judged = classifier_of(args, training=False, inference=inference)
    judged.model.load_state_dict(training.model.state_dict())
    return voting(judged.model, args) if name.endswith("vote") else judged


def voting(network: nn.Module, args: argparse.Namespace) -> PyTorchClassifier:
    noise = Noise(args.scale, distribution=args.distribution)
    vote = SoftVote(network, transform=noise, draws=args.draws, chunk=args.draws).eval()
    return PyTorchClassifier(vote, nn.CrossEntropyLoss(), (3, 32, 32), 10, clip_values=(0.0, 1.0))


def run(args: argparse.Namespace) -> None:
    _, _, x_test, y_test = load("cifar10", args.data)
    x_test, y_test = x_test[: args.images], y_test[: args.images]
    made: dict[str, PyTorchClassifier] = {}
    for name, (column, (threat, attack)), draws in product(args.networks, ATTACKS.items(), (1, args.eot)):
        path = args.out / "cells" / f"{name} - {column} - {draws}.json"
        if path.exists() or (draws > 1 and not NETWORKS[name][2]):  # without noise there is nothing to average
            continue
        if name not in made:
            made[name] = trained(name, args)
        report = evaluate(
            made[name], x_test, y_test, threat=threat, suite=[attack], eot=draws, seed=args.seed, indicators=False
        )
        cell = {"network": name, "column": column, "eot": draws, "report": json.loads(report.to_json())}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(cell))


# ---- table ----------------------------------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> None:
    cells = [json.loads(path.read_text()) for path in sorted((args.out / "cells").glob("*.json"))]
    draws = max((cell["eot"] for cell in cells), default=1)
    found = {(c["network"], c["column"], c["eot"]): c["report"] for c in cells}
    head = [f"{column}, {told}" for column in ATTACKS for told in ("one draw", f"{draws} draws")]
    lines = ["| network | images | natural | " + " | ".join(head) + " |", "|---" * (3 + len(head)) + "|"]
    for name in NETWORKS:
        reports = [found[key] for key in found if key[0] == name]
        if not reports:
            continue
        keys = [(name, column, n) for column in ATTACKS for n in (1, draws)]
        values = [f"{100 * found[key]['robust_accuracy']:.1f}" if key in found else "" for key in keys]
        clean = f"{100 * reports[0]['clean_accuracy']:.1f}"
        lines.append("| " + " | ".join([name, str(len(reports[0]["survivors"])), clean, *values]) + " |")
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    picture(lambda *key: found.get(key), draws, args.out / "accuracy.png")


def picture(report: Callable[..., Any], draws: int, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, column in zip(figure.subplots(1, len(ATTACKS), sharey=True), ATTACKS, strict=True):
        for i, (n, told) in enumerate(((1, "one draw per gradient"), (draws, f"mean of {draws} draws"))):
            there = [(k, report(name, column, n)) for k, name in enumerate(NETWORKS) if report(name, column, n)]
            heights = [100 * r["robust_accuracy"] for _, r in there]
            axis.bar([k + 0.4 * i - 0.2 for k, _ in there], heights, 0.38, color=PALETTE[i], label=told)
        axis.set_xticks(range(len(NETWORKS)), [name.replace(", ", ",\n") for name in NETWORKS], fontsize="x-small")
        axis.set(title=column, ylim=(0, 100))
        axis.grid(axis="y", alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    for verb, call in ((running, run), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    running.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    running.add_argument("--architecture", default="resnet20_cifar", help="of timm or art_ext.nn.cifar")
    running.add_argument("--data", default=None, help="folder of data sets (default: ART_EXT_DATA)")
    running.add_argument("--train", type=int, default=None, help="training images (default: all)")
    running.add_argument("--images", type=int, default=1000, help="test images")
    running.add_argument("--epochs", type=int, default=20)
    running.add_argument("--lr", type=float, default=0.05)
    running.add_argument("--scale", type=float, default=0.03, help="of the noise, in training and at inference")
    running.add_argument("--distribution", choices=("gaussian", "uniform", "laplace"), default="gaussian")
    running.add_argument("--eot", type=int, default=32)
    running.add_argument("--draws", type=int, default=8, help="that vote")
    running.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
