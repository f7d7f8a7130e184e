"""What an interference network (INN) is worth: attacked as its paper does, and by one who knows it; with controls.

Two tasks. ``photographs``: EfficientNet-Lite0 with ImageNet's weights, fine-tuned on a part of 1000 ImageNet-labelled
photographs, attacked on the rest. ``cifar10``: a ResNet-20, fine-tuned on CIFAR-10. Five networks of each:

    plain    as it was given
    tuned    fine-tuned as long, without interference; the last epochs vote
    scaled   the same, input multiplied by 1 / (1 + α + β + γ), the share of the image in its interference
    noise    an INN without backgrounds
    inn      an INN: backgrounds, white noise, salt and pepper, backgrounds as classes

Attacks: PGD with a random start, step 2.5 ε / iterations, made

    clean     on the plain network, and tried on the others
    fixed     on the network itself, under one draw of the interference that stays the same
    adaptive  on the vote over snapshots and backgrounds, a fresh draw for each pass, averaged over as many votes as
              have --eot draws together, so that no random network is attacked with fewer of them than another

Each image counts with the share of --judgements fresh votes that are right. One that no vote gets right counts as
broken at larger radii and after more iterations of the same attack too, and is not attacked again: its example lies in
their balls. Training goes on where it was stopped, and so does the table, cell by cell; several commands may share the
folder.

    python benchmarks/inn.py train --out DIR [--tasks cifar10] [--networks inn noise]
    python benchmarks/inn.py attack --out DIR [--tasks …] [--networks …] [--ways adaptive] [--iterations 20]
    python benchmarks/inn.py table --out DIR         # summary.json, summary.md, accuracy.png

Data and weights are read from the folder ART_EXT_DATA or ``--data``.
"""

from __future__ import annotations

import argparse
import json
import os
from contextlib import suppress
from functools import partial
from itertools import product
from math import ceil
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from PIL import Image
from torch import Tensor, nn

from art_ext import DefendedModel, INNTrainer, ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.attacks import pgd
from art_ext.data import load
from art_ext.engine.precision import InPrecision, resolve_precision
from art_ext.files import atomic_write
from art_ext.isolation import derive_seed, seeded
from art_ext.nn.soft_vote import SoftVote
from art_ext.palette import PALETTE

Arrays = tuple[np.ndarray, np.ndarray]
Tensors = tuple[Tensor, ...]
WEIGHTS = {"alpha": 0.1, "beta": 0.1, "gamma": 0.1}
NOTHING = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0, "backgrounds": ()}
NETWORKS = ("plain", "tuned", "scaled", "noise", "inn")
RANDOM = ("noise", "inn")
WAYS = ("clean", "fixed", "adaptive")
LABELS = {"clean": "made on the plain network", "fixed": "one fixed draw", "adaptive": "adaptive"}
EPS = (0, 2, 4, 8, 16, 32, 64, 96)  # of 255
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


# ---- tasks ----------------------------------------------------------------------------------------------------------


def photographs(data: Path, train: int) -> tuple[Arrays, Arrays]:
    rows = (data / "nips17" / "images.csv").read_text().splitlines()
    head = rows[0].split(",")
    name, label = head.index("ImageId"), head.index("TrueLabel")
    cells = [row.split(",") for row in rows[1:]]
    x = np.stack([np.asarray(Image.open(data / "nips17" / f"{c[name]}.jpg").convert("RGB")) for c in cells])
    y = np.array([int(c[label]) - 1 for c in cells])
    order = np.random.default_rng(0).permutation(len(y))
    x, y = x[order].transpose(0, 3, 1, 2).astype(np.float32) / 255, y[order]
    return (x[:train], y[:train]), (x[train:], y[train:])


def cifar10(data: Path, train: int) -> tuple[Arrays, Arrays]:
    x, y, x_test, y_test = load("cifar10", data)
    return (x[:train], y[:train]), (x_test, y_test)


def lite0(data: Path, lr: float) -> PyTorchClassifier:
    return timm_classifier(
        "tf_efficientnet_lite0",
        num_classes=1000,
        input_shape=(3, 224, 224),
        checkpoint=data / "weights" / "timm_tf_efficientnet_lite0.pth",
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
        optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=1e-5),
    )


def resnet20(data: Path, lr: float) -> PyTorchClassifier:
    return timm_classifier(
        "resnet20_cifar",
        num_classes=10,
        input_shape=(3, 32, 32),
        checkpoint=data / "weights" / "cifar10_resnet20_std.pth",
        mean=IMAGENET[0],
        std=IMAGENET[1],
        optimizer=partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=1e-4),
    )


# images, network; examples to train on, learning rate, size of the batches
TASKS: dict[str, tuple[Any, Any, int, float, int]] = {
    "photographs": (photographs, lite0, 600, 2e-3, 32),
    "cifar10": (cifar10, resnet20, 50_000, 1e-2, 128),
}


# ---- networks -------------------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    """Images times a factor in front of a network."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x * self.factor)


def scaled(given: PyTorchClassifier) -> PyTorchClassifier:
    model = Scaled(given.model, 1 / (1 + sum(WEIGHTS.values())))
    options = {"optimizer": given.optimizer, "clip_values": (0.0, 1.0), "preprocessing": None}
    return PyTorchClassifier(
        model, nn.CrossEntropyLoss(), given.input_shape, given.nb_classes, device_type=given.device_type, **options
    )


def options_of(network: str, args: argparse.Namespace) -> dict[str, Any]:
    if network == "inn":
        return {**WEIGHTS, "backgrounds": args.backgrounds or args.data / "backgrounds"}
    return {**WEIGHTS, "alpha": 0.0, "backgrounds": ()} if network == "noise" else NOTHING


def trainer_of(task: str, network: str, args: argparse.Namespace) -> INNTrainer:
    _, make, _, lr, _ = TASKS[task]
    given = make(args.data, args.lr or lr)
    folder = args.out / "training" / f"{task}-{network}"
    options = {"snapshots": args.snapshots, "checkpoint_dir": folder, "draws": 1, "checkpoint_every": 50}
    classifier = scaled(given) if network == "scaled" else given
    return INNTrainer(classifier, **options, **options_of(network, args))


def train(args: argparse.Namespace) -> None:
    for task, network in product(args.tasks, args.networks):
        done = args.out / "training" / f"{task}-{network}" / "done.json"
        if network == "plain" or done.exists():
            continue
        read, _, examples, _, batch = TASKS[task]
        (x, y), _ = read(args.data, args.examples or examples)
        trainer = trainer_of(task, network, args)
        with suppress(FileNotFoundError):
            trainer.resume()
        trainer.fit(x, y, nb_epochs=args.epochs, batch_size=batch)
        told = {"examples": len(y), "epochs": args.epochs, "snapshots": args.snapshots, **WEIGHTS}
        told |= {"backgrounds": len(trainer.backgrounds), "history": trainer.history.rows}
        with atomic_write(done) as temporary:
            temporary.write_text(json.dumps(told, indent=1))


def model_of(task: str, network: str, args: argparse.Namespace) -> nn.Module:
    """From images to logits, in eval mode, under the hardware's precision."""
    if network == "plain":
        classifier = TASKS[task][1](args.data, 0.1)
    else:
        trainer = trainer_of(task, network, args)
        trainer.restore("last")
        classifier = trainer.get_classifier()
    model = DefendedModel(classifier).eval()
    return InPrecision(model, model.device, resolve_precision("auto", model.device)).eval()


# ---- attacks --------------------------------------------------------------------------------------------------------


class FixedDraw(nn.Module):
    """A random model whose draw is the same in each pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        with seeded(0):
            return self.model(x)


@torch.no_grad()
def judged(model: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace) -> Tensor:
    """Share of the passes that are right, for each image."""
    x, passes = x.to(args.device), args.judgements if args.network in RANDOM else 1
    return torch.stack([(model(x).argmax(1).cpu() == y).float() for _ in range(passes)]).mean(0)


def votes_of(model: nn.Module, args: argparse.Namespace) -> int:
    """Votes whose gradients are averaged, so that they have --eot draws together."""
    passes = next(part.passes for part in model.modules() if isinstance(part, SoftVote))
    return ceil(args.eot / passes)


def made_on_plain(plain: nn.Module, data: Tensors, eps: int, args: argparse.Namespace) -> Tensor:
    """The attack that every network of a task shares, made once."""
    key = (args.task, args.steps, eps)
    if key not in args.shared:
        args.shared[key] = examples(plain, data, "clean", eps, args, eot=1)
    return args.shared[key]


def examples(target: nn.Module, data: Tensors, way: str, eps: int, args: argparse.Namespace, *, eot: int) -> Tensor:
    threat, made = ThreatModel("linf", eps / 255), []
    options: dict[str, Any] = {"steps": args.steps, "step_size": 2.5 * threat.eps / args.steps, "eot": eot}
    for begin in range(0, len(data[1]), args.batch):
        x, y = (part[begin : begin + args.batch].to(args.device) for part in data)
        with seeded(derive_seed(0, f"{way}-{eps}-{args.steps}-{begin}")):
            made.append(pgd(target, x, y, threat=threat, **options).cpu())
    return torch.cat(made)


def accuracy(way: str, own: nn.Module, plain: nn.Module, data: Arrays, eps: int, args: argparse.Namespace) -> Tensor:
    """Of each image, in [0, 1]."""
    alive, shares = ~torch.from_numpy(broken_before(way, eps, args)), torch.zeros(args.images)
    if not alive.any():
        return shares
    whole = tuple(torch.from_numpy(part[: args.images]) for part in data)
    x, y = whole[0][alive], whole[1][alive]
    if eps and way == "clean":
        x = made_on_plain(plain, whole, eps, args)[alive]
    elif eps:
        eot = votes_of(own, args) if args.network in RANDOM and way == "adaptive" else 1
        x = examples(FixedDraw(own).eval() if way == "fixed" else own, (x, y), way, eps, args, eot=eot)
    with seeded(derive_seed(0, f"judge-{way}-{eps}-{args.steps}")):
        batches = zip(x.split(args.batch), y.split(args.batch), strict=True)
        shares[alive] = torch.cat([judged(own, *batch, args) for batch in batches])
    return shares


def broken_before(way: str, eps: int, args: argparse.Namespace) -> np.ndarray:
    """Which images no vote got right at this radius or a smaller one, after as many iterations or fewer."""
    found = np.zeros(args.images, dtype=bool)
    for path in (args.out / "cells").glob(f"{args.task}-{args.network}-*.json"):
        cell = json.loads(path.read_text())
        smaller = cell["eps"] <= eps and cell["iterations"] <= args.steps
        if smaller and (not cell["eps"] or cell["way"] == way) and cell["images"] >= args.images:
            found |= np.array(cell["shares"][: args.images]) == 0
    return found


def cells_of(args: argparse.Namespace) -> list[tuple[str, str, str, int, int]]:
    """Task, network, way, iterations, ε; deterministic networks have no draw to fix, at ε = 0 there is one way."""
    found = []
    for task, network in product(args.tasks, args.networks):
        found.append((task, network, "adaptive", 0, 0))
        for way, steps, eps in product(args.ways, args.iterations, args.eps):
            needless = (network not in RANDOM and way == "fixed") or (network == "plain" and way == "clean")
            if not needless and eps:
                found.append((task, network, way, steps, eps))
    return found


def attack(args: argparse.Namespace) -> None:
    models: dict[tuple[str, str], nn.Module] = {}
    tests: dict[str, Arrays] = {}
    for task, network, way, steps, eps in cells_of(args):
        path = args.out / "cells" / f"{task}-{network}-{way}-pgd{steps}-eps{eps}.json"
        if path.exists():
            continue
        if task not in tests:
            tests[task] = TASKS[task][0](args.data, args.examples or TASKS[task][2])[1]
        for name in ("plain", network):
            if (task, name) not in models:
                models[task, name] = model_of(task, name, args)
        args.device = next(models[task, "plain"].parameters()).device
        args.task, args.network, args.steps, began = task, network, steps, perf_counter()
        shares = accuracy(way, models[task, network], models[task, "plain"], tests[task], eps, args)
        cell = {"task": task, "network": network, "way": way, "iterations": steps, "eps": eps, "images": len(shares)}
        cell |= {"accuracy": float(shares.mean()), "shares": shares.tolist(), "seconds": perf_counter() - began}
        votes = votes_of(models[task, network], args) if way == "adaptive" and network in RANDOM else 1
        cell |= {"eot": votes, "judgements": args.judgements if network in RANDOM else 1}
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(cell))
        print(f"{path.stem}: {cell['accuracy']:.1%} of {cell['images']}, {cell['seconds']:.0f} s", flush=True)


# ---- table and picture ----------------------------------------------------------------------------------------------

Curve = tuple[str, str, str, int]  # task, network, way, iterations


def curves_of(folder: Path) -> dict[Curve, dict[int, dict[str, Any]]]:
    cells = [json.loads(path.read_text()) for path in sorted((folder / "cells").glob("*.json"))]
    found: dict[Curve, dict[int, dict[str, Any]]] = {}
    for cell in cells:
        if cell["eps"]:
            found.setdefault((cell["task"], cell["network"], cell["way"], cell["iterations"]), {})[cell["eps"]] = cell
    for (task, network, _, _), points in found.items():
        points |= {c["eps"]: c for c in cells if not c["eps"] and (c["task"], c["network"]) == (task, network)}
    return dict(sorted(found.items(), key=lambda item: (item[0][0], NETWORKS.index(item[0][1]), *item[0][2:])))


def table(args: argparse.Namespace) -> None:
    curves = curves_of(args.out)
    radii = sorted({eps for points in curves.values() for eps in points})
    lines = ["| task | network | PGD | iterations | images | " + " | ".join(f"{e}/255" for e in radii) + " |"]
    lines.append("|---" * (5 + len(radii)) + "|")
    for (task, network, way, steps), points in curves.items():
        images = "–".join(str(n) for n in sorted({c["images"] for c in points.values()}))
        values = [f"{100 * points[e]['accuracy']:.1f}" if e in points else "" for e in radii]
        lines.append("| " + " | ".join([task, network, LABELS[way], str(steps), images, *values]) + " |")
    lines += ["", *survives(curves)]
    named = {" ".join(map(str, curve)): points for curve, points in curves.items()}
    plain = {name: {e: c["accuracy"] for e, c in sorted(points.items())} for name, points in named.items()}
    for name, text in (("summary.json", json.dumps(plain, indent=1)), ("summary.md", "\n".join(lines) + "\n")):
        with atomic_write(args.out / name) as temporary:
            temporary.write_text(text)
    picture(curves, args.out / "accuracy.png")
    print("\n".join(lines))


def survives(curves: dict[Curve, dict[int, dict[str, Any]]]) -> list[str]:
    """A sentence for each task and number of iterations: what is left at the largest radius of both attackers."""
    lines = []
    for (task, network, way, steps), points in curves.items():
        if network != "inn" or way != "adaptive":
            continue
        blind = {w: curves.get((task, "inn", w, steps), {}) for w in ("clean", "fixed")}
        tuned = curves.get((task, "tuned", "adaptive", steps), {})
        for eps in sorted(e for e in points if e):
            told = [f"{LABELS[w]} {100 * found[eps]['accuracy']:.1f} %" for w, found in blind.items() if eps in found]
            others = f" ({', '.join(told)})" if told else ""
            beside = f"; the tuned network keeps {100 * tuned[eps]['accuracy']:.1f} %" if eps in tuned else ""
            left = f"{100 * points[eps]['accuracy']:.1f} %"
            lines.append(f"- {task}, PGD-{steps}, {eps}/255: the adaptive attack leaves {left}{others}{beside}.")
    return lines


def picture(curves: dict[Curve, dict[int, dict[str, Any]]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = sorted({task for task, *_ in curves})
    figure = Figure(figsize=(6.4 * max(1, len(tasks)), 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    styles = {"clean": ":", "fixed": "--", "adaptive": "-"}
    axes = figure.subplots(1, max(1, len(tasks)), squeeze=False)[0]
    for axis, task in zip(axes, tasks, strict=False):
        for (of, network, way, steps), points in curves.items():
            if of != task:
                continue
            radii = sorted(points)
            marker, colour = {20: "o", 500: "s"}.get(steps, "^"), PALETTE[NETWORKS.index(network)]
            label = f"{network}, {LABELS[way]}, PGD-{steps}"
            values = [100 * points[e]["accuracy"] for e in radii]
            axis.plot(radii, values, styles[way], marker=marker, markersize=4, color=colour, label=label)
        axis.set(
            title=task,
            xlabel="ε · 255",
            ylabel="accuracy, %",
            ylim=(-2, 102),
            xscale="symlog",
            xlim=(-0.5, 110),
            xticks=EPS,
        )
        axis.set_xticklabels(EPS)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize="x-small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    training, attacking, tabling = (verbs.add_parser(name) for name in ("train", "attack", "table"))
    for verb, call in ((training, train), (attacking, attack), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    for verb in (training, attacking):
        verb.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
        verb.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
        verb.add_argument(
            "--data", type=Path, default=os.environ.get("ART_EXT_DATA"), required="ART_EXT_DATA" not in os.environ
        )
        verb.add_argument("--backgrounds", type=Path, help="folder of photographs; default DATA/backgrounds")
        verb.add_argument("--snapshots", type=int, default=4)
        verb.add_argument("--examples", type=int, help="images to train on; default 600 photographs, all of CIFAR-10")
        verb.add_argument("--lr", type=float)
    training.add_argument("--epochs", type=int, default=4)
    attacking.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    attacking.add_argument("--iterations", nargs="+", type=int, default=[20, 500])
    attacking.add_argument("--eps", nargs="+", type=int, default=list(EPS), help="of 255")
    attacking.add_argument("--images", type=int, default=100)
    attacking.add_argument("--batch", type=int, default=50)
    attacking.add_argument("--eot", type=int, default=24, help="draws that a gradient averages, at least")
    attacking.add_argument("--judgements", type=int, default=5)
    args = parser.parse_args()
    args.shared = {}
    args.call(args)


if __name__ == "__main__":
    main()
