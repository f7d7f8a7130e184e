"""Runs of the training loop, put together by hand: no trainer is involved."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.averaging import get_averaging
from art_ext.engine import EngineOptions, Run, Schedule, Task
from art_ext.engine.batches import TensorBatches
from art_ext.engine.validation import Validation
from art_ext.losses import get_loss
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 8 / 255)


def build_run(
    net: nn.Module,
    data: tuple[Tensor, Tensor],
    *,
    loss: Any = "pgd-at",
    attack: Callable[..., Tensor] | None = None,
    steps: int = 2,
    averaging: Any = None,
    optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    scheduler: Callable[..., Any] | None = None,
    unit: str = "auto",
    batch_size: int = 8,
    shuffle: bool = True,
    validation: tuple[Tensor, Tensor] | None = None,
    **options: Any,
) -> Run:
    """A run over ``data`` that attacks with PGD, quiet and in float32 unless ``options`` say otherwise."""
    x, y = (np.asarray(t) for t in data)
    given = EngineOptions.of({"precision": "fp32", "progress": False} | options)
    chosen = get_loss(loss)
    model = DefendedModel(PyTorchClassifier(net, nn.CrossEntropyLoss(), x.shape[1:], 4, preprocessing=None))
    sgd = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)))(net.parameters())

    def native(model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        kwargs = {"objective": chosen.objective, "random_start": chosen.start, "generator": generator}
        return pgd(model, x, y, threat=THREAT, steps=steps, **kwargs)

    schedule = Schedule(scheduler(sgd) if scheduler else None, unit)
    task = Task(model, sgd, chosen, attack or native, get_averaging(averaging), schedule)
    batches = TensorBatches(
        x, y, batch_size=batch_size, device=model.device, shuffle=shuffle, channels_last=given.channels_last
    )
    held_out = validation and Validation(*validation, THREAT, 2, 8, given.seed)
    return Run(task, batches, held_out, given)


@pytest.fixture
def make_run(conv_model: nn.Module, images: tuple[Tensor, Tensor]) -> Callable[..., Run]:
    """`build_run` around the small convolutional network, or ``net=``, on 16 images: two batches an epoch."""

    def make(net: nn.Module = conv_model, **arguments: Any) -> Run:
        return build_run(net, images, **arguments)

    return make
