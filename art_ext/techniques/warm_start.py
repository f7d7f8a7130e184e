"""An inner attack that begins where that of the batch before ended (Wong et al. 2020, arXiv 2001.03994)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from art_ext.attacks import InnerPGD
from art_ext.processes import ALONE, Processes
from art_ext.technique import Technique
from art_ext.techniques.base import register
from art_ext.techniques.carried import Carried


@register(
    "warm-start",
    "the inner attack begins with the perturbations of the batch before",
    paper="https://arxiv.org/abs/2001.03994",
)
class WarmStart(Technique):
    """The attack on row i of a batch begins at x_i + δ_i, δ_i being what it found for row i of the batch before.

    The ``--delta-init previous`` of the authors' code, for PGD of any number of steps and for FGSM-RS. δ is of another
    image: it is a direction that fools the network of now, no memory of an image. The first batch of a run begins as
    the attack does by itself; the last of an epoch, with fewer rows, uses and changes the first of them. Natural
    batches leave δ alone. It costs nothing but the memory of one batch.

    Example:
        >>> WarmStart()
        WarmStart()
    """

    def __repr__(self) -> str:
        """It has no settings."""
        return "WarmStart()"

    def check(self, loss: Any, attack: Any) -> None:
        """The inner attack must take a point to begin at.

        Raises:
            ValueError: it does not.
        """
        if not isinstance(attack, InnerPGD):
            raise ValueError(
                "technique 'warm-start' begins the trainer's PGD, or fgsm-rs, somewhere else; "
                f"{type(attack).__name__} has no place to begin: leave attack out, or warm-start"
            )

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """No perturbation is known yet."""
        super().start(network, classes, seed, processes)
        self._carried = Carried(processes)

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """As it is; how many rows it has."""
        self._carried.begin(len(x))
        return x, y

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """Begins with what is known."""
        delta = self._carried.next(x)
        return attack if delta is None else attack.beginning_at(x + delta)

    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """Keep what the attack has found."""
        if x_adv is not x:
            self._carried.keep((x_adv - x).detach())

    def state_dict(self) -> dict[str, Any]:
        """With the perturbations."""
        return {**super().state_dict(), **self._carried.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        super().load_state_dict(state)
        self._carried.load_state_dict(state)
