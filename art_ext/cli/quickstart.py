"""``art-ext quickstart``: PIAT+NMSE beside ART's adversarial training, on the images that ship with the package."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.trainer import AdversarialTrainerMadryPGD
from art.estimators.classification import PyTorchClassifier

from art_ext.adapters.timm import timm_classifier
from art_ext.adapters.torchattacks import TorchattacksAttack
from art_ext.data import load
from art_ext.engine import History, plot_histories
from art_ext.engine.checkpoint import prepare_folder
from art_ext.engine.validation import Validation
from art_ext.evaluation import RobustnessReport, evaluate
from art_ext.evaluation.plots import bar_chart
from art_ext.files import atomic_write
from art_ext.isolation import seeded
from art_ext.threat import ThreatModel
from art_ext.trainers import PIATTrainer, RobustTrainer

THREAT = ThreatModel("linf", 0.1)
STEPS, STEP_SIZE, BATCH = 7, 0.025, 128
HELD_OUT = 500
Arrays = tuple[np.ndarray, np.ndarray]
Trained = tuple[float, History]


@dataclass(frozen=True)
class Lesson:
    """What every method is given: the same images, the same held-out images, epochs and seed."""

    train: Arrays
    held_out: Arrays
    epochs: int
    seed: int


def quickstart(
    output: str = "art-ext-quickstart", epochs: int = 6, images: int = 500, seed: int = 0, progress: bool = True
) -> None:
    """Train four ways on Fashion-MNIST, attack each with ART, torchattacks and our PGD, compare.

    Writes report.json, robustness.png and learning_curves.png; a few minutes on two CPU cores.

    Args:
        output: folder for the results.
        epochs: of each training.
        images: test images to attack, at most 1000.
        seed: of weights, data order and attacks.
        progress: show progress bars.
    """
    folder = prepare_folder(output)
    x, y, x_test, y_test = load("fashion-mnist-5k")
    order = np.random.default_rng(seed).permutation(len(x))
    held, kept = order[:HELD_OUT], order[HELD_OUT:]
    lesson = Lesson((x[kept], y[kept]), (x[held], y[held]), epochs, seed)
    test = np.random.default_rng(seed).permutation(len(x_test))[:images]
    reports: dict[str, RobustnessReport] = {}
    histories: dict[str, History] = {}
    seconds: dict[str, float] = {}
    for name, train in METHODS.items():
        print(f"training: {name}", flush=True)
        classifier = _classifier(seed)
        seconds[name], histories[name] = train(classifier, lesson, progress)
        suite = _suite(classifier, seed)
        reports[name] = evaluate(
            classifier, x_test[test], y_test[test], threat=THREAT, suite=suite, seed=seed, progress=progress
        )
    _write(folder, reports, histories, seconds)
    print(_table(reports, seconds))
    print(f"\n{THREAT}, {images} test images, {epochs} epochs of PGD-{STEPS}, seed {seed}; a few epochs on 4500 images")
    print(f"show how the methods compare here, not what they reach. Written: {folder}/report.json and two pictures")


def _classifier(seed: int) -> PyTorchClassifier:
    with seeded(seed):
        return timm_classifier(
            "small_cnn",
            num_classes=10,
            input_shape=(1, 28, 28),
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3),
        )


def _suite(classifier: PyTorchClassifier, seed: int) -> list[Any]:
    options: dict[str, Any] = {"eps": THREAT.eps, "eps_step": STEP_SIZE, "max_iter": 20, "num_random_init": 1}
    art = ProjectedGradientDescent(classifier, batch_size=BATCH, verbose=False, **options)
    torch_pgd = TorchattacksAttack("PGD", estimator=classifier, threat=THREAT, alpha=STEP_SIZE, steps=20, seed=seed)
    torch_cw = TorchattacksAttack("CW", estimator=classifier, threat=THREAT, steps=50, seed=seed)
    return [("ART PGD-20", art), ("torchattacks PGD-20", torch_pgd), ("torchattacks CW", torch_cw), "pgd-20"]


def _epoch_by_epoch(
    fit: Callable[[np.ndarray, np.ndarray], None], classifier: PyTorchClassifier, lesson: Lesson
) -> Trained:
    """Train with ART, whose trainers keep no history; the time is that of the training alone."""
    x, y = (torch.from_numpy(a).to(classifier.device) for a in lesson.held_out)
    validation = Validation(x, y, THREAT, 10, BATCH, lesson.seed)
    history, total = History(), 0.0
    with seeded(lesson.seed):
        for epoch in range(1, lesson.epochs + 1):
            began = perf_counter()
            with redirect_stderr(StringIO()):  # ART shows bars of its own for every single epoch
                fit(*lesson.train)
            total += perf_counter() - began
            clean, robust = validation.accuracies(classifier.model)
            history.append({"epoch": epoch, "clean": clean, "robust": robust})
    return total, history


def _standard(classifier: PyTorchClassifier, lesson: Lesson, progress: bool) -> Trained:
    return _epoch_by_epoch(lambda x, y: classifier.fit(x, y, batch_size=BATCH, nb_epochs=1), classifier, lesson)


def _art(classifier: PyTorchClassifier, lesson: Lesson, progress: bool) -> Trained:
    trainer = AdversarialTrainerMadryPGD(
        classifier, nb_epochs=1, batch_size=BATCH, eps=THREAT.eps, eps_step=STEP_SIZE, max_iter=STEPS
    )
    return _epoch_by_epoch(lambda x, y: trainer.fit(x, y), classifier, lesson)


def _ours(trainer: type[RobustTrainer]) -> Callable[[PyTorchClassifier, Lesson, bool], Trained]:
    def train(classifier: PyTorchClassifier, lesson: Lesson, progress: bool) -> Trained:
        made = trainer(classifier, threat=THREAT, steps=STEPS, step_size=STEP_SIZE, seed=lesson.seed, progress=progress)
        made.fit(*lesson.train, validation_data=lesson.held_out, batch_size=BATCH, nb_epochs=lesson.epochs)
        return sum(made.history.column("seconds")), made.history

    return train


METHODS: dict[str, Callable[[PyTorchClassifier, Lesson, bool], Trained]] = {
    "standard": _standard,
    "ART Madry PGD": _art,
    "art_ext PGD-AT": _ours(RobustTrainer),
    "art_ext PIAT+NMSE": _ours(PIATTrainer),
}


def _write(
    folder: Path, reports: dict[str, RobustnessReport], histories: dict[str, History], seconds: dict[str, float]
) -> None:
    result = {
        name: {
            "training_seconds": seconds[name],
            "history": histories[name].rows,
            "report": json.loads(report.to_json()),
        }
        for name, report in reports.items()
    }
    with atomic_write(folder / "report.json") as temporary:
        temporary.write_text(json.dumps(result, indent=1))
    bar_chart(reports, folder / "robustness.png")
    plot_histories(histories, folder / "learning_curves.png")


def _table(reports: dict[str, RobustnessReport], seconds: dict[str, float]) -> str:
    attacks = list(next(iter(reports.values())).attacks)
    head = ["training", "seconds", "clean", *attacks, "worst case"]
    rows = [head]
    for name, report in reports.items():
        accuracies = [report.clean_accuracy, *(report.attacks[a].accuracy for a in attacks), report.robust_accuracy]
        rows.append([name, f"{seconds[name]:.1f}", *("failed" if a is None else f"{a:.1%}" for a in accuracies)])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows)
