"""Honest networks, weak and strong: nothing in an evaluation of them may raise an alarm."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

import art_ext.nn.cifar  # noqa: F401  (registers the networks with timm)
from art_ext.attacks import pgd
from art_ext.data import load
from art_ext.isolation import seeded
from art_ext.threat import ThreatModel
from tests.evaluation.zoo.networks import cifar_images, load_network


@dataclass(frozen=True, kw_only=True)
class Honest:
    """A network without tricks, its images and a radius.

    Args:
        id: its name in tests.
        description: one line.
        model: makes it, in eval mode; each call gives a network of its own.
        images: first test images (n, C, H, W) in [0, 1] and labels (n,).
        eps: of an ℓ∞ threat model under which the verdict should be "trusted".
        needs_data: reads ``ART_EXT_DATA``; the others train themselves in a few seconds.
        accuracy: clean accuracy that it surely reaches.
    """

    id: str
    description: str
    model: Callable[[], nn.Module]
    images: Callable[[int], tuple[Tensor, Tensor]]
    eps: float
    needs_data: bool = False
    accuracy: float = 0.5


@cache
def _arrays(name: str) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in load(name))


def _test_images(n: int, *, data: str) -> tuple[Tensor, Tensor]:
    *_, x, y = _arrays(data)
    return x[:n].clone(), y[:n].clone()


def small_cnn() -> nn.Module:
    return timm.create_model("small_cnn", width=8)


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def residual() -> nn.Module:
    return timm.create_model("preact_resnet_cifar", width=8, blocks=1, in_chans=1)


def vit() -> nn.Module:
    return VisionTransformer(
        img_size=8, patch_size=2, in_chans=1, num_classes=10, embed_dim=32, depth=2, num_heads=2, mlp_ratio=2
    )


def trained(
    make: Callable[[], nn.Module], *, data: str, epochs: int, lr: float = 3e-3, n: int = 5000, eps: float = 0.0
) -> nn.Module:
    """``make()`` trained with Adam on the first ``n`` images; adversarially (PGD-3) where ``eps`` is given."""
    return copy.deepcopy(_trained(make, data, epochs, lr, n, eps))


@cache
def _trained(make: Callable[[], nn.Module], data: str, epochs: int, lr: float, n: int, eps: float) -> nn.Module:
    x, y = (tensor[:n] for tensor in _shuffled(data))
    with seeded(0):
        net = make().train()
        optimizer = torch.optim.Adam(net.parameters(), lr)
        for _ in range(epochs):
            for index in torch.randperm(len(x)).split(64):
                images, labels = x[index], y[index]
                if eps:
                    images = pgd(net, images, labels, threat=ThreatModel("linf", eps), steps=3)
                optimizer.zero_grad()
                F.cross_entropy(net(images), labels).backward()
                optimizer.step()
    return net.eval()


def _shuffled(data: str) -> tuple[Tensor, Tensor]:
    x, y, *_ = _arrays(data)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order], y[order]


def _of_digits(
    make: Callable[[], nn.Module], id: str, description: str, epochs: int, lr: float = 3e-3, accuracy: float = 0.85
) -> Honest:
    model, images = partial(trained, make, data="digits", epochs=epochs, lr=lr), partial(_test_images, data="digits")
    return Honest(id=id, description=description, model=model, images=images, eps=0.1, accuracy=accuracy)


_fashion = partial(_test_images, data="fashion-mnist-5k")
_cifar = {"images": cifar_images, "needs_data": True}

HONEST = (
    Honest(
        id="ResNet-20, large ε",
        description="standard training, broken entirely",
        model=partial(load_network, "resnet20"),
        eps=8 / 255,
        accuracy=0.88,
        **_cifar,
    ),
    Honest(
        id="ResNet-20, small ε",
        description="standard training, broken in part",
        model=partial(load_network, "resnet20"),
        eps=1 / 255,
        accuracy=0.88,
        **_cifar,
    ),
    Honest(
        id="CNN-A",
        description="adversarially trained, without BatchNorm",
        model=partial(load_network, "cnn-a"),
        eps=4 / 255,
        **_cifar,
    ),
    Honest(
        id="wide KW",
        description="trained for certificates, without BatchNorm",
        model=partial(load_network, "wide-kw"),
        eps=4 / 255,
        **_cifar,
    ),
    Honest(
        id="small CNN",
        description="standard training on Fashion-MNIST, without BatchNorm",
        model=partial(trained, small_cnn, data="fashion-mnist-5k", epochs=2, n=3000),
        images=_fashion,
        eps=0.02,
        accuracy=0.65,
    ),
    Honest(
        id="small CNN, adversarially trained",
        description="PGD-3 training on Fashion-MNIST, ε = 0.05",
        model=partial(trained, small_cnn, data="fashion-mnist-5k", epochs=2, n=2000, eps=0.05),
        images=_fashion,
        eps=0.05,
        accuracy=0.55,
    ),
    _of_digits(linear, "linear", "a linear model of digits: its gradient is the same everywhere", 20, 0.02),
    _of_digits(residual, "residual, BatchNorm", "a small pre-activation ResNet on digits", 4),
    _of_digits(vit, "ViT", "a tiny vision transformer (LayerNorm, GELU, attention) on digits", 20, 5e-3, 0.75),
)
