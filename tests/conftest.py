"""Fixtures that all tests share: where the data sets lie, and models so small that a test takes milliseconds."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

DATA_VARIABLE = "ART_EXT_DATA"
_BESIDE_THE_CHECKOUT = Path(__file__).resolve().parents[2] / "shared" / "data"

if _BESIDE_THE_CHECKOUT.is_dir():
    os.environ.setdefault(DATA_VARIABLE, str(_BESIDE_THE_CHECKOUT))


def _data_folder() -> Path:
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        pytest.skip(f"the environment variable {DATA_VARIABLE} names no folder of data sets")
    if not Path(folder).is_dir():
        pytest.skip(f"{DATA_VARIABLE}={folder} is not a folder")
    return Path(folder)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data"):
        _data_folder()


@pytest.fixture
def data_dir() -> Path:
    """The folder of data sets; the test is skipped where there is none."""
    return _data_folder()


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with the weights of `seed`, in eval mode; the process's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build().eval()


@pytest.fixture
def linear_model() -> nn.Module:
    """A linear classifier of 3×8×8 images into 4 classes: its worst case has a closed form."""
    return seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4)))


@pytest.fixture
def conv_model() -> nn.Module:
    """Convolution, BatchNorm, ReLU, pooling, linear: 3×8×8 images into 4 classes."""
    return seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 4),
        )
    )


@pytest.fixture
def mlp_model() -> nn.Module:
    """A multilayer perceptron of points in the plane into 2 classes."""
    return seeded(lambda: nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 2)))


@pytest.fixture
def trainable() -> Callable[..., PyTorchClassifier]:
    """Makes an ART classifier with SGD of a network, by default one of 3×8×8 images in [0, 1] into 4 classes."""

    def make(
        net: nn.Module, shape: tuple[int, ...] = (3, 8, 8), classes: int = 4, *, lr: float = 0.1, **options: object
    ) -> PyTorchClassifier:
        sgd = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
        given = {"clip_values": (0.0, 1.0), "optimizer": sgd, "preprocessing": None} | options
        return PyTorchClassifier(net, nn.CrossEntropyLoss(), shape, classes, **given)

    return make


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    """16 images, float32 (16, 3, 8, 8) in [0, 1], and their labels in 0…3."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(16, 3, 8, 8, generator=generator), torch.randint(4, (16,), generator=generator)


@pytest.fixture
def points() -> tuple[Tensor, Tensor]:
    """64 points, float32 (64, 2), labelled by the side of the diagonal they lie on."""
    x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    return x, (x.sum(dim=1) > 0).long()
