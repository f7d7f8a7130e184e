"""Two-class linear models, whose exact worst case is one line of numpy, and what attacks may do wrong."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.threat import ThreatModel

SHAPE = (3, 4, 4)


class Wrapped(nn.Module):
    """A network that is not a Sequential."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def classifier_of(
    net: nn.Module, shape: tuple[int, ...] = SHAPE, classes: int = 2, **options: object
) -> PyTorchClassifier:
    options = {"clip_values": (0.0, 1.0)} | options
    return PyTorchClassifier(net, nn.CrossEntropyLoss(), shape, classes, **options)


@dataclass(frozen=True)
class Linear:
    """f(x) = sign(w·x + b) as a network with two logits, with images of which some are misclassified."""

    net: nn.Sequential
    x: np.ndarray
    y: np.ndarray

    @property
    def classifier(self) -> PyTorchClassifier:
        return classifier_of(self.net)

    def worst_margins(self, threat: ThreatModel) -> np.ndarray:
        """Exact lowest margin of the true class within the threat model, in float64."""
        weight, bias = (p.detach().double().numpy() for p in (self.net[1].weight, self.net[1].bias))
        w, b = weight[1] - weight[0], bias[1] - bias[0]
        sign = 2.0 * self.y - 1
        x, eps = self.x.reshape(len(self.x), -1).astype(float), np.asarray(threat.eps, float).reshape(-1, 1)
        if threat.norm == "l2":
            assert threat.clip is None, "no closed form"
            return sign * (x @ w + b) - eps[:, 0] * np.linalg.norm(w)
        worst = x - eps * np.sign(sign[:, None] * w)
        return sign * ((worst if threat.clip is None else worst.clip(*threat.clip)) @ w + b)


def make_linear(seed: int, n: int = 60) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    x = torch.rand(n, *SHAPE, generator=generator)
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(generator=generator)
        margins = net(x).diff(dim=1).squeeze(1)
        net[1].bias[1] -= margins.median() + 0.01  # both classes occur, and no example lies on the boundary
        y = net(x).argmax(1).numpy()
    y[:5] = 1 - y[:5]
    return Linear(net, x.numpy(), y)


@pytest.fixture
def linear() -> Linear:
    return make_linear(0)


@pytest.fixture
def make() -> Callable[..., Linear]:
    return make_linear


@pytest.fixture
def as_classifier() -> Callable[..., PyTorchClassifier]:
    return classifier_of


@pytest.fixture
def wrapped() -> Callable[[nn.Module], nn.Module]:
    return Wrapped


@pytest.fixture
def constant(linear: Linear) -> Linear:
    """Logits that depend on the input, by far too little for a change of class: every attack runs to its last step."""
    with torch.no_grad():
        linear.net[1].weight.mul_(1e-3)
        linear.net[1].bias.copy_(torch.tensor([5.0, 0.0]))
    return Linear(linear.net, linear.x[:20], np.zeros(20, np.int64))
