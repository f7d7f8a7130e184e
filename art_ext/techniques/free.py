"""Free adversarial training (Shafahi et al. 2019, https://arxiv.org/abs/1904.12843)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from art_ext.attacks import InnerPGD
from art_ext.processes import ALONE, Processes
from art_ext.technique import Technique
from art_ext.techniques.base import register
from art_ext.techniques.carried import Carried


@register(
    "free",
    "each batch several times, one backward for weights and perturbation",
    paper="https://arxiv.org/abs/1904.12843",
)
class Free(Technique):
    """Each batch is trained on ``replays`` times; the backward that trains the weights also moves the perturbation.

    x' = x + δ, cut to the valid range; the gradient of the training loss with respect to x' gives the weights' step and
    δ ← Π_ε(δ + step · ε · sign ∇). δ is handed from replay to replay and from batch to batch, where row i begins with
    that of row i; it is zero at first. No attack runs: a replay costs the loss's own forwards and one backward, in
    train mode. The authors' code differentiates through the cut, so that there δ stands still where an image is black
    or white.

    An epoch has ``replays`` steps on each batch: as many epochs as else, divided by them, are comparable (authors'
    code). Learning rates change by batches and epochs, averages by steps. The trainer's ``steps`` and ``step_size``
    have no say.

    Args:
        replays: m, at least 2; 8 (paper, CIFAR; 4 on ImageNet).
        step: in ε, > 0; 1 (authors' code).

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> Free(replays=4)
        Free(replays=4, step=1.0)
    """

    attacks = False
    excludes: ClassVar[Mapping[str, str]] = MappingProxyType({"warm-start": "free hands perturbations on by itself"})

    def __init__(self, *, replays: int = 8, step: float = 1.0) -> None:
        if not isinstance(replays, int) or replays < 2:
            raise ValueError(f"replays must be a whole number of at least 2, steps on each batch; got {replays!r}")
        if not 0 < step < float("inf"):
            raise ValueError(f"step must be > 0, of the perturbation, in ε; got {step!r}")
        self.replays, self.step = replays, step
        self.used: Standing | None = None

    def __repr__(self) -> str:
        """With its settings."""
        return f"Free(replays={self.replays!r}, step={self.step!r})"

    def check(self, loss: Any, attack: Any) -> None:
        """There must be no other attack, and a loss that rises with the perturbation from the first step on.

        Raises:
            ValueError: as said.
        """
        if type(attack) is not InnerPGD:
            name = type(attack).__name__
            raise ValueError(f"technique 'free' stands in the place of the inner attack; leave attack ({name}) out")
        if loss.objective == "kl":
            raise ValueError(
                f"technique 'free' climbs the training loss from δ = 0, where the gradient of loss {loss.name!r}, a KL "
                "divergence from the clean prediction, is zero: choose pgd-at or another loss of cross entropy"
            )

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """The perturbations are zero."""
        super().start(network, classes, seed, processes)
        self._carried = Carried(processes)

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As it is; how many rows it has."""
        self._carried.begin(len(x))
        return x, y

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """None: x + δ, which the loss's own backward differentiates; what is no attack already stays that."""
        delta = self._carried.next(x)
        if type(attack) is not InnerPGD:
            return attack
        settings = {f.name: getattr(attack, f.name) for f in fields(InnerPGD)}
        return Standing(**settings, delta=torch.zeros_like(x) if delta is None else delta, owner=self)

    @torch.no_grad()
    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """The perturbations take their step."""
        if x_adv.grad is None or self.used is None:  # not attacked
            return
        ball, delta = replace(self.used.threat, clip=None), self.used.delta
        delta = delta + self.step * ball.radius(x) * ball.steepest(x_adv.grad)
        self._carried.keep(ball.project(delta, torch.zeros_like(delta)))

    def state_dict(self) -> dict[str, Any]:
        """With the perturbations."""
        return {**super().state_dict(), **self._carried.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        super().load_state_dict(state)
        self._carried.load_state_dict(state)


@dataclass(frozen=True, kw_only=True)
class Standing(InnerPGD):
    """x + δ within the threat model, as a leaf of autograd.

    Args:
        delta: δ, shaped like the inputs.
        owner: is told what was used last, the settings that techniques after it have changed included.
    """

    delta: Tensor
    owner: Free

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x', whose ``grad`` is filled by the backward of the loss."""
        self.owner.used = self
        return self.threat.project(x + self.delta, x).requires_grad_()
