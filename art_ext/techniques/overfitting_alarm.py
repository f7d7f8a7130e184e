"""An alarm for catastrophic overfitting of one-step training (Wong et al. 2020, https://arxiv.org/abs/2001.03994)."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.attacks.pgd import check_steps
from art_ext.isolation import keeping_random
from art_ext.model import evaluating
from art_ext.processes import ALONE, Processes
from art_ext.scores import hard
from art_ext.technique import Technique
from art_ext.techniques.base import register
from art_ext.threat import ThreatModel


class CatastrophicOverfittingError(RuntimeError):
    """The network withstands the attack it is trained with, and no stronger one."""


class _Batch(NamedTuple):
    x: Tensor
    y: Tensor
    threat: ThreatModel


@register(
    "overfitting-alarm",
    "warns when one-step training withstands its own step only",
    paper="https://arxiv.org/abs/2001.03994",
)
class OverfittingAlarm(Technique):
    """PGD on the last images of each epoch, held against the accuracy on all adversarial images of the epoch.

    In catastrophic overfitting the second stays high, or jumps up, while the first falls to zero within an epoch. A
    difference of more than ``gap`` is a warning, once in a run. The figure ``train_pgd`` of the history is the first
    accuracy; ``train_robust`` is there anyway, `natural` batches included. Images are judged in eval mode, by PGD on
    cross entropy within the ball of their own training attack. It costs ``steps`` forwards and backwards and one
    forward of ``images`` images per epoch.

    The authors' code stops when PGD-5 on one batch loses 20 points between two epochs; that misses a network that
    never was robust.

    Args:
        gap: in (0, 1), between the two accuracies; 0.25 (ours).
        steps: of PGD; 10.
        images: of the end of the epoch, in each process, rounded up to whole batches; 256 (ours).
        stop: end the training with an error, with the weights of the epoch before, instead of a warning.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> OverfittingAlarm(stop=True)
        OverfittingAlarm(gap=0.25, steps=10, images=256, stop=True)
    """

    def __init__(self, *, gap: float = 0.25, steps: int = 10, images: int = 256, stop: bool = False) -> None:
        if not 0 < gap < 1:
            raise ValueError(f"gap must be in (0, 1), between one-step and PGD accuracy; got {gap!r}")
        check_steps(steps=steps, images=images)
        self.gap, self.steps, self.images, self.stop = gap, steps, images, stop

    def __repr__(self) -> str:
        """With its settings."""
        return f"OverfittingAlarm(gap={self.gap!r}, steps={self.steps!r}, images={self.images!r}, stop={self.stop!r})"

    def check(self, loss: Any, attack: Any) -> None:
        """The inner attack must have one threat model.

        Raises:
            ValueError: it has none, or several.
        """
        if not isinstance(getattr(attack, "threat", None), ThreatModel):
            raise ValueError(
                "technique 'overfitting-alarm' judges by the threat model of the inner attack; "
                f"{type(attack).__name__} tells of none: leave attack out, or the alarm"
            )
        self._threat: ThreatModel = attack.threat

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """Nothing was seen yet."""
        super().start(network, classes, seed, processes)
        self.device = next(network.parameters()).device
        self._warned = False
        self._begin()

    def _begin(self) -> None:
        self._seen, self._hits = 0, torch.zeros((), dtype=torch.int64, device=self.device)
        self._last: list[_Batch] = []

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """As it is; its threat model is noted as the techniques before this one have made it."""
        self._threat = getattr(attack, "threat", self._threat)
        return attack

    @torch.no_grad()
    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """Count, and keep the last images."""
        if logits_adv is None or x_adv is x:
            return
        self._seen += len(x)
        self._hits += (logits_adv.argmax(1) == hard(y)).sum()
        self._last.append(_Batch(x, y, self._threat))
        while sum(len(batch.x) for batch in self._last[1:]) >= self.images:
            self._last.pop(0)

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """Judge the last images, and warn or stop."""
        with keeping_random():  # a randomised network draws
            counts = [self._seen, int(self._hits), sum(len(batch.x) for batch in self._last), self._survivors(model)]
        seen, hits, tried, survivors = self.processes.sum(torch.tensor(counts, device=self.device)).tolist()
        self._begin()
        if not tried:
            return {}
        one_step, robust = hits / seen, survivors / tried
        if one_step - robust > self.gap:
            self._tell(epoch + 1, one_step, robust, tried)
        return {"train_pgd": robust}

    def _survivors(self, model: nn.Module) -> int:
        seed = int(torch.randint(2**31, (), generator=self.random))
        generator, survivors = torch.Generator(self.device).manual_seed(seed), 0
        for x, y, threat in self._last:
            x_adv = pgd(model, x, y, threat=threat, steps=self.steps, generator=generator)
            with evaluating(model), torch.no_grad():
                survivors += int((model(x_adv).argmax(1) == hard(y)).sum())
        return survivors

    def _tell(self, epoch: int, one_step: float, robust: float, tried: int) -> None:
        told = (
            f"catastrophic overfitting in epoch {epoch}: accuracy on the training images is {one_step:.1%} under the "
            f"attack of the training, and {robust:.1%} under PGD-{self.steps} on the last {tried} of them; the network "
            "has learnt to mislead that attack. "
        )
        if self.stop:
            raise CatastrophicOverfittingError(told + "The weights of the epoch before are restored")
        if not self._warned and self.processes.is_first:
            warnings.warn(told + "PGD of several steps (attack=None), a smaller ε or step_size may help", stacklevel=2)
        self._warned = True

    def state_dict(self) -> dict[str, Any]:
        """Counts so far, which the first process takes over, and the last images of each."""
        totals = self.processes.sum(torch.stack((self._hits, self._hits.new_tensor(self._seen))))
        last = self.processes.gather([_packed(batch) for batch in self._last])
        return {**super().state_dict(), "warned": self._warned, "totals": totals, "last": last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`; with another number of processes, no images."""
        super().load_state_dict(state)
        self._warned = state["warned"]
        hits, seen = (int(total) * self.processes.is_first for total in state["totals"])
        self._hits, self._seen = self._hits.new_tensor(hits), seen
        mine = state["last"][self.processes.rank] if len(state["last"]) == self.processes.count else []
        self._last = [_unpacked(batch, self._threat, self.device) for batch in mine]


def _packed(batch: _Batch) -> dict[str, Any]:
    nhwc = batch.x.ndim == 4 and batch.x.is_contiguous(memory_format=torch.channels_last)
    return {"x": batch.x.cpu(), "y": batch.y.cpu(), "eps": batch.threat.eps, "nhwc": nhwc}


def _unpacked(saved: dict[str, Any], threat: ThreatModel, device: torch.device) -> _Batch:
    layout = torch.channels_last if saved["nhwc"] else torch.contiguous_format
    x = saved["x"].to(device, memory_format=layout)  # as it was, for the same bits
    return _Batch(x, saved["y"].to(device), threat.with_eps(saved["eps"]))
