"""What a training method does beside its loss, its inner attack and its averaging, and where the loop lets it.

A `Technique` may change the inner attack of a batch, the network while the attack looks at it, the loss of a batch, and
the weights while that loss is differentiated. One of them is one file; several go together, see `Techniques`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from art_ext.processes import ALONE, Processes


class Technique:
    """What the training loop asks of a technique; this base class changes nothing.

    Attributes:
        changes_network: it hooks into the network or changes its weights, so the attack must see the network itself: no
            copy of it in bf16, nothing compiled.
        replays: optimizer steps on each batch.
        attacks: an inner attack runs; where none does, no faster copy of the network is made for it.
        excludes: names of other techniques that it does not go with, and why.
    """

    name: ClassVar[str] = "none"
    description: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    changes_network: bool = False
    replays: int = 1
    attacks: bool = True
    excludes: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def check(self, loss: Any, attack: Any) -> None:
        """Refuse, before any work, a loss or an inner attack that this does not go with.

        Raises:
            ValueError: as said, with the alternative.
        """

    def check_network(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """Refuse, before any work, a network that this does not go with.

        Args:
            model: the network with all preprocessors in front of it.
            shape: of one input.

        Raises:
            ValueError: as said, with the alternative.
        """

    def check_labels(self, y: np.ndarray, classes: int) -> None:
        """Refuse, before any work, labels (N,) of the training data that this does not go with.

        Raises:
            ValueError: as said.
        """

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """A run begins.

        Args:
            network: what is trained.
            classes: how many.
            seed: of ``self.random``, a generator on the CPU; all ``processes`` draw the same.
            processes: who share each batch.
        """
        self.network, self.classes, self.processes = network, classes, processes
        self.random = torch.Generator().manual_seed(seed)

    def before_batch(self, done: float, epochs: int) -> None:
        """A batch begins; ``done`` epochs, with a fraction, of ``epochs`` are over."""

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The inputs and labels to work with in place of an augmented batch; labels may become shares (N, C)."""
        return x, y

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """The inner attack of this batch, in place of ``attack``."""
        return attack

    def hooks(self) -> bool:
        """Whether `attacking` hooks into the model of this batch's attack, which is then not run compiled."""
        return False

    def attacking(self, model: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
        """Is open while the attack on ``model`` runs."""
        return nullcontext()

    def loss_for(self, loss: Any) -> Any:
        """The loss of this batch, in place of ``loss``."""
        return loss

    def perturbing(
        self, model: nn.Module, loss: Any, x: Tensor, x_adv: Tensor, y: Tensor, progress: float
    ) -> AbstractContextManager[Any]:
        """Is open during the loss on ``model`` and its backward."""
        return nullcontext()

    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """The loss was differentiated; the gradients are there, the optimizer has not stepped yet."""

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """Epoch ``epoch`` (from 0) is over; returns figures for the history."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold: tensors, numbers, dicts and lists of them."""
        return {"random": self.random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        self.random.set_state(state["random"])


class Techniques(Technique):
    """Several techniques as one, each on top of those before it.

    Args:
        parts: in order; the first changes the attack, the loss and the weights first.

    Example:
        >>> together = Techniques([Technique(), Technique()])
        >>> together.attack_for("an attack", torch.rand(1, 2), torch.tensor([0]))
        'an attack'
    """

    name = "several"

    def __init__(self, parts: Sequence[Technique]) -> None:
        self.parts = tuple(parts)
        self.changes_network = any(part.changes_network for part in self.parts)
        self.replays = max([1, *(part.replays for part in self.parts)])
        self.attacks = all(part.attacks for part in self.parts)

    def __repr__(self) -> str:
        """Those of the parts."""
        return repr(list(self.parts))

    def check(self, loss: Any, attack: Any) -> None:
        """Of each."""
        for part in self.parts:
            part.check(loss, attack)

    def check_network(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """Of each."""
        for part in self.parts:
            part.check_network(model, shape)

    def check_labels(self, y: np.ndarray, classes: int) -> None:
        """Of each."""
        for part in self.parts:
            part.check_labels(y, classes)

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """Of each, with a seed of its own."""
        for number, part in enumerate(self.parts):
            part.start(network, classes, seed + number, processes)

    def before_batch(self, done: float, epochs: int) -> None:
        """Of each."""
        for part in self.parts:
            part.before_batch(done, epochs)

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Of the last, for what those before have made of the batch."""
        for part in self.parts:
            x, y = part.batch(x, y)
        return x, y

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """Of the last, for what those before have made of ``attack``."""
        for part in self.parts:
            attack = part.attack_for(attack, x, y)
        return attack

    def hooks(self) -> bool:
        """Of any."""
        return any(part.hooks() for part in self.parts)

    @contextmanager
    def attacking(self, model: nn.Module, x: Tensor) -> Iterator[None]:
        """All are open."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.attacking(model, x))
            yield

    def loss_for(self, loss: Any) -> Any:
        """Of the last, for what those before have made of ``loss``."""
        for part in self.parts:
            loss = part.loss_for(loss)
        return loss

    @contextmanager
    def perturbing(
        self, model: nn.Module, loss: Any, x: Tensor, x_adv: Tensor, y: Tensor, progress: float
    ) -> Iterator[None]:
        """All are open."""
        with ExitStack() as stack:
            for part in self.parts:
                stack.enter_context(part.perturbing(model, loss, x, x_adv, y, progress))
            yield

    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """Of each."""
        for part in self.parts:
            part.after_loss(x, x_adv, logits_adv, y)

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """The figures of all."""
        return {name: value for part in self.parts for name, value in part.after_epoch(epoch, model).items()}

    def state_dict(self) -> dict[str, Any]:
        """Of each."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        for part, saved in zip(self.parts, state["parts"], strict=True):
            part.load_state_dict(saved)
