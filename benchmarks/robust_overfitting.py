"""Robust overfitting on CIFAR-10 in small: PGD-AT, NMSE, PIAT, PIAT+NMSE and EMA, best and final epoch.

2500 training images without augmentation, a pre-activation ResNet of width 16 (stages 16/32/64, five blocks each),
PGD-5, 50 epochs: the regime in which robust overfitting shows on two CPU cores. The best epoch is chosen on 500 other
training images; both checkpoints are then attacked with FGSM, PGD-20 and
margin-PGD-20 on the first 1000 test images.

    python benchmarks/robust_overfitting.py run --out DIR            # every cell that DIR lacks
    python benchmarks/robust_overfitting.py run --out DIR --methods piat --seeds 1
    python benchmarks/robust_overfitting.py table --out DIR          # summary.json, summary.md, curves.png

CIFAR-10 is read from the folder ART_EXT_DATA or ``--data``. Cells are independent: several commands may share DIR.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.averaging import EMA, ParameterInterpolation, snapshot
from art_ext.data import load
from art_ext.engine import History, plot_histories
from art_ext.engine.precision import InPrecision, resolve_precision
from art_ext.engine.validation import Validation
from art_ext.files import atomic_write

Arrays = tuple[np.ndarray, ...]
Weights = dict[str, torch.Tensor]
THREAT = ThreatModel("linf", 8 / 255)
ATTACKS = ("fgsm", "pgd-20", "margin-pgd-20")
TRAIN, HELD_OUT, TEST = 2500, 500, 1000
LABELS = {"pgd-at": "PGD-AT", "nmse": "NMSE", "ema": "PGD-AT + EMA", "piat": "PIAT", "piat-nmse": "PIAT + NMSE"}
RUNS = {"pgd-at": ("pgd-at", "ema"), "nmse": ("nmse",), "piat": ("piat",), "piat-nmse": ("piat-nmse",)}
LOSS = {"pgd-at": "pgd-at", "nmse": "nmse", "piat": "pgd-at", "piat-nmse": "nmse"}


class WatchedEMA(EMA):
    """An EMA that is only watched: the trained network stays what is validated and returned.

    The shadow never feeds back, so one run serves both rows, PGD-AT and PGD-AT + EMA.
    """

    def start(self, network: nn.Module) -> None:
        super().start(network)
        self.epochs: list[Weights] = []

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Any) -> dict[str, float]:
        self.epochs.append(snapshot(super().averaged()))
        return {}

    def averaged(self) -> nn.Module:
        return self.network


@dataclass(frozen=True)
class Kept:
    """Figures of the epochs of a run, and the best (on the held-out images) and the final weights."""

    rows: list[dict[str, float]]
    best: Weights
    final: Weights


def classifier(seed: int) -> PyTorchClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm_classifier(
            "preact_resnet_cifar",
            width=16,
            blocks=5,
            num_classes=10,
            input_shape=(3, 32, 32),
            optimizer=partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=5e-4),
        )


def train(run: str, seed: int, epochs: int, data: Arrays, compiled: bool) -> tuple[Any, dict[str, Kept]]:
    x, y = data[:2]
    target = classifier(seed)
    averaging = {"pgd-at": WatchedEMA(0.999), "nmse": None}.get(run, ParameterInterpolation())
    trainer = RobustTrainer(
        target,
        threat=THREAT,
        loss=LOSS[run],
        steps=5,
        step_size=2 / 255,
        averaging=averaging,
        seed=seed,
        compile=compiled,
    )
    milestones = [round(0.6 * epochs), round(0.85 * epochs)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(target.optimizer, milestones)
    held_out = (x[TRAIN : TRAIN + HELD_OUT], y[TRAIN : TRAIN + HELD_OUT])
    trainer.fit(x[:TRAIN], y[:TRAIN], validation_data=held_out, nb_epochs=epochs, scheduler=scheduler)
    assert trainer.best is not None
    kept = {run: Kept(trainer.history.rows, trainer.best, snapshot(target.model))}
    if isinstance(averaging, WatchedEMA):
        kept["ema"] = judge_epochs(target, averaging.epochs, held_out, seed)
    return target, kept


def judge_epochs(target: PyTorchClassifier, epochs: list[Weights], held_out: Arrays, seed: int) -> Kept:
    x, y = (torch.from_numpy(a) for a in held_out)
    validation, history = Validation(x, y, THREAT, 10, 128, seed), History()
    judged = InPrecision(target.model, x.device, resolve_precision("auto", x.device))  # as the trainer judges its own
    for epoch, weights in enumerate(epochs, 1):
        target.model.load_state_dict(weights)
        clean, robust = validation.accuracies(judged)
        history.append({"epoch": epoch, "clean": clean, "robust": robust})
    best = history.best("robust")
    assert best is not None
    return Kept(history.rows, epochs[int(best["epoch"]) - 1], epochs[-1])


def cell(method: str, seed: int, target: PyTorchClassifier, kept: Kept, data: Arrays) -> dict[str, Any]:
    result: dict[str, Any] = {"method": method, "seed": seed, "epochs": kept.rows}
    for name, weights in (("best", kept.best), ("final", kept.final)):
        target.model.load_state_dict(weights)
        report = evaluate(
            target, data[2][:TEST], data[3][:TEST], threat=THREAT, suite=list(ATTACKS), seed=seed, progress=False
        )
        result[name] = json.loads(report.to_json())
    return result


def run_cells(args: argparse.Namespace) -> None:
    data = load("cifar10", args.data)
    for seed in args.seeds:
        for run in args.methods:
            missing = [m for m in RUNS[run] if not path_of(args.out, m, seed).exists()]
            if not missing:
                continue
            target, kept = train(run, seed, args.epochs, data, args.compile)
            for method in missing:
                with atomic_write(path_of(args.out, method, seed)) as temporary:
                    temporary.write_text(json.dumps(cell(method, seed, target, kept[method], data), indent=1))


def path_of(folder: Path, method: str, seed: int) -> Path:
    return folder / f"{method}-seed{seed}.json"


def figures(result: dict[str, Any]) -> dict[str, float]:
    """Accuracies in percent of one cell: clean and PGD-20 of both checkpoints, the worst case, the difference."""
    row = {}
    for name in ("best", "final"):
        report = result[name]
        row[f"clean {name}"] = 100 * report["clean_accuracy"]
        row[f"PGD-20 {name}"] = 100 * report["attacks"]["PGD-20"]["accuracy"]
        row[f"worst {name}"] = 100 * report["robust_accuracy"]
    row["difference"] = row["worst best"] - row["worst final"]
    return row


def table(args: argparse.Namespace) -> None:
    cells = {m: [json.loads(p.read_text()) for p in sorted(args.out.glob(f"{m}-seed*.json"))] for m in LABELS}
    rows = {m: [figures(c) for c in found] for m, found in cells.items() if found}
    summary = {m: summarise(found) for m, found in rows.items()}
    with atomic_write(args.out / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    columns = list(next(iter(rows.values()))[0])
    lines = ["| method | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for method, figure in summary.items():
        values = [shown(figure[c]) for c in columns]
        lines.append(f"| {LABELS[method]} | {figure['seeds']} | " + " | ".join(values) + " |")
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot_histories({LABELS[m]: averaged_history(found) for m, found in cells.items() if found}, args.out / "curves.png")


def summarise(rows: list[dict[str, float]]) -> dict[str, Any]:
    return {"seeds": len(rows)} | {name: spread([row[name] for row in rows]) for name in rows[0]}


def spread(values: list[float]) -> dict[str, float | None]:
    return {"mean": fmean(values), "std": stdev(values) if len(values) > 1 else None}


def shown(figure: dict[str, float | None]) -> str:
    """One seed has no spread."""
    return f"{figure['mean']:.1f}" + ("" if figure["std"] is None else f" ± {figure['std']:.1f}")


def averaged_history(cells: list[dict[str, Any]]) -> History:
    history = History()
    for rows in zip(*(c["epochs"] for c in cells), strict=True):
        history.append({k: fmean(r[k] for r in rows) for k in rows[0]})
    return history


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    for verb in (running, tabling):
        verb.add_argument("--out", type=Path, required=True)
    running.add_argument("--methods", nargs="+", choices=list(RUNS), default=list(RUNS))
    running.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    running.add_argument("--epochs", type=int, default=50)
    running.add_argument("--data", default=None, help="folder of data sets (default: ART_EXT_DATA)")
    running.add_argument("--compile", action="store_true", help="torch.compile: faster, other rounding")
    running.set_defaults(call=run_cells)
    tabling.set_defaults(call=table)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
