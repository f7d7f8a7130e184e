"""What purification is worth, with and without adversarial tuning: through everything, and by those who skip it.

Tasks: Fashion-MNIST (the 5000 images of the package) at ε = 0.1 with a small CNN trained on natural images; CIFAR-10 at
8/255 with a ResNet-20 from its checkpoint. Defenses, all in front of the same network: none; the transforms RT1 and RT2
alone; a purifier behind RT1, RT2 or RT3, pre-trained; the same, tuned (AToP). The columns are those of
`art_ext.evaluation.evaluate_purification`; clean accuracy is that of twenty draws.

    python benchmarks/atop.py run --out DIR [--tasks fashion] [--defenses …] [--images 100] [--eot 20]
    python benchmarks/atop.py speed --out DIR [--tasks fashion]     # on an idle machine
    python benchmarks/atop.py table --out DIR                       # summary.md, accuracy.png, stages-*.png

What is trained, and a cell that is done, is not done again. CIFAR-10 and the checkpoint are read from the folder
ART_EXT_DATA or ``--data``.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from train_throughput import peak_resident_kib

from art_ext import AToPTrainer, NoisyTrainer, RandomTransform, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.attacks import pgd
from art_ext.data import load
from art_ext.engine.checkpoint import load_weights, save_weights
from art_ext.evaluation import evaluate_purification
from art_ext.evaluation.figures import save, stages
from art_ext.evaluation.purified import BOUND
from art_ext.files import atomic_write
from art_ext.model import DefendedModel
from art_ext.palette import PALETTE

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
DEFENSES = (
    "none",
    *(f"{kind} alone" for kind in ("rt1", "rt2")),
    *(f"{kind}, {how}" for kind in ("rt1", "rt2", "rt3") for how in ("pre-trained", "tuned")),
)
COLUMNS = ("PGD", "randomized", "skipped", "fixed", "l2", "spatial", "corruptions")
OF_NONE = {"PGD": "without", "corruptions": "corruptions without"}  # what is asked of the network without a defense


@dataclass(frozen=True)
class Task:
    """Images, network, radius, purifier."""

    data: str
    eps: float
    width: int
    train: int
    pretraining: int
    tuning: int

    def images(self, args: argparse.Namespace) -> tuple[np.ndarray, ...]:
        x, y, x_test, y_test = load(self.data, args.data)
        return x[: self.train], y[: self.train], x_test[: args.images], y_test[: args.images]

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel("linf", self.eps)


TASKS = {
    "fashion": Task("fashion-mnist-5k", 0.1, 12, 4000, 8, 8),
    "cifar10": Task("cifar10", 8 / 255, 16, 5000, 8, 8),
}


def network_of(name: str, args: argparse.Namespace) -> PyTorchClassifier:
    """The network that is protected; that of Fashion-MNIST is trained on natural images first."""
    if name == "cifar10":
        weights = Path(args.data) / "weights" / "cifar10_resnet20_std.pth"
        shape: tuple[int, int, int] = (3, 32, 32)
        mean, std = IMAGENET
        made = timm_classifier(
            "resnet20_cifar", num_classes=10, input_shape=shape, checkpoint=weights, mean=mean, std=std
        )
        made.model.eval()
        return made
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adam = partial(torch.optim.Adam, lr=1e-3)
        classifier = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
    path = args.out / "training" / "fashion-network.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        x, y, *_ = TASKS[name].images(args)
        NoisyTrainer(classifier, threat=TASKS[name].threat, noise=None).fit(x, y, nb_epochs=10)
        save_weights(classifier.model, path)
    load_weights(classifier.model, path)
    classifier.model.eval()
    return classifier


def trainer_of(name: str, kind: str, classifier: PyTorchClassifier, args: argparse.Namespace) -> AToPTrainer:
    task = TASKS[name]
    return AToPTrainer(
        classifier,
        threat=task.threat,
        transform=kind,
        purifier_options={"width": task.width},
        discriminator_options={"width": 8, "layers": 2},
        gan_weight=0.05,
        optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
        checkpoint_dir=args.out / "training" / f"{name}-{kind}",
        pretrain_epochs=task.pretraining,
    )


def trained(name: str, kind: str, classifier: PyTorchClassifier, args: argparse.Namespace) -> AToPTrainer:
    """The trainer of a purifier that is pre-trained and tuned, now or before."""
    trainer, x_y = trainer_of(name, kind, classifier, args), TASKS[name].images(args)[:2]
    with suppress(FileNotFoundError):
        trainer.resume()
    trainer.fit(x_y[0], x_y[1], nb_epochs=TASKS[name].tuning)
    return trainer


def defended(name: str, defense: str, args: argparse.Namespace) -> PyTorchClassifier:
    classifier = network_of(name, args)
    kind, _, how = defense.replace(" alone", ", alone").partition(", ")
    if not how or how == "alone":  # of "none" we ask what is left without it
        classifier.set_params(preprocessing_defences=[RandomTransform(kind=kind if how else "rt1")])
        return classifier
    trainer = trained(name, kind, classifier, args)
    if how == "pre-trained":
        early = args.out / "training" / f"{name}-{kind}" / "pretraining" / "last.safetensors"
        load_weights(trainer.model.network, early)
    return trainer.get_classifier()


def run(args: argparse.Namespace) -> None:
    for name in args.tasks:
        _, _, x_test, y_test = TASKS[name].images(args)
        for defense in args.defenses:
            made: PyTorchClassifier | None = None
            for column in args.columns:
                path = args.out / "cells" / f"{name} - {defense} - {column}.json"
                asked = OF_NONE.get(column) if defense == "none" else column
                if path.exists() or asked is None:
                    continue
                made = defended(name, defense, args) if made is None else made
                options: dict[str, Any] = {"steps": args.steps, "eot": args.eot, "seed": args.seed}
                threat = TASKS[name].threat
                found = evaluate_purification(made, x_test, y_test, threat=threat, columns=[asked], **options)
                report = json.loads(found.reports[asked].to_json())
                settings = {"steps": args.steps, "eot": args.eot}
                cell = {"task": name, "defense": defense, "column": column, "settings": settings, "report": report}
                with atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(cell))
                print(f"{path.stem}: {after(report):.1%} of {report['clean_accuracy']:.1%}", flush=True)
            if defense.endswith("tuned"):
                picture_of_stages(name, defense, args)


def after(report: dict[str, Any]) -> float:
    """The accuracy that is left: under attack, or the mean over corruptions."""
    if "robust_accuracy" in report:
        return float(report["robust_accuracy"])
    shares = [share for levels in report["accuracies"].values() for share in levels]
    return sum(shares) / len(shares)


def picture_of_stages(name: str, defense: str, args: argparse.Namespace) -> None:
    made = defended(name, defense, args)
    _, _, x, y = TASKS[name].images(args)
    x_t, y_t = torch.from_numpy(x[:8]), torch.from_numpy(y[:8])
    step: dict[str, Any] = {"steps": 20, "step_size": TASKS[name].eps / 8, "eot": 4}
    x_adv = pgd(DefendedModel(made).eval(), x_t, y_t, threat=TASKS[name].threat, **step)
    first = made.preprocessing_defences[0]
    shown = stages(
        first.purifier, first.module.transform, x_t, x_adv, note=f"{name}, {defense}; PGD-20 through everything"
    )
    save(shown, args.out / f"stages-{name}-{defense.split(',')[0]}.png")


@torch.no_grad()
def speed(args: argparse.Namespace) -> None:
    """Seconds of a batch of 128 through network and whole, in turn; memory of the purifier's weights, and of a pass."""
    for name in args.tasks:
        made = defended(name, "rt2, tuned", args)
        whole, network = DefendedModel(made).eval(), DefendedModel(network_of(name, args)).eval()
        x = torch.rand(128, *made.input_shape)
        seconds: dict[str, list[float]] = {"network": [], "whole": []}
        for _ in range(args.rounds):
            for told, model in (("network", network), ("whole", whole)):
                began = perf_counter()
                model(x)
                seconds[told].append(perf_counter() - began)
        middle = {told: median(values[1:]) for told, values in seconds.items()}
        weights = sum(p.numel() * p.element_size() for p in made.preprocessing_defences[0].purifier.parameters())
        share = 1 - middle["network"] / middle["whole"]
        result = {"batch": 128, "threads": torch.get_num_threads(), "seconds": seconds, "purifier_bytes": weights}
        result |= {"mib_of_a_pass": {told: mib(model, x) for told, model in (("network", network), ("whole", whole))}}
        result |= {"images_per_second": 128 / middle["whole"], "share_of_purification": share}
        with atomic_write(args.out / f"speed-{name}.json") as temporary:
            temporary.write_text(json.dumps(result, indent=1))
        print(
            f"{name}: {128 / middle['whole']:.0f} images/s, purification {share:.0%}, {weights / 1e6:.2f} MB",
            flush=True,
        )


def mib(model: torch.nn.Module, x: torch.Tensor) -> float:
    """By how much the resident set of this process grows at most while ``model`` sees ``x``, MiB; glibc only."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what earlier passes left would be used again
    Path("/proc/self/clear_refs").write_text("5")  # the peak is that of now
    before = peak_resident_kib()
    model(x)
    return (peak_resident_kib() - before) / 1024


# ---- table and picture ----------------------------------------------------------------------------------------------


def table(args: argparse.Namespace) -> None:
    cells = [json.loads(path.read_text()) for path in sorted((args.out / "cells").glob("*.json"))]
    found = {(cell["task"], cell["defense"], cell["column"]): cell["report"] for cell in cells}
    lines = [
        "| task | defense | images | clean | " + " | ".join(COLUMNS) + " | worst |",
        "|---" * (5 + len(COLUMNS)) + "|",
    ]
    for name in TASKS:
        for defense in DEFENSES:
            reports = {column: found[name, defense, column] for column in COLUMNS if (name, defense, column) in found}
            if not reports:
                continue
            first = next(iter(reports.values()))
            values = [f"{100 * after(reports[c]):.1f}" if c in reports else "" for c in COLUMNS]
            bounded = [after(reports[c]) for c in BOUND if c in reports]
            row = [name, defense, str(first["n_examples"]), f"{100 * first['clean_accuracy']:.1f}", *values]
            lines.append("| " + " | ".join([*row, f"{100 * min(bounded):.1f}" if bounded else ""]) + " |")
    for path in sorted(args.out.glob("speed-*.json")):
        told = json.loads(path.read_text())
        rate, share = told["images_per_second"], told["share_of_purification"]
        lines += ["", f"- {path.stem}: {rate:.0f} images/s ({told['threads']} threads), {share:.0%} of it purification"]
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    picture(found, args.out / "accuracy.png")


def picture(found: dict[tuple[str, str, str], dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = [name for name in TASKS if any(key[0] == name for key in found)]
    figure = Figure(figsize=(7 * max(1, len(tasks)), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(1, max(1, len(tasks)), squeeze=False)[0], tasks, strict=False):
        there = [defense for defense in DEFENSES if (name, defense, "PGD") in found]
        for i, (column, colour) in enumerate(zip(("PGD", "skipped", "fixed"), PALETTE, strict=False)):
            bars = [(k, found[name, d, column]) for k, d in enumerate(there) if (name, d, column) in found]
            heights = [100 * after(report) for _, report in bars]
            axis.bar([k + 0.27 * (i - 1) for k, _ in bars], heights, 0.25, color=colour, label=column)
        clean = [100 * found[name, d, "PGD"]["clean_accuracy"] for d in there]
        axis.plot(range(len(there)), clean, "k_", markersize=18, label="clean")
        axis.set_xticks(range(len(there)), [d.replace(", ", ",\n") for d in there], fontsize="x-small")
        axis.set(title=name, ylabel="accuracy, %", ylim=(0, 100))
        axis.grid(axis="y", alpha=0.3)
        axis.legend(frameon=False, fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, speeding, tabling = (verbs.add_parser(name) for name in ("run", "speed", "table"))
    for verb, call in ((running, run), (speeding, speed), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    for verb in (running, speeding):
        verb.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
        verb.add_argument("--data", default=os.environ.get("ART_EXT_DATA"))
        verb.add_argument("--images", type=int, default=100)
    running.add_argument("--defenses", nargs="+", choices=DEFENSES, default=list(DEFENSES))
    running.add_argument("--columns", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    running.add_argument("--eot", type=int, default=20, help="draws that a gradient averages")
    running.add_argument("--steps", type=int, default=200, help="of PGD")
    running.add_argument("--seed", type=int, default=0)
    speeding.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
