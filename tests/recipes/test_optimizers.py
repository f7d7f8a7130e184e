"""Optimizers and schedules by name."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from art_ext.recipes import OptimizerSection, ScheduleSection, load_recipe
from art_ext.recipes.optimizers import OPTIMIZERS, make_optimizer, make_schedule


def rates(optimizer: OptimizerSection, schedule: ScheduleSection, epochs: int) -> list[float]:
    """The learning rate of each epoch, and the one after the last."""
    made = make_optimizer(optimizer)([nn.Parameter(torch.zeros(1))])
    stepping = make_schedule(schedule, made, epochs=epochs)
    found = [made.param_groups[0]["lr"]]
    for _ in range(epochs):
        made.step()
        if stepping is not None:
            stepping.step()
        found.append(made.param_groups[0]["lr"])
    return found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_the_rate_and_decay_of_the_section(name: str) -> None:
    made = make_optimizer(OptimizerSection(name=name, lr=0.3, weight_decay=0.02))([nn.Parameter(torch.zeros(1))])
    assert (made.defaults["lr"], made.defaults["weight_decay"]) == (0.3, 0.02)


@pytest.mark.parametrize(
    "schedule, expected",
    [
        (ScheduleSection(), [1.0, 1.0, 1.0, 1.0, 1.0]),
        (ScheduleSection(name="multistep", options={"milestones": [0.5, 0.75]}), [1.0, 1.0, 0.1, 0.01, 0.01]),
        (ScheduleSection(name="multistep", options={"milestones": [0.5], "gamma": 0.5}), [1.0, 1.0, 0.5, 0.5, 0.5]),
        (ScheduleSection(name="cosine"), [(1 + math.cos(math.pi * e / 4)) / 2 for e in range(5)]),
        (
            ScheduleSection(name="cosine", options={"minimum": 0.2}),
            [0.2 + 0.8 * (1 + math.cos(math.pi * e / 4)) / 2 for e in range(5)],
        ),
        (ScheduleSection(name="piecewise-linear"), [1.0, 1.0, 1.0, 0.1, 0.01]),
    ],
    ids=["constant", "multistep", "gamma", "cosine", "minimum", "piecewise-linear"],
)
def test_schedules(schedule: ScheduleSection, expected: list[float]) -> None:
    assert rates(OptimizerSection(lr=1.0), schedule, 4) == pytest.approx(expected)


CNN = {"resnet18": (120, 0.01, 3.5e-3), "wrn-32-10": (180, 0.1, 7e-4)}
PAPER: list[Any] = [
    *[(f"piat-{data}-{net}", *CNN[net], {0.5: 1, 0.75: 0.1, 1: 0.01}) for data in ("cifar10", "svhn") for net in CNN],
    *[(f"piat-cifar100-{net}", 40, 0.1, 1e-4, {0.875: 1, 0.9: 0.1, 0.95: 0.01}) for net in ("vit-b", "convit-b")],
]


@pytest.mark.parametrize("name, epochs, lr, decay, shares", PAPER, ids=[row[0] for row in PAPER])
def test_the_papers_schedules(name: str, epochs: int, lr: float, decay: float, shares: dict[float, float]) -> None:
    recipe = load_recipe(name)
    assert (recipe.trainer.nb_epochs, recipe.optimizer.weight_decay) == (epochs, decay)
    assert recipe.optimizer.options == {"momentum": 0.9}
    found = rates(recipe.optimizer, recipe.schedule, epochs)
    assert [found[round(share * epochs)] for share in shares] == pytest.approx([lr * f for f in shares.values()])
