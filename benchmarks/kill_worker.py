"""The process that `killing.py` kills: a small training or evaluation that goes on from what its folder holds.

    python benchmarks/kill_worker.py train DIR --variant piat [--scale 1]
    python benchmarks/kill_worker.py evaluate DIR --weights FILE [--scale 1]

DIR/run is the training's ``checkpoint_dir`` or the evaluation's ``resume``. DIR/batches.jsonl gets a line for every
batch that is trained on, with a hash of its adversarial examples. DIR/outcome.json is written at the very end.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import load_file
from torch import Tensor, nn

from art_ext import RobustTrainer, ThreatModel, evaluate
from art_ext.data import load
from art_ext.files import atomic_write
from art_ext.losses import Loss, get_loss

THREAT = ThreatModel("linf", 0.05)
# Between them: every averaging, both kinds of state an optimizer has, both units of schedulers.
VARIANTS: dict[str, dict[str, Any]] = {
    "piat": {"loss": "nmse", "averaging": "piat"},
    "ema": {"loss": "trades", "averaging": "ema"},
    "swa": {"loss": "mart", "averaging": "swa"},
}
TIMES = ("seconds", "images_per_second")


def network() -> nn.Module:
    """Convolutions, BatchNorm and dropout: buffers to restore, and draws from the global generator."""
    torch.manual_seed(0)
    blocks = [nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()]
    blocks += [nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Dropout(0.2), nn.Linear(32 * 49, 10))


def optimizer_of(variant: str, net: nn.Module, epochs: int) -> tuple[torch.optim.Optimizer, Any]:
    """The optimizer and its scheduler."""
    if variant == "swa":
        adam = torch.optim.Adam(net.parameters(), lr=2e-3)
        return adam, torch.optim.lr_scheduler.StepLR(adam, 2, 0.5)
    sgd = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9, weight_decay=5e-4)
    return sgd, torch.optim.lr_scheduler.CosineAnnealingLR(sgd, epochs)


def logged(loss: Loss, path: Path) -> Loss:
    """The same loss, which writes a line for each batch it is asked for."""
    kind = type(loss)

    def compute(self: Loss, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Any:
        note(path, {"batch": digest([x_adv, y])})
        return kind.compute(self, model, x, x_adv, y, progress=progress)

    watched: Loss = type(kind.__name__, (kind,), {"compute": compute})()
    return watched


def train(place: Path, variant: str, scale: float) -> dict[str, Any]:
    images, labels, x_test, _ = load("fashion-mnist-5k")
    step, epochs = round(2.5 / scale), max(3, round(6 * scale))
    net = network()
    optimizer, scheduler = optimizer_of(variant, net, epochs)
    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (1, 28, 28), 10, optimizer=optimizer, clip_values=(0, 1), device_type="cpu"
    )
    options = VARIANTS[variant] | {"loss": logged(get_loss(VARIANTS[variant]["loss"]), place / "batches.jsonl")}
    options |= {"checkpoint_dir": place / "run", "checkpoint_every": 5, "augment": "crop-flip", "precision": "fp32"}
    trainer = RobustTrainer(classifier, threat=THREAT, steps=5, restore_best=False, progress=False, **options)
    begin()
    with suppress(FileNotFoundError):  # killed before the first checkpoint: from the beginning
        trainer.resume(place / "run")
    data = {"validation_split": 0.1, "batch_size": 64}
    trainer.fit(images[::step], labels[::step], nb_epochs=epochs, scheduler=scheduler, **data)
    lines = (place / "run" / "history.jsonl").read_text().splitlines()
    return {
        "weights": digest(net.state_dict().values()),
        "files": {name: digest(load_file(place / "run" / f"{name}.safetensors").values()) for name in ("best", "last")},
        "history": [untimed(row) for row in trainer.history.rows],
        "history file": [untimed(json.loads(line)) for line in lines],
        "predictions": digest([torch.from_numpy(classifier.predict(x_test[:100]))]),
        "optimizer": digest(t for s in optimizer.state.values() for t in s.values() if isinstance(t, Tensor)),
    }


def evaluation(place: Path, weights: Path, scale: float) -> dict[str, Any]:
    _, _, x_test, y_test = load("fashion-mnist-5k")
    net = network()
    net.load_state_dict(load_file(weights))
    n = round(100 * scale)
    begin()
    options = {"batch_size": 16, "precision": "fp32", "progress": False}
    report = evaluate(net, x_test[:n], y_test[:n], threat=THREAT, suite="standard", resume=place / "run", **options)
    return {"report": untimed(json.loads(report.to_json()))}


def begin() -> None:
    """Tell who waits to kill this process that its work begins."""
    print("begin", time.time(), flush=True)


def note(path: Path, event: dict[str, Any]) -> None:
    """Append a line in a single call: a kill leaves it whole or not at all."""
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, (json.dumps({"pid": os.getpid(), "time": time.time(), **event}) + "\n").encode())
    os.close(number)


def digest(tensors: Iterable[Tensor]) -> str:
    """A hash of all bits."""
    found = blake2b(digest_size=12)
    for tensor in tensors:
        found.update(np.ascontiguousarray(tensor.detach().numpy()).tobytes())
    return found.hexdigest()


def untimed(tree: Any) -> Any:
    """Without the times in it, which no two runs share."""
    if isinstance(tree, dict):
        return {key: untimed(value) for key, value in tree.items() if key not in TIMES}
    return [untimed(value) for value in tree] if isinstance(tree, list) else tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["train", "evaluate"])
    parser.add_argument("place", type=Path)
    parser.add_argument("--variant", choices=list(VARIANTS), default="piat")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--scale", type=float, default=1.0)
    args = parser.parse_args()
    args.place.mkdir(parents=True, exist_ok=True)
    if args.kind == "train":
        outcome = train(args.place, args.variant, args.scale)
    else:
        outcome = evaluation(args.place, args.weights, args.scale)
    with atomic_write(args.place / "outcome.json") as temporary:
        temporary.write_text(json.dumps(outcome, indent=1))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in the background deaf to it
    main()
