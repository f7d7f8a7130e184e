"""The training loop: epochs of attack, loss, step; then averaging, validation, checkpoint, one line of history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from art_ext.averaging import Averaging, copy_weights, cumulative_batchnorm, snapshot
from art_ext.engine.augment import get_augmentation
from art_ext.engine.batches import Batches
from art_ext.engine.checkpoint import BEST, LAST
from art_ext.engine.checkpoints import Saved
from art_ext.engine.history import History, Row
from art_ext.engine.keeper import Keeper
from art_ext.engine.meter import Meter, require_finite
from art_ext.engine.options import EngineOptions
from art_ext.engine.precision import Compiled, InPrecision, eager, resolve_precision, to_memory_format
from art_ext.engine.progress import Bar
from art_ext.engine.resume import Place, process_random, require_same_place, restore, state_of
from art_ext.engine.schedules import Schedule
from art_ext.engine.stopping import Stop, stopping
from art_ext.engine.syncbn import batchnorm_across_processes
from art_ext.engine.together import make_accelerator, shared
from art_ext.engine.twin import Twin, attack_twin
from art_ext.engine.validation import Validation
from art_ext.isolation import keeping_gradients, seeded
from art_ext.losses import Loss
from art_ext.model import DefendedModel
from art_ext.processes import Part, Processes, SharedGenerator
from art_ext.technique import Technique

InnerAttack = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
AGREE_EVERY = 10  # batches after which the processes tell each other of a signal


@dataclass
class Task:
    """What is optimised: the defended model, its optimizer and schedule, the loss, the inner attack, the averaging.

    ``attacks_forward_only``: the attack calls its model and nothing else, so in bf16 it may be given a faster `Twin`.
    ``about``: what the task is, by name, as JSON; a checkpoint of another one is refused.
    ``watch``: is shown the figures of each epoch once they are written. ``technique``: what the method does beside.
    """

    model: DefendedModel
    optimizer: Optimizer
    loss: Loss
    attack: InnerAttack
    averaging: Averaging
    schedule: Schedule = field(default_factory=Schedule)
    attacks_forward_only: bool = False
    about: dict[str, Any] = field(default_factory=dict)
    watch: Callable[[Row], None] | None = None
    technique: Technique = field(default_factory=Technique)
    classes: int = 0


class Run:
    """One training run of a `Task` over some batches."""

    def __init__(self, task: Task, batches: Batches, validation: Validation | None, options: EngineOptions) -> None:
        self.task, self.batches, self.validation, self.options = task, batches, validation, options
        self.device = task.model.device
        self.processes = batches.processes = Processes.launched()
        self.precision = resolve_precision(options.precision, self.device)
        self.augment = get_augmentation(options.augment)
        here = {"batches": batches.fingerprint(), "precision": self.precision, "device": self.device.type}
        self.identity = task.about | here
        self.keeper = Keeper(options, self.processes.is_first, self.identity)
        self.history = History()
        self.best: dict[str, Tensor] | None = None
        self.compiles = options.compile and not task.technique.changes_network
        self.plain = self.net = self._prepare(task.model, self.compiles)
        self.twin: Twin | None = None
        allowed = task.technique.attacks and not task.technique.changes_network
        self.allows_twin = self.precision == "bf16" and task.attacks_forward_only and allowed
        self.attacked: nn.Module | None = None  # found on the first batch, in the layout of the session
        self.accelerator = make_accelerator(self.processes)

    def train(self, epochs: int, saved: Saved | None = None) -> History:
        """Train for so many epochs; the network ends in eval mode, with the averaged or the best weights.

        Whatever stops it earlier (an error, Ctrl-C) leaves the network as after the last finished epoch.

        Args:
            epochs: in all, with those of ``saved``.
            saved: a checkpoint of this run to go on from.
        """
        with self._session() as stop:
            place = Place() if saved is None else restore(self, saved)
            require_same_place(self.processes, place)
            self.keeper.begin(self.history, saved, self.best)
            shown = self.options.progress and self.processes.is_first
            batches = self.batches.per_epoch()
            with closing(Bar(epochs, batches, shown, done=place.epoch * batches + place.batch)) as bar:
                while place.epoch < epochs and not self._out_of_patience():
                    self._epoch(place, epochs, bar, stop)
                    place = Place(place.epoch + 1)
                    self._save(place, finished=place.epoch == epochs or self._out_of_patience())
                    self._leave_if_asked(stop, place)
            copy_weights(self.task.averaging.averaged(), self.task.model.network)
            if self.options.ends_with_best and self.best is not None:
                self.task.model.network.load_state_dict(self.best)
        return self.history

    def _epoch(self, place: Place, epochs: int, bar: Bar, stop: Stop) -> None:
        lr = max(group["lr"] for group in self.task.optimizer.param_groups)
        meter = Meter(place.epoch + 1, self.batches.per_epoch(), self.device, bar, lr, self.processes)
        if place.figures is not None:
            meter.load_state_dict(place.figures)
        self.task.model.train()
        self.epoch_order = self.order.get_state()
        for x, y, n in self._augmented(place.batch):
            self.task.technique.before_batch(place.epoch + meter.batch / self.batches.per_epoch(), epochs)
            self.task.schedule.before_batch(place.epoch + (meter.batch + 1) / self.batches.per_epoch())
            self._batch(x, y, n, place.epoch / epochs, meter)
            self._between_batches(Place(place.epoch, meter.batch), meter, stop)
        row: Row = {"epoch": place.epoch + 1, "lr": meter.lr, **meter.total()}
        require_finite(self.task.model.network, place.epoch + 1, meter.lr)
        self._share_statistics(self.task.model.network)
        row |= self.task.technique.after_epoch(place.epoch, self.plain)
        row |= self.task.averaging.after_epoch(place.epoch, epochs, self._recalibrate)
        row |= self._validate()
        self.task.schedule.after_epoch(row)
        self._record(row)
        bar.finish(row)

    def _batch(self, x: Tensor, y: Tensor, n: int, progress: float, meter: Meter) -> None:
        x, y = self.task.technique.batch(x, y)
        for left in reversed(range(self.task.technique.replays)):
            self._step(x, y, n, progress, None if left else meter)
        self.task.schedule.after_batch()
        meter.finish_batch(n)

    def _step(self, x: Tensor, y: Tensor, n: int, progress: float, meter: Meter | None) -> None:
        task, attacked, technique = self.task, self._attacked(x), self.task.technique
        parts = self.processes.parts(n, self.options.accumulate)
        for part in parts:
            x_part, y_part = x[part.rows], y[part.rows]
            self._share_random(part)
            with nullcontext() if part is parts[0] else keeping_gradients(task.model):
                x_adv = self._attack(attacked, x_part, y_part)
            if part is parts[0]:
                self._clear_gradients()
            with ExitStack() as stack:
                if part is not parts[-1]:
                    stack.enter_context(self.accelerator.no_sync(self.net))
                loss = technique.loss_for(task.loss)
                stack.enter_context(technique.perturbing(self.plain, loss, x_part, x_adv, y_part, progress))
                out = loss.compute(self.net, x_part, x_adv, y_part, progress=progress)
                (out.value * part.weight).backward()  # accelerate's would scale it, as its environment says
            technique.after_loss(x_part, x_adv, out.logits_adv, y_part)
            if meter is not None:
                meter.add(out.value, out.logits_adv, y_part, part.weight, out.figures)
        if self.options.grad_clip is not None:
            nn.utils.clip_grad_norm_(task.model.parameters(), self.options.grad_clip)
        task.optimizer.step()
        task.averaging.after_step()

    def _attack(self, attacked: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        technique = self.task.technique
        with eager(attacked) if technique.hooks() else nullcontext(), technique.attacking(attacked, x):
            return technique.attack_for(self.task.attack, x, y)(attacked, x, y, self.random)

    def _between_batches(self, place: Place, meter: Meter, stop: Stop) -> None:
        every, last = self.options.checkpoint_every, place.batch == self.batches.per_epoch()
        if last or not self.keeper.can_save:  # what the end of an epoch does comes first
            return
        asked = (self.processes.count == 1 or place.batch % AGREE_EVERY == 0) and self._asked(stop)
        if asked or (every is not None and place.batch % every == 0):
            self._save(Place(place.epoch, place.batch, meter.state_dict()))
        if asked:
            self._leave_if_asked(stop, place)

    def _asked(self, stop: Stop) -> bool:
        """Whether a signal has reached any of the processes."""
        received = [number for number in self.processes.gather(stop.signal) if number is not None]
        stop.signal = received[0] if received else None
        return bool(received)

    def _leave_if_asked(self, stop: Stop, place: Place) -> None:
        if self._asked(stop):
            done = f"{place.epoch} epochs" + (f" and {place.batch} batches" if place.batch else "")
            stop.leave(
                f"stopped after {done}; trainer.resume({str(self.keeper.named)!r}) before fit goes on from there"
            )

    def _save(self, place: Place, *, finished: bool = False) -> None:
        if self.keeper.can_save:
            state = state_of(self, place, finished=finished)
            self.keeper.save(state, self.task.averaging.averaged(), self.best)

    def _attacked(self, x: Tensor) -> nn.Module:
        """What the attack sees: in bf16 a twin, where attack and network allow one."""
        if self.attacked is None:
            if self.allows_twin:
                self.twin = attack_twin(self.task.model, x, self._prepare)
            self.attacked = self._prepare(self.twin.model, self.compiles) if self.twin else self.plain
        if self.twin is not None:
            self.twin.refresh()
        return self.attacked

    def _clear_gradients(self) -> None:
        """Those of the step before, those that were there before the run, and those of weights no optimizer holds."""
        self.task.model.zero_grad(set_to_none=True)
        self.task.optimizer.zero_grad(set_to_none=True)

    def _augmented(self, skip: int = 0) -> Iterator[tuple[Tensor, Tensor, int]]:
        """This process's rows of each batch after the first ``skip``, and how many the batch has in all."""
        size = self.batches.batch_size
        for number, (x, y) in enumerate(self.batches.epoch(self.order, skip), skip):
            n = len(y) if self.processes.count == 1 else min(size, self.batches.size - number * size)
            self._share_random(*self.processes.parts(n))
            yield (x if self.augment is None else self.augment(x, self.random)), y, n

    def _share_random(self, part: Part) -> None:
        if isinstance(self.random, SharedGenerator):
            self.random.share(*part.shared, len(range(part.rows.start, part.rows.stop)))

    def _validate(self) -> Row:
        if self.validation is None:
            return {}
        averaged = self.task.averaging.averaged()
        own = averaged is self.task.model.network
        if not own:
            self._share_statistics(averaged)
        model = self.plain if own else self._prepare(self.task.model.around(averaged))
        clean, robust = self.validation.accuracies(model)
        return {"clean": clean, "robust": robust}

    def _worst_class(self, network: nn.Module) -> float:
        assert self.validation is not None
        return self.validation.worst_class(self._prepare(self.task.model.around(network)))

    def _record(self, row: Row) -> None:
        self.history.append(row)
        network = self.task.averaging.averaged()
        self.last_good = snapshot(network)
        if self.history.best("robust") is row:
            self.best = self.last_good
        self.keeper.epoch(row, self.history, network, self.best)
        if self.task.watch is not None:
            self.task.watch(row)

    def _out_of_patience(self) -> bool:
        best = self.history.best("robust")
        patience = self.options.early_stopping
        return patience is not None and best is not None and len(self.history) - best["epoch"] >= patience

    def _recalibrate(self, network: nn.Module) -> None:
        model = self._prepare(self.task.model.around(network))
        with cumulative_batchnorm(network) as has_batchnorm, torch.no_grad():
            for x, _, _ in self._augmented() if has_batchnorm else ():
                model(x)
        self._share_statistics(network)

    def _share_statistics(self, network: nn.Module) -> None:
        """Give all processes the mean of their buffers (BatchNorm's, above all): each has seen other rows."""
        if self.processes.count > 1 and not self.options.sync_batchnorm:
            for buffer in (b for b in network.buffers() if b.is_floating_point()):
                buffer.copy_(self.processes.sum(buffer.clone()) / self.processes.count)

    def _prepare(self, model: nn.Module, compiled: bool = False) -> nn.Module:
        parts = self.processes.parts(self.batches.batch_size, self.options.accumulate)
        sizes = {len(range(part.rows.start, part.rows.stop)) for part in parts}
        inner = Compiled(model, sizes) if compiled else model
        return InPrecision(inner, self.device, self.precision)

    @contextmanager
    def _session(self) -> Iterator[Stop]:
        """Seeded generators, and everything outside the run as it was: random state, layout, mode, gradients."""
        network, seed = self.task.model.network, self.options.seed
        together = self.processes.count > 1
        self.order = torch.Generator().manual_seed(seed)
        self.random: torch.Generator = (SharedGenerator if together else torch.Generator)(self.device)
        self.random.manual_seed(seed)
        self.last_good = snapshot(network)
        try:
            with ExitStack() as stack:
                stack.enter_context(self.keeper.held())
                # dropout draws from torch's global generator, ART's attacks from numpy's
                stack.enter_context(seeded(seed + self.processes.rank))
                self.fresh_random = process_random(self.device)
                stack.enter_context(batchnorm_across_processes(network, together and self.options.sync_batchnorm))
                to_memory_format(network, self.options.channels_last)
                self.task.averaging.start(network)
                if self.validation is not None:
                    self.task.averaging.judged_by(self._worst_class)
                self.task.technique.start(network, self.task.classes, seed, self.processes)
                if together:
                    self.net = shared(self.accelerator, self.plain, self.device)
                yield stack.enter_context(stopping(self.keeper.can_save))
        except BaseException as error:  # Ctrl-C too costs at most the epoch in progress
            network.load_state_dict(self.last_good)
            if isinstance(error, FloatingPointError):
                self.task.optimizer.state.clear()  # its momentum is as spoilt as the weights were
            raise
        finally:
            self.net = self.plain  # another run on the same weights must not meet this one's gradient hooks
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
