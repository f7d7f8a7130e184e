"""Trainings that several processes share: ``torchrun --nproc_per_node 2 -m tests.engine.sharded VERB …``."""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.optim import SGD

from art_ext import AToPTrainer, INNTrainer, NoisyTrainer, RobustTrainer, SoftQuantization, ThreatModel
from art_ext.attacks import MixedAdversaries
from art_ext.losses import LOSSES, get_loss
from art_ext.processes import Processes
from art_ext.techniques import AWP, Free, Natural

EPOCHS = 2
BOTH = ThreatModel("linf", 0.05), ThreatModel("l2", 0.3)
SHARED = sorted(set(LOSSES) - {"rat"})  # whose soft labels are made of the rows of each process
CASES: dict[str, dict[str, Any]] = {loss: {"loss": loss} for loss in SHARED} | {
    "class-wise": {"loss": get_loss("cfa-at", after=1)},
    "awp": {"techniques": [AWP(after=1)]},
    "fgsm-rs": {"attack": "fgsm-rs", "steps": None},
    "mat-max": {"attack": MixedAdversaries(BOTH, "max", steps=3)},
    "mat-rand": {"attack": MixedAdversaries(BOTH, "rand", steps=3)},
    "free": {"techniques": [Free(replays=2)]},
    "warm-start": {"techniques": ["warm-start"]},
    "natural": {"techniques": [Natural(share=0.5)]},
    "piat": {"averaging": "piat", "loss": "nmse"},
    "ema": {"averaging": "ema"},
    "swa": {"averaging": "swa"},
    "l2": {"norm": "l2"},
    "uneven": {"examples": 29},  # a last batch of 5
    "tiny last batch": {"examples": 25, "batchnorm": False},  # fewer examples than three processes
    "augmented": {"augment": "crop-flip"},
    "clipped": {"grad_clip": 0.3},
    "channels first": {"channels_last": False},
    "without batchnorm": {"batchnorm": False, "sync_batchnorm": False},
    "noisy": {"kind": "noisy"},
    "gradient penalty": {"kind": "noisy", "gradient_penalty": 0.05, "noise": "signs"},
    "inn": {"kind": "inn", "snapshots": 1},
    "inn, tiny last batch": {"kind": "inn", "snapshots": 1, "examples": 25, "batchnorm": False},
}
KINDS: dict[str, Any] = {
    "robust": lambda *args, **options: RobustTrainer(*args, **{"steps": 3} | options),
    "noisy": lambda *args, **options: NoisyTrainer(*args, quantization=SoftQuantization(levels=4), **options),
    "inn": INNTrainer,
}


def network(batchnorm: bool, dropout: float) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(6) if batchnorm else nn.Identity()
        parts = (norm, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout) if dropout else nn.Identity(), nn.Linear(96, 4))
        return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *parts)


def train(folder: str | None = None, resume: bool = False, broken: Any = None, **options: Any) -> Any:
    """Train on a few random images; ``broken`` takes the place of the attack."""
    make = KINDS[options.pop("kind", "robust")]
    examples, norm = options.pop("examples", 32), options.pop("norm", "linf")
    net = network(options.pop("batchnorm", True), options.pop("dropout", 0.0))
    rng = np.random.default_rng(0)
    x, y = rng.random((examples, 3, 4, 4), dtype=np.float32), rng.integers(0, 4, examples)
    art = {"optimizer": SGD(net.parameters(), lr=0.1, momentum=0.9), "clip_values": (0, 1), "device_type": "cpu"}
    classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 4, 4), 4, **art)
    given: dict[str, Any] = {"precision": "fp32", "progress": False, "validation_steps": 2} | options
    trainer = make(classifier, threat=ThreatModel(norm, 0.05), checkpoint_dir=folder, **given)
    if resume:
        trainer.resume()
    if broken:
        said, attack = trainer._about(classifier.optimizer), trainer.attack
        trainer._about, trainer.attack = lambda optimizer: said, lambda *args: broken() or attack(*args)
    trainer.fit(x, y, validation_data=(x[:10], y[:10]), batch_size=8, nb_epochs=EPOCHS)
    return trainer


def results(cases: dict[str, dict[str, Any]]) -> dict[str, Tensor]:
    """Weights and figures of every case, by name."""
    found: dict[str, Tensor] = {}
    for case, options in cases.items():
        trainer = train(**options)
        for name, value in trainer.model.network.state_dict().items():
            found[f"{case}: {name}"] = value.clone()
        for figure in ("loss", "train_robust", "clean", "robust"):
            found[f"{case}: {figure}"] = torch.tensor(trainer.history.column(figure), dtype=torch.float64)
    return found


def everything(file: str, *names: str) -> None:
    """These cases; every process must end with the same weights."""
    output = results({name: CASES[name] for name in names})
    go_on_bit_for_bit(Path(file).with_suffix(""))
    everywhere = Processes.launched().gather(output)
    if Processes.launched().is_first:
        for rank, other in enumerate(everywhere):
            assert all(torch.equal(output[name], other[name]) for name in output), f"process {rank} ended elsewhere"
        save_file(output, file)


def go_on_bit_for_bit(folder: Path) -> None:
    """A run that is stopped and gone on with ends in the same bits, with as many processes as there are."""
    options: dict[str, Any] = {"loss": "trades", "checkpoint_every": 1}  # two forwards
    uninterrupted = train(**options | {"checkpoint_every": None})
    with suppress(Cut):
        train(str(folder), broken=Countdown(6).cut, **options)
    Processes.launched().agree(None)  # the first has written the last checkpoint
    resumed = train(str(folder), resume=True, **options)
    states = [trainer.model.network.state_dict() for trainer in (uninterrupted, resumed)]
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), (
            f"resumed, {name} differs by {(value - states[1][name]).abs().max()}"
        )


def purifying(file: str) -> None:
    """A purifier: masks are each process's own, but all end with the same weights, and none touches the classifier."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(4)).eval()
    net(torch.zeros(1, 3, 16, 16))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 16, 16), 4, clip_values=(0, 1), device_type="cpu")
    rng = np.random.default_rng(0)
    x, y = rng.random((16, 3, 16, 16), dtype=np.float32), np.arange(16) % 4
    options: dict[str, Any] = {"purifier_options": {"width": 4}, "pretrain_epochs": 1}
    quiet: dict[str, Any] = {"precision": "fp32", "progress": False}
    trainer = AToPTrainer(classifier, threat=ThreatModel("linf", 0.05), transform="rt1", **options, **quiet)
    trainer.fit(x, y, batch_size=8, nb_epochs=EPOCHS)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    found = {f"weights: {name}": value for name, value in trainer.model.network.state_dict().items()}
    found["loss"] = torch.tensor(trainer.history.column("loss"))
    everywhere = Processes.launched().gather(found)
    if Processes.launched().is_first:
        assert all(torch.equal(found[name], other[name]) for other in everywhere for name in found)
        save_file(found, file)


def whole(folder: str, dropout: str) -> None:
    train(folder, dropout=float(dropout), checkpoint_every=1, averaging="ema")


def go_on(folder: str, dropout: str) -> None:
    train(folder, resume=True, dropout=float(dropout), averaging="ema")


def killed(folder: str, dropout: str, batches: str) -> None:
    """Every process dies after so many batches, as of SIGKILL."""
    train(folder, broken=Countdown(int(batches)).kill, dropout=float(dropout), checkpoint_every=1, averaging="ema")


def stopped(folder: str, batches: str) -> None:
    """One process gets SIGTERM; all save and leave."""
    train(folder, broken=Countdown(int(batches), rank=1).terminate, examples=160, averaging="ema")


def failing(folder: str) -> None:
    """One process raises."""
    train(folder, broken=Countdown(3, rank=1).fail)


class Cut(BaseException):
    """Ends a run at a batch, in all processes."""


class Countdown:
    """Something happens in the process ``rank`` (None: in all) after so many attacks."""

    def __init__(self, count: int, rank: int | None = None) -> None:
        self.left, self.here = count, rank in (None, Processes.launched().rank)

    def over(self) -> bool:
        self.left -= 1
        return self.here and self.left < 0

    def kill(self) -> None:
        if self.over():
            os.kill(os.getpid(), signal.SIGKILL)

    def cut(self) -> None:
        if self.over():
            raise Cut

    def terminate(self) -> None:
        if self.over() and self.left == -1:
            signal.raise_signal(signal.SIGTERM)

    def fail(self) -> None:
        if self.over():
            raise RuntimeError("this process has had enough")


if __name__ == "__main__":
    torch.set_num_threads(1)
    verbs = (everything, purifying, whole, go_on, killed, stopped, failing)
    record({verb.__name__: verb for verb in verbs}[sys.argv[1]])(*sys.argv[2:])
    torch.distributed.destroy_process_group()
