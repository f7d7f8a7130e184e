"""Optimizers and learning-rate schedules by the names that recipes use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR

from art_ext.engine import WarmUp, piecewise_linear
from art_ext.naming import lookup
from art_ext.recipes.options import check_options
from art_ext.recipes.training_sections import OptimizerSection, ScheduleSection

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
}


def constant(optimizer: Optimizer, *, epochs: int) -> None:
    """The learning rate stays what it is."""


def multistep(optimizer: Optimizer, *, epochs: int, milestones: Sequence[float], gamma: float = 0.1) -> MultiStepLR:
    """Multiplied by ``gamma`` after these shares of the epochs: 0.9 and 0.95 are epochs 36 and 38 of 40."""
    if not all(0 < share < 1 for share in milestones):
        raise ValueError(f"milestones must be shares of the epochs, in (0, 1); got {list(milestones)}")
    return MultiStepLR(optimizer, [round(share * epochs) for share in milestones], gamma)


def cosine(optimizer: Optimizer, *, epochs: int, minimum: float = 0.0) -> CosineAnnealingLR:
    """Half a cosine from the learning rate down to ``minimum`` at the end of the last epoch."""
    return CosineAnnealingLR(optimizer, epochs, minimum)


SCHEDULES: dict[str, Callable[..., LRScheduler | None]] = {
    "constant": constant,
    "piecewise-linear": piecewise_linear,
    "multistep": multistep,
    "cosine": cosine,
}


def make_optimizer(section: OptimizerSection) -> Callable[[Iterable[nn.Parameter]], Optimizer]:
    """A function from parameters to their optimizer; one that looks at layers is a `LayerwiseOptimizer`.

    Raises:
        ValueError: unknown name or option, a value out of its range.

    Example:
        >>> make = make_optimizer(OptimizerSection(name="sgd", lr=0.1, options={"momentum": 0.9}))
        >>> make([nn.Parameter(torch.zeros(1))]).defaults["momentum"]
        0.9
    """
    cls = lookup(OPTIMIZERS, section.name, what="optimizer")
    check_options(section.options, cls, f"optimizer {section.name!r}", given=("params", "lr", "weight_decay"))
    if section.layer_decay is None and not section.filter_bias_and_bn:
        return partial(cls, lr=section.lr, weight_decay=section.weight_decay, **section.options)
    from art_ext.adapters.timm import LayerwiseOptimizer

    by_layer: Callable[[Iterable[nn.Parameter]], Optimizer] = LayerwiseOptimizer(
        cls,
        lr=section.lr,
        weight_decay=section.weight_decay,
        layer_decay=section.layer_decay,
        filter_bias_and_bn=section.filter_bias_and_bn,
        **section.options,
    )
    return by_layer


def make_schedule(section: ScheduleSection, optimizer: Optimizer, *, epochs: int) -> LRScheduler | WarmUp | None:
    """The schedule of this optimizer over so many epochs; None where the rate is constant from the first batch on.

    Raises:
        ValueError: unknown name or option, a missing option, a value out of its range.

    Example:
        >>> sgd = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> schedule = make_schedule(ScheduleSection(name="multistep", options={"milestones": [0.9]}), sgd, epochs=40)
        >>> dict(schedule.milestones)
        {36: 1}
    """
    make = lookup(SCHEDULES, section.name, what="schedule")
    check_options(section.options, make, f"schedule {section.name!r}", given=("optimizer", "epochs"))
    made = make(optimizer, epochs=epochs, **section.options)
    return WarmUp(optimizer, epochs=section.warmup * epochs, scheduler=made) if section.warmup else made


def check_schedule(optimizer: OptimizerSection, schedule: ScheduleSection, *, epochs: int) -> None:
    """Try both on a parameter of their own; errors as `make_optimizer` and `make_schedule`."""
    make_schedule(schedule, make_optimizer(optimizer)([nn.Parameter(torch.zeros(1))]), epochs=epochs)
