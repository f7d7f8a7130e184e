"""The attack's twin of a model: the same function, cheaper; never a wrong one."""

import copy

import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks.objectives import get_objective
from art_ext.attacks.pgd import input_gradient
from art_ext.engine.precision import InPrecision
from art_ext.engine.twin import attack_twin
from art_ext.model import DefendedModel
from art_ext.preprocessors import NoiseInjection

CPU = torch.device("cpu")


def defended(net: nn.Module) -> DefendedModel:
    return DefendedModel(PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 8, 8), 4, preprocessing=None))


def in_bf16(model: nn.Module) -> nn.Module:
    return InPrecision(model, CPU, "bf16")


def with_statistics(net: nn.Module) -> nn.Module:
    """BatchNorm with statistics and weights of its own, so that leaving one out shows."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for m in net.modules():
            if isinstance(m, nn.BatchNorm2d) and m.running_mean is not None:
                m.running_mean.normal_()
                m.running_var.uniform_(0.5, 2)
                if m.affine:
                    nn.init.normal_(m.weight, 1.0, 0.3)
                    nn.init.normal_(m.bias)
    return net.eval()


class Shortcut(nn.Module):
    """The output of the convolution is used beside its BatchNorm, as at the stem of a pre-activation network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.head((h + self.norm(h).relu()).mean((2, 3)))


class Hidden(Shortcut):
    """As above, where no gradient shows it."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv(x)
        return self.head((h.detach() + self.norm(h).relu()).mean((2, 3)))


class Twice(Shortcut):
    """One BatchNorm after two uses of a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head((self.norm(self.conv(x)).relu() + self.norm(self.conv(x**2)).relu()).mean((2, 3)))


class Float32Head(Shortcut):
    """The last layer insists on float32."""

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).relu().mean((2, 3))
        with torch.autocast("cpu", enabled=False):
            return self.head(h.float())


class Bound(Shortcut):
    """Keeps a method of its own, as libraries do that patch ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = self.through

    def through(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)).relu().mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))


FOLDED = {  # network -> BatchNorms left
    "bias and affine": (lambda: sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), 0),
    "no bias": (lambda: sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)), 0),
    "no affine": (lambda: sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4, affine=False)), 0),
    "groups": (lambda: sequential(nn.Conv2d(3, 6, 3, groups=3), nn.BatchNorm2d(6)), 0),
    "batch statistics": (lambda: sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), 1),
    "norm first": (lambda: sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), 1),
    "dropout": (lambda: sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)), 0),
    "shortcut": (Shortcut, 1),
    "used twice": (Twice, 1),
    "bound method": (Bound, 0),
}


@pytest.fixture
def build(images):
    def make(recipe) -> DefendedModel:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = recipe()
            net(images[0])  # lazy layers
        return defended(with_statistics(net))

    return make


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def assert_alike(twin: nn.Module, model: nn.Module, x: Tensor) -> None:
    """Logits and input gradients agree as far as bf16 does."""
    model.eval()
    torch.testing.assert_close(in_bf16(twin)(x), model(x), rtol=0.05, atol=0.05)
    y, goal = torch.arange(len(x)) % 4, get_objective("ce")
    of_twin, of_model = (input_gradient(m, x, y, goal)[0].flatten() for m in (in_bf16(twin), model))
    assert torch.cosine_similarity(of_twin, of_model, dim=0) > 0.95


@pytest.mark.parametrize("recipe, left", FOLDED.values(), ids=FOLDED)
def test_same_function_with_fewer_layers(build, images, recipe, left):
    model = build(recipe)
    before = copy.deepcopy(model.state_dict())
    twin = attack_twin(model, images[0], in_bf16)
    assert twin is not None
    assert norms(twin.model) == left
    assert_alike(twin.model, model, images[0])
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


@pytest.mark.parametrize("recipe", [Hidden, Float32Head])
def test_none_rather_than_a_wrong_one(build, images, recipe):
    assert attack_twin(build(recipe), images[0], in_bf16) is None


def test_none_of_what_cannot_be_copied(build, images):
    model = build(Shortcut)
    model.network.made = torch.ones(2, requires_grad=True) * 2  # no leaf of the graph
    assert attack_twin(model, images[0], in_bf16) is None


def test_follows_the_training(build, images):
    model = build(Bound)
    twin = attack_twin(model, images[0], in_bf16)
    model.train()
    for _ in range(3):
        model(images[0]).square().mean().backward()
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.5 * p.grad
    twin.refresh()
    assert_alike(twin.model, model, images[0])


def test_leaves_modes_random_state_and_hooks_alone(build, images):
    model = build(FOLDED["dropout"][0])
    model.network.train()
    state, modes = torch.get_rng_state(), [m.training for m in model.modules()]
    twin = attack_twin(model, images[0], in_bf16)
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model.modules()] == modes
    assert not any(m._forward_hooks for m in (*model.modules(), *twin.model.modules()))
    assert all(not m.training for m in twin.model.network.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_a_noisy_input_does_not_stand_in_the_way(conv_model, images):
    noise = NoiseInjection(scale=0.1)
    given = PyTorchClassifier(
        conv_model, nn.CrossEntropyLoss(), (3, 8, 8), 4, preprocessing=None, preprocessing_defences=[noise]
    )
    twin = attack_twin(DefendedModel(given).eval(), images[0], in_bf16)
    assert twin is not None
    assert len([m for m in twin.model.modules() if isinstance(m, nn.BatchNorm2d)]) == 0


def test_what_a_hook_watches_stays(build, images):
    model, seen = build(FOLDED["no bias"][0]), []
    model.network[1].register_forward_hook(lambda module, args, out: seen.append(out))
    twin = attack_twin(model, images[0], in_bf16)
    seen.clear()
    in_bf16(twin.model)(images[0])
    assert (norms(twin.model), len(seen)) == (1, 1)
