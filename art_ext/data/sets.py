"""Data sets as arrays: ``load(name)`` gives float32 NCHW images in [0, 1] and int64 labels.

Nothing is downloaded. A set that neither ships with the package nor comes with scikit-learn is read from ``root``, or
from the folder that the environment variable ``ART_EXT_DATA`` names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from art_ext.naming import lookup

DATA_VARIABLE = "ART_EXT_DATA"

Images = NDArray[np.float32]
Labels = NDArray[np.int64]
Splits = tuple[Images, Labels, Images, Labels]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set.

    Args:
        name: what `load` takes.
        description: one line.
        num_classes: labels lie in [0, ``num_classes``).
        input_shape: channels, height and width of an image.
        url: where the set comes from.
        licence: of the images, as far as it is known; not legal advice.
        read: reads the four arrays from a folder (None: the folder of ``ART_EXT_DATA``).
    """

    name: str
    description: str
    num_classes: int
    input_shape: tuple[int, int, int]
    url: str
    licence: str
    read: Callable[[Path | None], Splits]


def load(name: str, root: str | os.PathLike[str] | None = None) -> Splits:
    """Reads a data set into memory.

    Args:
        name: a name in `DATASETS`.
        root: the folder that holds the set, directly or in a folder of its name; None for the folder that the
            environment variable ``ART_EXT_DATA`` names. Sets that need no files ignore it.

    Returns:
        ``x_train, y_train, x_test, y_test``: images are float32 (N, C, H, W) in [0, 1], labels int64 (N,).

    Raises:
        ValueError: unknown name (the nearest one is proposed), or a split with not as many images as labels.
        FileNotFoundError: missing files; the message names the folders tried and what to do.

    Example:
        >>> x_train, y_train, x_test, y_test = load("fashion-mnist-5k")
        >>> x_train.shape, x_test.shape, x_train.dtype, y_train.dtype
        ((5000, 1, 28, 28), (1000, 1, 28, 28), dtype('float32'), dtype('int64'))
        >>> float(x_train.min()), float(x_train.max())
        (0.0, 1.0)
    """
    info = lookup(DATASETS, name, what="data set")
    return info.read(None if root is None else Path(root).expanduser())


def _arrays(images: NDArray[Any], labels: Any, scale: float = 255.0) -> tuple[Images, Labels]:
    """Integer images (N, H, W) or (N, H, W, C) → float32 (N, C, H, W) in [0, 1]; labels → int64 (N,)."""
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} images but {len(labels)} labels: a file of the set is missing or cut short")
    channels_last = images[..., None] if images.ndim == 3 else images
    x = np.ascontiguousarray(channels_last.transpose(0, 3, 1, 2), dtype=np.float32)
    x /= scale
    return x, np.asarray(labels, dtype=np.int64)


def _fashion_mnist_5k(root: Path | None) -> Splits:
    with (files("art_ext") / "datasets" / "fashion_mnist_5k.npz").open("rb") as file, np.load(file) as data:
        return (*_arrays(data["x_train"], data["y_train"]), *_arrays(data["x_test"], data["y_test"]))


def _digits(root: Path | None) -> Splits:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    x, y = _arrays(digits.images, digits.target, scale=16.0)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=360, random_state=0, stratify=y)
    return x_train, y_train, x_test, y_test


def _folders(name: str, root: Path | None) -> list[Path]:
    """The folders in which the files of a set may lie, likeliest first."""
    if root is None and os.environ.get(DATA_VARIABLE):
        root = Path(os.environ[DATA_VARIABLE]).expanduser()
    return [] if root is None else [root / name, root]


def _mosaics(folder: Path, split: str) -> tuple[Images, Labels]:
    """Reads sheets of 50×50 tiles of 32×32 pixels, row by row, kept as lossless WebP."""
    from PIL import Image

    sheets = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob(f"{split}_*.webp"))]
    if not sheets:
        raise FileNotFoundError(f"{folder} holds {split}_labels.npy but no {split}_*.webp: copy the folder again")
    tiles = np.stack(sheets).reshape(-1, 50, 32, 50, 32, 3).swapaxes(2, 3).reshape(-1, 32, 32, 3)
    return _arrays(tiles, np.load(folder / f"{split}_labels.npy"))


def _cifar10(root: Path | None) -> Splits:
    for folder in _folders("cifar10", root):
        if (folder / "train_labels.npy").exists():
            return (*_mosaics(folder, "train"), *_mosaics(folder, "test"))
    return _torchvision(root, "cifar10", "CIFAR10")


def _torchvision(root: Path | None, name: str, cls: str) -> Splits:
    """Reads a set from the folder that torchvision's class `cls` downloads it to."""
    from torchvision import datasets

    splits = ({"split": "train"}, {"split": "test"}) if cls == "SVHN" else ({"train": True}, {"train": False})
    tried = _folders(name, root)
    for folder in tried:
        try:
            train, test = (getattr(datasets, cls)(folder, download=False, **split) for split in splits)
        except RuntimeError:  # torchvision's word for "not found or corrupted"
            continue
        return (*_torchvision_arrays(train), *_torchvision_arrays(test))
    where = ", ".join(map(str, tried)) or f"nothing: no root was given and {DATA_VARIABLE} is not set"
    raise FileNotFoundError(
        f"the files of {name!r} are missing or damaged (tried {where}). To get them: torchvision.datasets.{cls}(root, "
        f"download=True, **split) for split in {splits}; then give that root, or set {DATA_VARIABLE} to it."
    )


def _torchvision_arrays(dataset: Any) -> tuple[Images, Labels]:
    images = np.asarray(dataset.data)
    if images.ndim == 4 and images.shape[-1] != 3:  # SVHN alone is kept as NCHW
        images = images.transpose(0, 2, 3, 1)
    return _arrays(images, dataset.labels if hasattr(dataset, "labels") else dataset.targets)


_DIGITS_URL = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"
_FASHION_URL = "https://github.com/zalandoresearch/fashion-mnist"
_CIFAR_URL = "https://www.cs.toronto.edu/~kriz/cifar.html"
_SVHN_URL = "http://ufldl.stanford.edu/housenumbers"
_NO_LICENCE = "none stated; cite Krizhevsky (2009)"


def _files(name: str, cls: str) -> Callable[[Path | None], Splits]:
    return partial(_torchvision, name=name, cls=cls)


# fmt: off
DATASETS: dict[str, DatasetInfo] = {info.name: info for info in (
    DatasetInfo("fashion-mnist-5k", "the first 500 training and 100 test images of each class; ships with art_ext",
                10, (1, 28, 28), _FASHION_URL, "MIT, © 2017 Zalando SE", _fashion_mnist_5k),
    DatasetInfo("digits", "handwritten digits; come with scikit-learn; 1437 training and 360 test images",
                10, (1, 8, 8), _DIGITS_URL, "CC BY 4.0", _digits),
    DatasetInfo("cifar10", "photographs of animals and vehicles; WebP mosaics or torchvision's files",
                10, (3, 32, 32), _CIFAR_URL, _NO_LICENCE, _cifar10),
    DatasetInfo("cifar100", "photographs of animals, plants and things; torchvision's files",
                100, (3, 32, 32), _CIFAR_URL, _NO_LICENCE, _files("cifar100", "CIFAR100")),
    DatasetInfo("svhn", "house numbers in photographs; torchvision's files",
                10, (3, 32, 32), _SVHN_URL, "non-commercial use only", _files("svhn", "SVHN")),
    DatasetInfo("mnist", "handwritten digits; torchvision's files",
                10, (1, 28, 28), "http://yann.lecun.com/exdb/mnist", "CC BY-SA 3.0", _files("mnist", "MNIST")),
    DatasetInfo("fashion-mnist", "articles of clothing; torchvision's files",
                10, (1, 28, 28), _FASHION_URL, "MIT, © 2017 Zalando SE", _files("fashion-mnist", "FashionMNIST")),
)}
# fmt: on
