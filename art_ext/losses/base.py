"""What every training loss is, and the registry it enters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from art_ext.naming import lookup
from art_ext.technique import Technique


class LossOutput(NamedTuple):
    """The loss, a scalar, and the training-mode logits on the adversarial inputs (N, C) it was made of, if of any.

    ``figures``: parts of the loss, scalars by name; the history shows their means over an epoch.
    """

    value: Tensor
    logits_adv: Tensor | None
    figures: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A training loss: hyper-parameters, what its inner attack maximises, and which forwards it needs.

    A subclass defines ``__call__`` and, where they differ, the class variables:

    - ``objective`` and ``start``: objective and random start of the inner attack (`art_ext.attacks.pgd`);
    - ``forwards``: ``"adv"`` (adversarial inputs only), ``"joint"`` (one forward of [clean; adversarial], so BatchNorm
      sees both together) or ``"separate"`` (two forwards, clean first);
    - ``soft_labels``: labels may also be shares of the classes, float (N, C), as mixup makes them.
    """

    name: ClassVar[str] = "custom"
    description: ClassVar[str] = "given by the user"
    paper: ClassVar[str] = ""
    objective: ClassVar[str] = "ce"
    start: ClassVar[str] = "uniform"
    forwards: ClassVar[str] = "adv"
    soft_labels: ClassVar[bool] = False

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """The loss as a scalar.

        Args:
            logits: on the clean inputs, (N, C); None where ``forwards`` is ``"adv"``.
            logits_adv: on the adversarial inputs, (N, C).
            y: labels (N,), int64.
            progress: share of the planned epochs already done, in [0, 1): for what switches on later.
        """
        raise TypeError(f"{type(self).__name__} defines no __call__")

    def technique(self) -> Technique | None:
        """What this loss needs to be told while it trains, in a run of its own; most need nothing."""
        return None

    def compute(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> LossOutput:
        """The forwards this loss needs, in train mode, and its value. Override for a loss of more than logits."""
        if self.forwards == "adv":
            logits, logits_adv = None, model(x_adv)
        elif self.forwards == "joint":
            logits, logits_adv = model(torch.cat((x, x_adv))).chunk(2)
        else:
            logits, logits_adv = model(x), model(x_adv)
        return LossOutput(self(logits, logits_adv, y, progress=progress), logits_adv)


@dataclass(frozen=True, kw_only=True)
class FunctionLoss(Loss):
    """A plain function (logits, logits_adv, y) -> scalar as a loss, with two separate forwards."""

    forwards: ClassVar[str] = "separate"
    function: Callable[[Tensor, Tensor, Tensor], Tensor]

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """The function's value."""
        assert logits is not None
        return self.function(logits, logits_adv, y)


LOSSES: dict[str, type[Loss]] = {}
L = TypeVar("L", bound=type[Loss])


def register(name: str, description: str, *, paper: str) -> Callable[[L], L]:
    """Class decorator: put a `Loss` into the registry, from which README, command line and tests read."""

    def enter(cls: L) -> L:
        if name in LOSSES:
            raise ValueError(f"a loss named {name!r} is registered already: {LOSSES[name].__name__}")
        cls.name, cls.description, cls.paper = name, description, paper
        LOSSES[name] = cls
        return cls

    return enter


def get_loss(loss: str | Loss | Callable[[Tensor, Tensor, Tensor], Tensor], **options: Any) -> Loss:
    """The loss of that registered name with these hyper-parameters; a `Loss` as it is; a function wrapped.

    Raises:
        ValueError: unknown name (the nearest one is proposed).
        TypeError: unknown hyper-parameter, or hyper-parameters beside a loss object.

    Example:
        >>> get_loss("trades", beta=3.0).beta
        3.0
    """
    if isinstance(loss, str):
        cls = lookup(LOSSES, loss, what="loss")
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise TypeError(f"loss {loss!r} takes {', '.join(sorted(known)) or 'no options'}; got {', '.join(unknown)}")
        return cls(**options)
    if options:
        raise TypeError(f"loss options {sorted(options)} go with a loss given by name; got {loss!r}")
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return FunctionLoss(function=loss)
    raise TypeError(f"loss must be a registered name, a Loss or a function; got {type(loss).__name__}")
