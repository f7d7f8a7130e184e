"""Noisy training through soft quantization against PGD training, at equal epochs: accuracy under attack, and time.

Tasks: Fashion-MNIST (the 5000 images of the package) at ε = 0.1, 0.2, 0.3 with two levels; scikit-learn's digits at
0.2; CIFAR-10 at 8/255 with eight. Methods: PGD-AT (10 steps), the layer with uniform noise and with signs, noise
without the layer, and the exact objective CE + ε ‖∇ₓ CE‖₁ by a second derivative. Judged are the networks
of the last epoch, by

    PGD       PGD-20 on the network's own gradients
    BPDA      PGD-20 with the gradient of the identity in place of the layer's
    adaptive  all that the layer has to face (``evaluate`` without a suite)

    python benchmarks/soft_quantization.py run --out DIR [--tasks fashion-0.1 …] [--methods …] [--seeds 0 1 2]
    python benchmarks/soft_quantization.py time --out DIR [--task fashion-0.1] [--rounds 5]   # on an idle machine
    python benchmarks/soft_quantization.py table --out DIR     # summary.md, accuracy.png

``time`` measures an epoch of each, in turn: natural training, the layer with noise, the second derivative, PGD-10 and
PGD-40 training. A cell whose file is in DIR is skipped; commands may share it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from art.defences.trainer import Trainer
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext import NoisyTrainer, RobustTrainer, SoftQuantization, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.attacks import pgd
from art_ext.data import DATASETS, load
from art_ext.evaluation import FunctionAttack
from art_ext.evaluation.adaptive.quantization import with_gradient_of
from art_ext.files import atomic_write
from art_ext.palette import PALETTE

Make = Any  # (classifier, layer of the task, options) -> trainer


@dataclass(frozen=True)
class Task:
    """Images, network, radius, and the layer that suits the images."""

    data: str
    eps: float
    levels: int
    temperature: float
    network: str
    epochs: int
    lr: float

    def classifier(self, seed: int) -> PyTorchClassifier:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            info = DATASETS[self.data]
            adam = partial(torch.optim.Adam, lr=self.lr)
            return timm_classifier(self.network, num_classes=10, input_shape=info.input_shape, optimizer=adam)

    def layer(self) -> SoftQuantization:
        return SoftQuantization(levels=self.levels, temperature=self.temperature)

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel("linf", self.eps)


TASKS = {
    **{f"fashion-{eps}": Task("fashion-mnist-5k", eps, 2, 0.02, "small_cnn", 30, 1e-3) for eps in (0.1, 0.2, 0.3)},
    "digits-0.2": Task("digits", 0.2, 2, 0.02, "small_cnn", 60, 1e-3),
    "cifar10": Task("cifar10", 8 / 255, 8, 0.01, "resnet20_cifar", 15, 1e-3),
}


def quantized(noise: str, task: Task, classifier: PyTorchClassifier, **options: Any) -> Trainer:
    return NoisyTrainer(classifier, threat=task.threat, noise=noise, quantization=task.layer(), **options)


def noise_alone(task: Task, classifier: PyTorchClassifier, **options: Any) -> Trainer:
    return NoisyTrainer(classifier, threat=task.threat, **options)


def exact(task: Task, classifier: PyTorchClassifier, **options: Any) -> Trainer:
    return NoisyTrainer(classifier, threat=task.threat, noise=None, gradient_penalty=task.eps, **options)


def natural(task: Task, classifier: PyTorchClassifier, **options: Any) -> Trainer:
    return NoisyTrainer(classifier, threat=task.threat, noise=None, **options)


def adversarial(steps: int, task: Task, classifier: PyTorchClassifier, **options: Any) -> Trainer:
    return RobustTrainer(classifier, threat=task.threat, steps=steps, **options)


METHODS: dict[str, tuple[str, Make]] = {
    "natural": ("natural training", natural),
    "pgd-at": ("PGD-AT, 10 steps", partial(adversarial, 10)),
    "uniform": ("quantization, uniform noise", partial(quantized, "uniform")),
    "signs": ("quantization, signs", partial(quantized, "signs")),
    "noise": ("uniform noise alone", noise_alone),
    "exact": ("CE + ε ‖∇ₓ CE‖₁", exact),
}
TIMED: dict[str, tuple[str, Make]] = {
    "natural": METHODS["natural"],
    "quantized": ("quantization, uniform noise", partial(quantized, "uniform")),
    "exact": METHODS["exact"],
    "pgd-10": ("PGD-AT, 10 steps", partial(adversarial, 10)),
    "pgd-40": ("PGD-AT, 40 steps", partial(adversarial, 40)),
}


def bpda(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    """PGD-20 through the identity; where there is no layer, plain PGD-20."""
    return pgd(with_gradient_of(model, "identity"), x, y, threat=threat, steps=20, generator=generator)


SUITES: dict[str, Any] = {
    "PGD": ["pgd-20"],
    "BPDA": [FunctionAttack(name="PGD-20 through the identity", function=bpda)],
    "adaptive": None,
}


def images(task: Task, args: argparse.Namespace) -> tuple[np.ndarray, ...]:
    x, y, x_test, y_test = load(task.data, args.data)
    chosen = np.random.default_rng(0).permutation(len(y_test))[: args.images]
    return x[: args.train], y[: args.train], x_test[chosen], y_test[chosen]


def run(args: argparse.Namespace) -> None:
    for name, method, seed in product(args.tasks, args.methods, args.seeds):
        path = args.out / f"{name}-{method}-seed{seed}.json"
        if path.exists():
            continue
        task = TASKS[name]
        x, y, x_test, y_test = images(task, args)
        classifier, epochs = task.classifier(seed), args.epochs or task.epochs
        trainer = METHODS[method][1](task, classifier, seed=seed)
        trainer.fit(x, y, nb_epochs=epochs)
        cell: dict[str, Any] = {"task": name, "method": method, "seed": seed, "epochs": trainer.history.rows}
        for told, suite in SUITES.items():
            report = evaluate(classifier, x_test, y_test, threat=task.threat, suite=suite, seed=seed)
            cell[told] = json.loads(report.to_json())
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(cell))


def measure(args: argparse.Namespace) -> None:
    task = TASKS[args.task]
    x, y, *_ = images(task, args)
    seconds: dict[str, list[float]] = {method: [] for method in TIMED}
    for _ in range(args.rounds):
        for method, (_, make) in TIMED.items():
            trainer = make(task, task.classifier(0), progress=False)
            trainer.fit(x, y, nb_epochs=2)  # the first warms up
            seconds[method].append(trainer.history.rows[-1]["seconds"])
            print(f"{method}: {seconds[method][-1]:.2f} s", flush=True)
    result = {"task": args.task, "images": len(x), "threads": torch.get_num_threads(), "seconds": seconds}
    with atomic_write(args.out / f"time-{args.task}.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1))


# ---- tables ---------------------------------------------------------------------------------------------------------


def read(folder: Path) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*-seed*.json")):
        cell = json.loads(path.read_text())
        found.setdefault((cell["task"], cell["method"]), []).append(cell)
    order = {key: i for i, key in enumerate(product(TASKS, METHODS))}
    return dict(sorted(found.items(), key=lambda item: order[item[0]]))


def percent(cells: list[dict[str, Any]], suite: str, figure: str) -> float:
    return 100 * fmean(cell[suite][figure] for cell in cells)


def table(args: argparse.Namespace) -> None:
    found = read(args.out)
    lines = ["| task | method | epochs | seeds | images | clean | PGD | BPDA | adaptive |", "|---" * 9 + "|"]
    for (task, method), cells in found.items():
        figures = [f"{percent(cells, 'PGD', 'clean_accuracy'):.1f}"]
        figures += [f"{percent(cells, suite, 'robust_accuracy'):.1f}" for suite in SUITES]
        row = [task, METHODS[method][0], str(len(cells[0]["epochs"])), str(len(cells))]
        lines.append("| " + " | ".join([*row, str(cells[0]["PGD"]["n_examples"]), *figures]) + " |")
    lines += timed(args.out)
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    picture(found, args.out / "accuracy.png")


def timed(folder: Path) -> list[str]:
    lines: list[str] = []
    for path in sorted(folder.glob("time-*.json")):
        result = json.loads(path.read_text())
        middle = {method: median(values) for method, values in result["seconds"].items()}
        told = f"{result['task']}, {result['images']} images, {result['threads']} threads"
        lines += ["", f"| an epoch: {told} | seconds | times the layer with noise |", "|---|---|---|"]
        for method, value in middle.items():
            lines.append(f"| {TIMED[method][0]} | {value:.2f} | {value / middle['quantized']:.1f} |")
    return lines


def picture(found: dict[tuple[str, str], list[dict[str, Any]]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(task for task, _ in found))
    figure = Figure(figsize=(3.6 * max(1, len(tasks)), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, max(1, len(tasks)), squeeze=False, sharey=True)[0]
    for axis, task in zip(axes, tasks, strict=False):
        methods = [method for of, method in found if of == task]
        for i, (suite, colour) in enumerate(zip(SUITES, PALETTE, strict=False)):
            values = [percent(found[task, method], suite, "robust_accuracy") for method in methods]
            axis.bar([k + 0.27 * (i - 1) for k in range(len(methods))], values, 0.25, color=colour, label=suite)
        axis.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
        axis.set(title=f"{task}", ylim=(0, 100))
        axis.grid(axis="y", alpha=0.3)
    axes[0].set(ylabel="accuracy under attack, %")
    axes[0].legend(frameon=False, fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, timing, tabling = (verbs.add_parser(name) for name in ("run", "time", "table"))
    for verb, call in ((running, run), (timing, measure), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    for verb in (running, timing):
        verb.add_argument("--data", default=None, help="folder of data sets (default: ART_EXT_DATA)")
        verb.add_argument("--train", type=int, default=None, help="training images (default: all)")
        verb.add_argument("--images", type=int, default=500, help="test images")
    running.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    running.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    running.add_argument("--seeds", nargs="+", type=int, default=[0])
    running.add_argument("--epochs", type=int, default=None, help="default: the task's")
    timing.add_argument("--task", choices=list(TASKS), default="fashion-0.1")
    timing.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
