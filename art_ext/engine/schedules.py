"""Learning-rate schedules: when they step, a warm-up for any of them, and the one of the PIAT paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, LambdaLR, OneCycleLR, ReduceLROnPlateau

UNITS = ("auto", "epoch", "batch")


@dataclass(frozen=True)
class Schedule:
    """A PyTorch scheduler and the unit it counts in.

    Args:
        scheduler: any PyTorch scheduler bound to the classifier's optimizer, or None.
        unit: ``"epoch"``, ``"batch"``, or ``"auto"``: per batch for ``OneCycleLR`` and ``CyclicLR``, else per epoch.
            ``ReduceLROnPlateau`` gets the robust validation accuracy (in mode ``"min"`` one minus it), and without
            validation the training loss (in mode ``"max"`` exp(−loss)).

    Raises:
        TypeError: not a scheduler.
        ValueError: unknown unit, or a scheduler of another optimizer.
    """

    scheduler: Any = None
    unit: str = "auto"

    def check(self, optimizer: Optimizer) -> None:
        """Refuse what could not work, before training."""
        if self.unit not in UNITS:
            raise ValueError(f"scheduler_step must be one of {', '.join(UNITS)}; got {self.unit!r}")
        if self.scheduler is None:
            return
        if isinstance(self.scheduler, type) or not callable(getattr(self.scheduler, "step", None)):
            raise TypeError(f"scheduler must be an object of torch.optim.lr_scheduler; got {self.scheduler!r}")
        if getattr(self.scheduler, "optimizer", optimizer) is not optimizer:
            raise ValueError(
                "scheduler belongs to another optimizer than the classifier's: make it for trainer.optimizer"
            )

    @property
    def _own(self) -> Any:
        """The scheduler behind a warm-up."""
        return self.scheduler.scheduler if isinstance(self.scheduler, WarmUp) else self.scheduler

    def _per_batch(self) -> bool:
        return self.unit == "batch" or (self.unit == "auto" and isinstance(self._own, OneCycleLR | CyclicLR))

    def before_batch(self, done: float) -> None:
        """A batch begins, after which ``done`` epochs, with a fraction, are over: what a `WarmUp` goes by."""
        if isinstance(self.scheduler, WarmUp):
            self.scheduler.begin(done)

    def after_batch(self) -> None:
        """Step if the unit is the batch."""
        if self.scheduler is not None and self._per_batch():
            self.scheduler.step()

    def after_epoch(self, row: dict[str, float]) -> None:
        """Step if the unit is the epoch."""
        if self.scheduler is None or self._per_batch():
            return
        if isinstance(self._own, ReduceLROnPlateau):
            self.scheduler.step(_judged(row, self._own.mode))
        else:
            self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        """Where the scheduler stands; empty without one, or where it keeps no state."""
        state: dict[str, Any] = self.scheduler.state_dict() if hasattr(self.scheduler, "state_dict") else {}
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`."""
        if state:
            self.scheduler.load_state_dict(state)


class WarmUp:
    """A learning rate that grows linearly over the first epochs, batch by batch, on top of any scheduler.

    Batch k of the K batches of the warm-up has (k + 1)/K of the rate that the scheduler says; no batch has the rate 0.
    Give it to `art_ext.RobustTrainer.fit` as ``scheduler``; it steps when its own scheduler would.

    Args:
        optimizer: whose rates these are.
        epochs: of the warm-up, > 0; a fraction is fine.
        scheduler: a PyTorch scheduler on the same optimizer, or None for a constant rate.

    Raises:
        ValueError: ``epochs`` out of its range, or a scheduler of another optimizer.

    Example:
        >>> import torch
        >>> sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        >>> schedule = Schedule(WarmUp(sgd, epochs=2))
        >>> for batch in range(5):  # two in an epoch
        ...     schedule.before_batch((batch + 1) / 2)
        ...     print(sgd.param_groups[0]["lr"], end=" ")
        0.25 0.5 0.75 1.0 1.0
    """

    def __init__(self, optimizer: Optimizer, *, epochs: float, scheduler: Any = None) -> None:
        if isinstance(epochs, bool) or not 0 < epochs < math.inf:
            raise ValueError(f"epochs of a warm-up must be > 0; got {epochs!r}")
        if getattr(scheduler, "optimizer", optimizer) is not optimizer:
            raise ValueError("the scheduler of a warm-up belongs to another optimizer")
        self.optimizer, self.epochs, self.scheduler = optimizer, epochs, scheduler
        self._rates, self._share = self._now(), 1.0  # what the scheduler says, and how much of it counts

    def begin(self, done: float) -> None:
        """A batch begins, after which ``done`` epochs are over."""
        share = min(1.0, done / self.epochs)
        if share != self._share:
            self._set(share)

    def step(self, *figures: float) -> None:
        """The scheduler's, at the rates that are its own."""
        if self.scheduler is None:
            return
        share = self._share
        self._set(1.0)
        self.scheduler.step(*figures)
        self._rates = self._now()
        self._set(share)

    def _now(self) -> list[float]:
        return [group["lr"] for group in self.optimizer.param_groups]

    def _set(self, share: float) -> None:
        self._share = share
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate if share == 1 else share * rate

    def state_dict(self) -> dict[str, Any]:
        """Where both stand."""
        inner = {} if self.scheduler is None else self.scheduler.state_dict()
        return {"rates": list(self._rates), "share": self._share, "scheduler": inner}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`."""
        self._rates, self._share = list(state["rates"]), state["share"]
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state["scheduler"])


def _judged(row: dict[str, float], mode: str) -> float:
    """A figure ≥ 0 in either mode: below zero, the relative threshold takes a standstill for progress."""
    if mode == "max":
        return row["robust"] if "robust" in row else math.exp(-row["loss"])
    return 1 - row["robust"] if "robust" in row else row["loss"]


def piecewise_linear(optimizer: Optimizer, *, epochs: int, flat: float = 0.5, knee: float = 0.75) -> LambdaLR:
    """The schedule of the PIAT paper: lr until half of the epochs, linear to lr/10 at ¾, linear to lr/100 at the end.

    Args:
        optimizer: whose learning rate is the starting one.
        epochs: planned; the schedule steps once per epoch.
        flat: share of the epochs before the first descent (60 of 120 in the paper).
        knee: share at which lr/10 is reached (90 of 120 in the paper).

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
        >>> schedule = piecewise_linear(optimizer, epochs=120)
        >>> [round(schedule.lr_lambdas[0](e), 3) for e in (0, 60, 75, 90, 120)]
        [1.0, 1.0, 0.55, 0.1, 0.01]
    """
    a, b = flat * epochs, knee * epochs

    def factor(epoch: int) -> float:
        if epoch <= a:
            return 1.0
        if epoch <= b:
            return 1 - 0.9 * (epoch - a) / (b - a)
        return max(0.01, 0.1 - 0.09 * (epoch - b) / (epochs - b))

    return LambdaLR(optimizer, factor)
