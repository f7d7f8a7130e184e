"""The last layer is found, and widened so that the old logits stay."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations

from art_ext.nn.heads import find_head, widen

CLASSES, EXTRA = 4, 3
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def of_timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=CLASSES).eval()


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, CLASSES, 1), nn.Flatten())


def hidden_of_the_same_size() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES), nn.ReLU(), nn.Linear(CLASSES, CLASSES, bias=False))


FOUND = {
    "linear": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES)), "1"),
    "convolution": (convolutional, "2"),
    "hidden layer of the same size": (hidden_of_the_same_size, "3"),
    "timm resnet": (of_timm("test_resnet"), "fc"),
    "timm efficientnet": (of_timm("test_efficientnet"), "classifier"),
    "timm convnext": (of_timm("test_convnext"), "head.fc"),
    "timm vit": (lambda: timm.create_model("test_vit", num_classes=CLASSES, img_size=32).eval(), "head"),
}


@pytest.mark.parametrize("make, name", FOUND.values(), ids=FOUND)
def test_old_logits_stay_and_new_ones_follow(make: Callable[[], nn.Module], name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = make()
    assert find_head(net, X, classes=CLASSES) == name
    assert find_head(net, X, classes=CLASSES, name=name) == name
    before = net(X)
    widen(net, name, EXTRA)
    assert net(X).shape == (2, CLASSES + EXTRA)
    torch.testing.assert_close(net(X)[:, :CLASSES], before)
    assert net(X)[:, CLASSES:].std() > 0


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3072, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.fc(x.flatten(1))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(3072, CLASSES)))


REFUSED = {
    "something behind the last layer": (Doubled, None, r"cannot be found \(layers with 4 outputs: 'fc'\); give head="),
    "no layer of that size": (lambda: nn.Flatten(), None, r"layers with 4 outputs: none"),
    "computed weight": (weight_normed, None, r"give head="),
    "no such layer": (Doubled, "fcc", r"head='fcc' is no layer of Doubled; its last layers are 'fc'"),
    "another size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 5)), "1", "cannot be widened.*with 4 outputs"),
    "no linear layer": (convolutional, "1", r"head='1' is AdaptiveAvgPool2d.*which cannot be widened"),
}


@pytest.mark.parametrize("make, name, told", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_widened(make: Callable[[], nn.Module], name: str | None, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        find_head(make(), X, classes=CLASSES, name=name)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, lr=0.1),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_the_optimizer_goes_on_with_the_old_rows_as_before(make: Callable[..., torch.optim.Optimizer]) -> None:
    """As long as the loss sees the old logits alone, the old rows make the steps that they would have made."""
    narrow = nn.Sequential(nn.Flatten(), nn.Linear(3072, CLASSES))
    optimizer = make(narrow.parameters())

    def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        net(X)[:, :CLASSES].square().sum().backward()
        optimizer.step()

    step(narrow, optimizer)
    wide, other = copy.deepcopy((narrow, optimizer))
    widen(wide, "1", EXTRA, other)
    assert all(any(p is q for q in wide.parameters()) for p in other.param_groups[0]["params"])
    step(narrow, optimizer)
    step(wide, other)
    torch.testing.assert_close(wide[1].weight[:CLASSES], narrow[1].weight)
    torch.testing.assert_close(wide[1].bias[:CLASSES], narrow[1].bias)
