"""The tables of the adversarial-training report: what to train with, how large, and how much noise.

    norms      training by ℓ∞ PGD, ℓ2 PGD, FGSM, one of the two PGDs at random (MAT-Rand), the worse of them (MAT-Max)
    noisenet   ResNet-20 without noise on its weights, and with noise per layer, channel and element (PNI)
    capacity   BasicNet, ResNet-20, VGG-11, ResNet-18 and one a quarter wider
    injection  BasicNet and ResNet-18 without noise at its input, and with noise in training and at inference

Columns: natural, ℓ∞ PGD (ε = 0.03), ℓ2 PGD (ε = 0.83), ℓ∞ FGSM; of a network with noise, once with gradients of one
draw and once averaged over ``--eot``. Success against noise is judged by 20 fresh draws. Judged is the last epoch.

    python benchmarks/report_tables.py run --out DIR [--tables …] [--train 10000] [--epochs 15] [--width 16]
    python benchmarks/report_tables.py table --out DIR      # summary.md

``--width 64 --epochs 50`` without ``--train`` is the size of the report. CIFAR-10 is read from the folder ART_EXT_DATA
or ``--data``. A network that is trained, and a cell that is done, are not done again; tables share networks.
"""

from __future__ import annotations

import argparse
import json
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier

from art_ext import NoiseInjection, RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.attacks import MixedAdversaries, fgsm
from art_ext.data import load
from art_ext.files import atomic_write
from art_ext.losses import get_loss

LINF, L2 = ThreatModel("linf", 0.03), ThreatModel("l2", 0.83)
BOTH = "ℓ∞ and ℓ2 PGD"
ATTACKS = {"ℓ∞ PGD": (LINF, "pgd-20"), "ℓ2 PGD": (L2, "pgd-20"), "ℓ∞ FGSM": (LINF, "fgsm")}
SCALE = 0.03  # of the noise at the input, our decision: the report does not tell

TRAININGS = ("linf", "l2", "fgsm", "mat-rand", "mat-max")


def training(name: str, steps: int) -> dict[str, Any]:
    """Arguments of RobustTrainer, whose step size is the report's: 0.0075 for ten steps at 0.03."""
    if name.startswith("mat-"):
        return {"threat": LINF, "attack": MixedAdversaries((LINF, L2), choose=name.removeprefix("mat-"), steps=steps)}
    return {
        "linf": {"threat": LINF, "steps": steps},
        "l2": {"threat": L2, "steps": steps},
        "fgsm": {"threat": LINF, "attack": partial(fgsm, threat=LINF)},
    }[name]


@dataclass(frozen=True)
class Network:
    """A network and its training.

    Args:
        architecture: see `architecture`.
        training: see `training`.
        halves: ½ CE(x) + ½ CE(x'), else CE(x').
        weights: granularity of the noise on them, "" for none.
        noisy: noise at the input, in training and at inference.
    """

    architecture: str
    training: str = "linf"
    halves: bool = False
    weights: str = ""
    noisy: bool = False

    @property
    def key(self) -> str:
        words = (self.architecture, self.training, "halves" * self.halves, self.weights, "noisy" * self.noisy)
        return "-".join(filter(None, words))

    @property
    def random(self) -> bool:
        return bool(self.weights or self.noisy)


WIDE = "wide ResNet-18"
TOLD = dict(zip(TRAININGS, ("ℓ∞", "ℓ2", "FGSM", "MAT-Rand", "MAT-Max"), strict=True))
TABLES: dict[str, dict[str, Network]] = {
    "norms": {
        **{f"BasicNet, {told}": Network("basicnet", name) for name, told in TOLD.items()},
        **{f"{WIDE}, {told}": Network("wide", name) for name, told in TOLD.items()},
    },
    "noisenet": {
        "ResNet-20": Network("resnet20", halves=True),
        **{f"NoiseNet-20, {g}": Network("resnet20", halves=True, weights=g) for g in ("layer", "channel", "element")},
    },
    "capacity": {
        "BasicNet": Network("basicnet"),
        "ResNet-20": Network("resnet20"),
        "VGG-11": Network("vgg11"),
        WIDE: Network("wide"),
        "wider ResNet-18": Network("wider"),
    },
    "injection": {
        "BasicNet": Network("basicnet"),
        "BasicNet, noise": Network("basicnet", noisy=True),
        WIDE: Network("wide"),
        f"{WIDE}, noise": Network("wide", noisy=True),
    },
}


def architecture(name: str, width: int) -> tuple[str, dict[str, Any]]:
    """Name and options for timm; the report's wide networks at ``width`` 64."""
    stages = (1, 2, 4, 8)
    return {
        "basicnet": ("basicnet_cifar", {}),
        "resnet20": ("resnet20_cifar", {}),
        "vgg11": ("vgg11_cifar", {"width": width}),
        "wide": ("resnet18", {"channels": tuple(width * k for k in stages)}),
        "wider": ("resnet18", {"channels": tuple(width * 5 // 4 * k for k in stages)}),
    }[name]


def classifier_of(network: Network, args: argparse.Namespace) -> PyTorchClassifier:
    name, options = architecture(network.architecture, args.width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        classifier = timm_classifier(
            name,
            num_classes=10,
            input_shape=(3, 32, 32),
            parametric_noise=network.weights or None,
            optimizer=partial(torch.optim.SGD, lr=args.lr, momentum=0.9, weight_decay=5e-4),
            **options,
        )
    if network.noisy:
        classifier.set_params(preprocessing_defences=[NoiseInjection(scale=SCALE, apply_fit=True)])
    return classifier


def trained(network: Network, args: argparse.Namespace) -> PyTorchClassifier:
    """The classifier, trained now or before."""
    folder, classifier = args.out / "training" / network.key, classifier_of(network, args)
    loss = get_loss("alp", weight=0) if network.halves else "pgd-at"
    options = {"checkpoint_dir": folder, "augment": "crop-flip", "seed": args.seed}
    trainer = RobustTrainer(classifier, loss=loss, **training(network.training, args.steps), **options)
    if not (folder / "done").exists():
        x, y, *_ = load("cifar10", args.data)
        milestones = [round(0.6 * args.epochs), round(0.8 * args.epochs)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(trainer.optimizer, milestones)
        with suppress(FileNotFoundError):
            trainer.resume()
        print(f"training {network.key}", flush=True)
        trainer.fit(
            x[: args.train], y[: args.train], nb_epochs=args.epochs, batch_size=args.batch_size, scheduler=schedule
        )
        (folder / "done").write_text("")
    trainer.restore("last")
    return classifier


def run(args: argparse.Namespace) -> None:
    _, _, x_test, y_test = load("cifar10", args.data)
    x_test, y_test = x_test[: args.images], y_test[: args.images]
    networks = dict.fromkeys(network for table in args.tables for network in TABLES[table].values())
    for network in networks:
        classifier = None
        for (column, (threat, attack)), draws in product(ATTACKS.items(), (1, args.eot) if network.random else (1,)):
            path = args.out / "cells" / f"{network.key} - {column} - {draws}.json"
            if path.exists():
                continue
            classifier = classifier or trained(network, args)
            report = evaluate(
                classifier, x_test, y_test, threat=threat, suite=[attack], eot=draws, seed=args.seed, indicators=False
            )
            size = sum(p.numel() for p in classifier.model.parameters())
            told = {"parameters": size, "epochs": args.epochs, "steps": args.steps, "train": args.train}
            cell = {
                "network": network.key,
                "column": column,
                "eot": draws,
                **told,
                "report": json.loads(report.to_json()),
            }
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(cell))


# ---- tables ---------------------------------------------------------------------------------------------------------

Cells = dict[tuple[str, str, int], dict[str, Any]]


def table(args: argparse.Namespace) -> None:
    cells = [json.loads(path.read_text()) for path in sorted((args.out / "cells").glob("*.json"))]
    found: Cells = {(cell["network"], cell["column"], cell["eot"]): cell for cell in cells}
    draws = max((cell["eot"] for cell in cells), default=1)
    lines = [line for name, rows in TABLES.items() for line in lines_of(name, rows, found, draws)]
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def lines_of(name: str, rows: dict[str, Network], found: Cells, draws: int) -> list[str]:
    there = {label: network for label, network in rows.items() if any(key[0] == network.key for key in found)}
    if not there:
        return []
    random = any(network.random for network in there.values())
    columns = [(column, n) for n in ((1, draws) if random and draws > 1 else (1,)) for column in ATTACKS]
    head = [column if n == 1 else f"{column}, {n} draws" for column, n in columns]
    if name == "norms":
        head.append(BOTH)
    lines = [
        f"| {name} | parameters | epochs | images | natural | {' | '.join(head)} |",
        "|---" * (5 + len(head)) + "|",
    ]
    for label, network in there.items():
        # without noise there is nothing to average: the same figure in both
        keys = [(network.key, column, n if network.random else 1) for column, n in columns]
        of_network = [found[key] for key in found if key[0] == network.key]
        first = of_network[0]
        facts = [f"{first['parameters'] / 1e6:.2f} M", first["epochs"], len(first["report"]["survivors"])]
        figures = [percent(found[key], "robust_accuracy") if key in found else "" for key in keys]
        if name == "norms":
            figures.append(withstands_both(of_network))
        lines.append(f"| {' | '.join(map(str, [label, *facts, percent(first, 'clean_accuracy'), *figures]))} |")
    return [*lines, ""]


def withstands_both(cells: list[dict[str, Any]]) -> str:
    """The share of images that no PGD, ℓ∞ or ℓ2, misleads."""
    held = [cell["report"]["survivors"] for cell in cells if cell["column"] in ("ℓ∞ PGD", "ℓ2 PGD")]
    return f"{100 * fmean(map(all, zip(*held, strict=True))):.1f}" if len(held) == 2 else ""


def percent(cell: dict[str, Any], figure: str) -> str:
    return f"{100 * cell['report'][figure]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    for verb, call in ((running, run), (tabling, table)):
        verb.add_argument("--out", type=Path, required=True)
        verb.set_defaults(call=call)
    running.add_argument("--tables", nargs="+", choices=list(TABLES), default=list(TABLES))
    running.add_argument("--data", default=None, help="folder of data sets (default: ART_EXT_DATA)")
    running.add_argument("--train", type=int, default=None, help="training images (default: all)")
    running.add_argument("--images", type=int, default=1000, help="test images")
    running.add_argument("--epochs", type=int, default=15, help="the report: 50")
    running.add_argument("--batch-size", type=int, default=128, help="in training")
    running.add_argument("--width", type=int, default=16, help="of VGG-11 and the ResNet-18s; the report: 64")
    running.add_argument("--lr", type=float, default=0.01, help="divided by 10 at 60 and 80 %% of the epochs")
    running.add_argument("--steps", type=int, default=10, help="of PGD in training")
    running.add_argument("--eot", type=int, default=20)
    running.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
