"""The zoo itself: its defenses keep the accuracy, look robust to plain PGD, and are not."""

from functools import cache

import pytest
import timm
import torch
from torch import Tensor, nn

import art_ext.nn.cifar  # noqa: F401  (registers the networks with timm)
from art_ext.attacks import pgd
from art_ext.isolation import seeded
from art_ext.threat import ThreatModel
from tests.evaluation.zoo.broken import UNDEFENDED, ZOO, Broken
from tests.evaluation.zoo.honest import HONEST, Honest
from tests.evaluation.zoo.networks import CHECKPOINTS, cifar_images, load_network

EPS = 8 / 255
CLEAN = 200  # images
KINDS = ("zero", "vanishing", "unavailable", "nan", "misleading", "random", "plain")
every = pytest.mark.parametrize("broken", ZOO, ids=lambda broken: broken.id)


@cache
def base() -> nn.Module:
    return load_network("resnet20")


@torch.no_grad()
def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Share of right predictions; an attack that returned NaN has achieved nothing, so such images count as right."""
    with seeded(0):
        right = (model(x).argmax(1) == y) | ~x.flatten(1).isfinite().all(1)
    return right.float().mean().item()


def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Plain PGD-20 on cross entropy."""
    with seeded(0):
        return pgd(model, x, y, threat=ThreatModel("linf", EPS), steps=20, step_size=EPS / 4)


@cache
def clean_accuracy() -> float:
    return accuracy(base(), *cifar_images(CLEAN))


@cache
def transferred() -> Tensor:
    """What breaks the undefended network on the first images."""
    x, y = cifar_images(max(broken.attacked for broken in ZOO))
    return attack(base(), x, y)


@pytest.fixture(scope="module")
def tiny() -> nn.Module:
    """A random network of the same shapes, which needs no data and does not always say the same class."""
    with seeded(0), torch.no_grad():
        net = timm.create_model("preact_resnet_cifar", width=4, blocks=1).eval()
        net.linear.bias -= net(torch.rand(32, 3, 32, 32)).mean(0)
    return net


def test_ids_are_unique_and_kinds_known() -> None:
    for animals in (ZOO, HONEST):
        assert len({animal.id for animal in animals}) == len(animals)
    assert {broken.gradient for broken in ZOO} == set(KINDS)
    assert len(ZOO) >= 14
    assert len(HONEST) >= 8


@every
def test_shape_and_randomness(broken: Broken, tiny: nn.Module) -> None:
    model = broken.build(tiny).eval()
    x = torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    with seeded(0), torch.no_grad():
        passes = [model(x) for _ in range(4)]
    assert passes[0].shape == (16, 10)
    assert passes[0].isfinite().all()
    assert all(torch.equal(passes[0], other) for other in passes[1:]) != broken.randomised
    assert torch.equal(x, before)
    assert not model.training


def input_gradient(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    leaf = x.clone().requires_grad_(True)
    with seeded(1):
        (grad,) = torch.autograd.grad(nn.functional.cross_entropy(model(leaf), y, reduction="sum"), leaf)
    return grad


@pytest.mark.data
@every
def test_gradient_is_of_the_declared_kind(broken: Broken) -> None:
    x, y = cifar_images(8)
    model, inner = broken.build(base()).eval(), base()
    for p in inner.parameters():
        p.requires_grad_(False)
    if broken.gradient == "unavailable":
        with pytest.raises(RuntimeError, match="does not require grad"):
            input_gradient(model, x, y)
        return
    grad, plain = input_gradient(model, x, y), input_gradient(inner, x, y)
    zeros = (grad == 0).float().mean().item()
    agree = ((grad.sign() == plain.sign()) & (grad != 0)).float().mean().item()
    said = {
        "zero": zeros == 1,
        "nan": bool(grad.isnan().all()),
        "vanishing": zeros > 0.5,
        "misleading": zeros < 0.1 and agree < 0.65,
        "random": zeros < 0.1 and agree > 0.5,
        "plain": zeros < 0.1 and agree > 0.5,
    }
    assert said[broken.gradient], f"{zeros:.1%} zeros, {agree:.1%} signs as in the undefended network"


@pytest.mark.data
@every
def test_keeps_clean_accuracy(broken: Broken) -> None:
    kept = accuracy(broken.build(base()).eval(), *cifar_images(CLEAN))
    assert kept >= clean_accuracy() - 0.05


@pytest.mark.data
@pytest.mark.slow
@every
def test_looks_robust_to_plain_pgd(broken: Broken) -> None:
    x, y = cifar_images(broken.attacked)
    undefended = accuracy(base(), transferred()[: len(x)], y)
    assert undefended <= 0.05
    model = broken.build(base()).eval()
    left = accuracy(model, attack(model, x, y), y)
    assert left >= 0.3 if broken.looks_robust else left <= 0.2


@pytest.mark.data
@pytest.mark.parametrize("broken", [b for b in ZOO if b.true_robustness == UNDEFENDED], ids=lambda broken: broken.id)
def test_is_broken_by_what_breaks_the_undefended_network(broken: Broken) -> None:
    x_adv = transferred()[: broken.attacked]
    left = accuracy(broken.build(base()).eval(), x_adv, cifar_images(len(x_adv))[1])
    assert left <= 0.1


@pytest.mark.data
@pytest.mark.parametrize("key", CHECKPOINTS)
def test_networks_are_fresh_and_in_eval_mode(key: str) -> None:
    one, two = load_network(key), load_network(key)
    assert one is not two
    assert not any(module.training for module in one.modules())
    x, _ = cifar_images(2)
    assert one(x).shape == (2, 10)


@pytest.mark.parametrize(
    "honest",
    [
        pytest.param(h, id=h.id, marks=pytest.mark.data if h.needs_data else pytest.mark.slow if "CNN" in h.id else ())
        for h in HONEST
    ],
)
def test_honest_networks_have_learned(honest: Honest) -> None:
    x, y = honest.images(CLEAN)
    model = honest.model()
    assert model is not honest.model()
    assert not model.training
    assert 0 <= x.min() < x.max() <= 1
    reached = accuracy(model, x, y)
    assert reached >= honest.accuracy
