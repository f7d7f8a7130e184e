"""Real networks for CIFAR-10, and its first test images; a test is skipped where they are missing."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

import art_ext.nn.cifar  # noqa: F401  (registers the networks with timm)
from art_ext.data import DATA_VARIABLE, load
from art_ext.nn.normalize import Normalized

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
KEPT = 1000  # test images that stay in memory


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, the network it belongs to, and the normalisation it was trained with."""

    file: str
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


CHECKPOINTS = {
    "resnet20": Checkpoint("cifar10_resnet20_std.pth", "resnet20_cifar", *IMAGENET),
    "cnn-a": Checkpoint("cifar10_cnn_a_adv4.pth", "cnn_a_cifar", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "wide-kw": Checkpoint("cifar10_wide_kw.pth", "cnn_a_cifar", (0.485, 0.456, 0.406), (0.225,) * 3),
}


def load_network(key: str) -> nn.Module:
    """A network of its own, from [0, 1] images (N, 3, 32, 32) to logits, in eval mode."""
    checkpoint = CHECKPOINTS[key]
    file = Path(os.environ.get(DATA_VARIABLE, ""), "weights", checkpoint.file)
    if not file.is_file():
        pytest.skip(f"no {file}")
    network = timm.create_model(checkpoint.name)
    network.load_state_dict(torch.load(file, weights_only=True))
    return Normalized(network, checkpoint.mean, checkpoint.std).eval()


def cifar_images(n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` test images, float32 (n, 3, 32, 32) in [0, 1], and their labels (n,)."""
    x, y = _cifar_test()
    return x[:n].clone(), y[:n].clone()


@cache
def _cifar_test() -> tuple[Tensor, Tensor]:
    try:
        *_, x, y = load("cifar10")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return torch.from_numpy(x[:KEPT].copy()), torch.from_numpy(y[:KEPT].copy())
