"""The training loop: epochs of attack, loss, step; then averaging, validation, checkpoint, one line of history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from art_ext.averaging import Averaging, copy_weights, cumulative_batchnorm, snapshot
from art_ext.engine.augment import get_augmentation
from art_ext.engine.batches import Batches
from art_ext.engine.checkpoint import BEST, LAST, or_warn, prepare_folder, save_weights
from art_ext.engine.history import History, Row
from art_ext.engine.options import EngineOptions
from art_ext.engine.precision import Compiled, InPrecision, resolve_precision, to_memory_format
from art_ext.engine.progress import Bar, Meter, require_finite
from art_ext.engine.schedules import Schedule
from art_ext.engine.twin import Twin, attack_twin
from art_ext.engine.validation import Validation
from art_ext.isolation import seeded
from art_ext.losses import Loss
from art_ext.model import DefendedModel

InnerAttack = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]


@dataclass
class Task:
    """What is optimised: the defended model, its optimizer and schedule, the loss, the inner attack, the averaging.

    ``attacks_forward_only``: the attack calls its model and nothing else, so in bf16 it may be given a faster `Twin`.
    """

    model: DefendedModel
    optimizer: Optimizer
    loss: Loss
    attack: InnerAttack
    averaging: Averaging
    schedule: Schedule = field(default_factory=Schedule)
    attacks_forward_only: bool = False


class Run:
    """One training run of a `Task` over some batches."""

    def __init__(self, task: Task, batches: Batches, validation: Validation | None, options: EngineOptions) -> None:
        self.task, self.batches, self.validation, self.options = task, batches, validation, options
        self.device = task.model.device
        # the classifier knows its device and the run its precision: accelerate's own are fixed once per process
        self.accelerator = Accelerator(device_placement=False)
        self.precision = resolve_precision(options.precision, self.device)
        self.augment = get_augmentation(options.augment)
        self.folder = prepare_folder(options.checkpoint_dir) if options.checkpoint_dir is not None else None
        self.history = History(self.folder / "history.jsonl" if self.folder else None)
        self.best: dict[str, Tensor] | None = None
        self.net = self._prepare(task.model, options.compile)
        self.twin: Twin | None = None
        self.attacked: nn.Module | None = None  # found on the first batch, in the layout of the session

    def train(self, epochs: int) -> History:
        """Train for so many epochs; the network ends in eval mode, with the averaged or the best weights.

        Whatever stops it earlier (an error, Ctrl-C) leaves the network as after the last finished epoch.
        """
        bar = Bar(epochs, self.batches.per_epoch(), self.options.progress and self.accelerator.is_main_process)
        with self._session():
            try:
                for epoch in range(epochs):
                    self._epoch(epoch, epochs, bar)
                    if self._out_of_patience():
                        break
            finally:
                bar.close()
            copy_weights(self.task.averaging.averaged(), self.task.model.network)
            if self.options.ends_with_best and self.best is not None:
                self.task.model.network.load_state_dict(self.best)
        return self.history

    def _epoch(self, epoch: int, epochs: int, bar: Bar) -> None:
        lr = self.task.optimizer.param_groups[0]["lr"]
        meter = Meter(epoch + 1, self.batches.per_epoch(), self.device, bar, lr)
        self.task.model.train()
        for x, y in self._augmented():
            self._step(x, y, epoch / epochs, meter)
        row: Row = {"epoch": epoch + 1, "lr": lr, **meter.look()}
        require_finite(self.task.model.network, epoch + 1, lr)
        row |= self.task.averaging.after_epoch(epoch, epochs, self._recalibrate)
        row |= self._validate(bar)
        self.task.schedule.after_epoch(row)
        self._record(row)

    def _step(self, x: Tensor, y: Tensor, progress: float, meter: Meter) -> None:
        task = self.task
        x_adv = task.attack(self._attacked(x), x, y, self.random)
        self._clear_gradients()
        out = task.loss.compute(self.net, x, x_adv, y, progress=progress)
        self.accelerator.backward(out.value)
        if self.options.grad_clip is not None:
            self.accelerator.clip_grad_norm_(task.model.parameters(), self.options.grad_clip)
        task.optimizer.step()
        task.averaging.after_step()
        task.schedule.after_batch()
        meter.add(out.value, out.logits_adv, y)

    def _attacked(self, x: Tensor) -> nn.Module:
        """What the attack sees: in bf16 a twin, where attack and network allow one."""
        if self.attacked is None:
            if self.precision == "bf16" and self.task.attacks_forward_only:
                self.twin = attack_twin(self.task.model, x, self._prepare)
            self.attacked = self._prepare(self.twin.model, self.options.compile) if self.twin else self.net
        if self.twin is not None:
            self.twin.refresh()
        return self.attacked

    def _clear_gradients(self) -> None:
        """Those of the step before, those that were there before the run, and those of weights no optimizer holds."""
        self.task.model.zero_grad(set_to_none=True)
        self.task.optimizer.zero_grad(set_to_none=True)

    def _augmented(self) -> Iterator[tuple[Tensor, Tensor]]:
        for x, y in self.batches.epoch(self.order):
            yield (x if self.augment is None else self.augment(x, self.random)), y

    def _validate(self, bar: Bar) -> Row:
        if self.validation is None:
            return {}
        averaged = self.task.averaging.averaged()
        model = self.net if averaged is self.task.model.network else self._prepare(self.task.model.around(averaged))
        clean, robust = self.validation.accuracies(model)
        bar.validated(clean, robust)
        return {"clean": clean, "robust": robust}

    def _record(self, row: Row) -> None:
        self.history.append(row)
        network = self.task.averaging.averaged()
        self.last_good = snapshot(network)
        is_best = self.history.best("robust") is row
        if is_best:
            self.best = self.last_good
        if self.folder is not None and self.accelerator.is_main_process:
            self._write(network, self.folder, is_best)

    def _write(self, network: nn.Module, folder: Path, is_best: bool) -> None:
        for name in (LAST, BEST) if is_best else (LAST,):
            with or_warn(folder / name):
                save_weights(network, folder / name)
        with or_warn(folder / "curves.png"):
            self.history.plot(folder / "curves.png")

    def _out_of_patience(self) -> bool:
        best = self.history.best("robust")
        patience = self.options.early_stopping
        return patience is not None and best is not None and len(self.history) - best["epoch"] >= patience

    def _recalibrate(self, network: nn.Module) -> None:
        model = self._prepare(self.task.model.around(network))
        with cumulative_batchnorm(network) as has_batchnorm, torch.no_grad():
            for x, _ in self._augmented() if has_batchnorm else ():
                model(x)

    def _prepare(self, model: nn.Module, compiled: bool = False) -> nn.Module:
        inner = Compiled(model, self.batches.batch_size) if compiled else model
        return InPrecision(inner, self.device, self.precision)

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Seeded generators, and everything outside the run as it was: random state, layout, mode, gradients."""
        network, seed = self.task.model.network, self.options.seed
        self.order = torch.Generator().manual_seed(seed)
        self.random = torch.Generator(self.device).manual_seed(seed)
        self.last_good = snapshot(network)
        try:
            with seeded(seed):  # dropout draws from torch's global generator, ART's attacks from numpy's
                to_memory_format(network, self.options.channels_last)
                self.task.averaging.start(network)
                yield
        except BaseException as error:  # Ctrl-C too costs at most the epoch in progress
            network.load_state_dict(self.last_good)
            if isinstance(error, FloatingPointError):
                self.task.optimizer.state.clear()  # its momentum is as spoilt as the weights were
            raise
        finally:
            to_memory_format(network, False)
            self._clear_gradients()
            self.task.model.eval()


def checkpoint_of(folder: str | Path, which: str) -> Path:
    """The path of the ``"best"`` or ``"last"`` checkpoint of a run.

    Raises:
        ValueError: another word.
    """
    names = {"best": BEST, "last": LAST}
    if which not in names:
        raise ValueError(f"which must be 'best' or 'last'; got {which!r}")
    return Path(folder) / names[which]
