"""A&P on a small vision transformer on CIFAR-10, beside a warm-up of ε, PGD-AT and PIAT; best and final epoch.

A ViT of 4×4 patches, four blocks and width 128, trained from its random weights (or from --checkpoint) with PGD-5 on
5000 augmented images. A&P is a curriculum on the strength of the attack, so the row to hold it against is the linear
warm-up of ε over as many epochs. The best epoch is chosen on 500 other training images; best and last meet PGD-20 and
margin-PGD-20 on 1000 test images.

    python benchmarks/vit.py run --out DIR                           # every cell that DIR lacks
    python benchmarks/vit.py run --out DIR --methods ap --seeds 1
    python benchmarks/vit.py table --out DIR                         # summary.json, summary.md, curves.png

CIFAR-10 is read from the folder ART_EXT_DATA. A cell that was stopped goes on where it stood. Cells are independent:
several commands may share DIR.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from robust_overfitting import averaged_history, shown, spread

from art_ext import evaluate
from art_ext.engine import plot_histories
from art_ext.files import atomic_write
from art_ext.recipes import Recipe, load_run, recipe_of, run_recipe
from art_ext.recipes.build import make_threat

ATTACKS = ["pgd-20", "margin-pgd-20"]
METHODS: dict[str, tuple[str, str | None, str | None]] = {  # label, technique, averaging
    "pgd-at": ("PGD-AT", None, None),
    "eps-warm-up": ("PGD-AT, ε warm-up", "eps-warm-up", None),
    "ard": ("PGD-AT + ARD", "ard", None),
    "prm": ("PGD-AT + PRM", "prm", None),
    "ap": ("PGD-AT + A&P", "a&p", None),
    "piat": ("PIAT", None, "piat"),
    "piat-ap": ("PIAT + A&P", "a&p", "piat"),
}
DEFAULT = ["pgd-at", "eps-warm-up", "ap", "piat-ap"]


def recipe_for(method: str, seed: int, args: argparse.Namespace) -> Recipe:
    """Each method is the same training but for its technique and its averaging."""
    _, technique, averaging = METHODS[method]
    warm_up = args.warm_up * args.epochs
    size = {"depth": args.depth, "embed_dim": args.dim, "num_heads": max(1, args.dim // 64)}
    return recipe_of(
        {
            "model": {
                "name": args.model,
                "options": {"patch_size": 4, **size},
                "checkpoint": args.checkpoint,
            },
            "data": {
                "name": "cifar10",
                "train_examples": args.train + args.held_out,
                "validation_split": args.held_out / (args.train + args.held_out),
                "test_examples": args.test,
            },
            "threat": {"eps": 8 / 255},
            "trainer": {
                "loss": "pgd-at",
                "averaging": averaging,
                "techniques": [] if technique is None else [{"name": technique, "warm_up": warm_up}],
                "steps": args.steps,
                "step_size": 2 / 255 if args.steps >= 5 else None,
                "batch_size": 128,
                "nb_epochs": args.epochs,
                "augment": "crop-flip",
                "grad_clip": 1.0,
                "seed": seed,
                "progress": args.progress,
            },
            "optimizer": {"name": "adamw", "lr": args.lr, "weight_decay": 0.05, "filter_bias_and_bn": True},
            "schedule": {"name": "cosine", "warmup": 0.05},
        }
    )


def run_cells(args: argparse.Namespace) -> None:
    for seed in args.seeds:
        for method in args.methods:
            path = args.out / f"{method}-seed{seed}.json"
            if path.exists():
                continue
            folder = args.out / "training" / f"{method}-seed{seed}"
            done = run_recipe(recipe_for(method, seed, args), folder, resume=True)
            cell = {"method": method, "seed": seed, "epochs": done.history.rows, **judged(folder, seed)}
            with atomic_write(path) as temporary:
                temporary.write_text(json.dumps(cell, indent=1))


def judged(folder: Path, seed: int) -> dict[str, Any]:
    """Reports on the test images, of the best epoch on the held-out images and of the last."""
    found = {}
    for which in ("best", "last"):
        recipe, data, classifier = load_run(folder, which)
        options: dict[str, Any] = {"threat": make_threat(recipe), "suite": ATTACKS, "seed": seed, "progress": False}
        found[which] = json.loads(evaluate(classifier, data.x_test, data.y_test, **options).to_json())
    return found


def figures(cell: dict[str, Any]) -> dict[str, float]:
    """Accuracies in percent, the difference between best and last epoch, and seconds of an epoch."""
    row = {}
    for which in ("best", "last"):
        report = cell[which]
        row[f"clean {which}"] = 100 * report["clean_accuracy"]
        row[f"PGD-20 {which}"] = 100 * report["attacks"]["PGD-20"]["accuracy"]
        row[f"worst {which}"] = 100 * report["robust_accuracy"]
    row["difference"] = row["worst best"] - row["worst last"]
    row["epoch"] = float(max(cell["epochs"], key=lambda r: r["robust"])["epoch"])
    row["s / epoch"] = fmean(r["seconds"] for r in cell["epochs"])
    return row


def table(args: argparse.Namespace) -> None:
    cells = {m: [json.loads(p.read_text()) for p in sorted(args.out.glob(f"{m}-seed*.json"))] for m in METHODS}
    rows = {m: [figures(cell) for cell in found] for m, found in cells.items() if found}
    if not rows:
        raise SystemExit(f"no cell in {args.out} yet: run it first")
    summary = {m: {name: spread([row[name] for row in found]) for name in found[0]} for m, found in rows.items()}
    with atomic_write(args.out / "summary.json") as temporary:
        temporary.write_text(json.dumps(summary, indent=1))
    columns = list(next(iter(summary.values())))
    lines = ["| method | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for method, figure in summary.items():
        values = [shown(figure[name]) for name in columns]
        lines.append(f"| {METHODS[method][0]} | {len(rows[method])} | " + " | ".join(values) + " |")
    with atomic_write(args.out / "summary.md") as temporary:
        temporary.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))
    plot_histories({METHODS[m][0]: averaged_history(cells[m]) for m in rows}, args.out / "curves.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    running, tabling = verbs.add_parser("run"), verbs.add_parser("table")
    for verb in (running, tabling):
        verb.add_argument("--out", type=Path, required=True)
    running.add_argument("--methods", nargs="+", choices=list(METHODS), default=DEFAULT)
    running.add_argument("--seeds", nargs="+", type=int, default=[0])
    running.add_argument("--model", default="vit_tiny_patch16_224", help="a ViT or DeiT of timm")
    running.add_argument("--depth", type=int, default=4)
    running.add_argument("--dim", type=int, default=128)
    running.add_argument("--checkpoint", default=None, help="a file of weights of that depth and width, of 10 classes")
    running.add_argument("--train", type=int, default=5000)
    running.add_argument("--held-out", type=int, default=500)
    running.add_argument("--test", type=int, default=1000)
    running.add_argument("--epochs", type=int, default=32)
    running.add_argument("--warm-up", type=float, default=0.25, help="share of the epochs, 10 of 40 in the paper")
    running.add_argument("--steps", type=int, default=5)
    running.add_argument("--lr", type=float, default=1e-3)
    running.add_argument("--progress", action="store_true")
    running.set_defaults(call=run_cells)
    tabling.set_defaults(call=table)
    args = parser.parse_args()
    args.call(args)


if __name__ == "__main__":
    main()
