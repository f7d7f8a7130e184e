"""Every data set as `art_ext.data.load` gives it, and what it says when it cannot."""

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from art_ext.data import DATASETS, load

NEEDS_NOTHING = {"fashion-mnist-5k": (5000, 1000), "digits": (1437, 360)}


def pattern(n: int, *shape: int) -> NDArray[np.uint8]:
    """Images that differ at every place, so that a wrong transposition cannot go unseen."""
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def assert_in_order(splits: tuple[NDArray[Any], ...], name: str, sizes: tuple[int, int]) -> None:
    info = DATASETS[name]
    for x, y, size in zip(splits[::2], splits[1::2], sizes, strict=True):
        assert x.shape == (size, *info.input_shape)
        assert y.shape == (size,)
        assert x.dtype == np.float32
        assert y.dtype == np.int64
        assert x.flags.c_contiguous
        assert x.min() >= 0
        assert x.max() <= 1
        assert y.min() >= 0
        assert y.max() < info.num_classes


@pytest.mark.parametrize("name,sizes", NEEDS_NOTHING.items(), ids=NEEDS_NOTHING)
def test_sets_that_need_no_files(name: str, sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ART_EXT_DATA", raising=False)
    splits = load(name)
    assert_in_order(splits, name, sizes)
    assert splits[0].min() == 0
    assert splits[0].max() == 1
    assert set(splits[1]) == set(splits[3]) == set(range(10))
    for first, second in zip(splits, load(name), strict=True):
        np.testing.assert_array_equal(first, second)


def test_shipped_set_has_as_many_images_of_each_class() -> None:
    _, y_train, _, y_test = load("fashion-mnist-5k")
    assert np.bincount(y_train).tolist() == [500] * 10
    assert np.bincount(y_test).tolist() == [100] * 10


def test_digits_splits_are_disjoint_and_stratified() -> None:
    x_train, y_train, x_test, y_test = load("digits")
    assert not {x.tobytes() for x in x_train} & {x.tobytes() for x in x_test}
    np.testing.assert_allclose(np.bincount(y_train) / len(y_train), np.bincount(y_test) / len(y_test), atol=0.01)


@pytest.mark.data
@pytest.mark.slow
def test_cifar10_mosaics_decode_to_the_official_bytes(data_dir: Path) -> None:
    if not (data_dir / "cifar10").is_dir():
        pytest.skip(f"no folder cifar10 in {data_dir}")
    expected = json.loads((data_dir / "cifar10" / "sha256.json").read_text())
    splits = load("cifar10")
    assert_in_order(splits, "cifar10", (50_000, 10_000))
    for split, x in (("train", splits[0]), ("test", splits[2])):
        pixels = np.rint(x * 255).astype(np.uint8).transpose(0, 2, 3, 1)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == expected[f"{split}_uint8_NHWC_bytes"]
    assert np.bincount(splits[1]).tolist() == [5000] * 10
    assert np.bincount(splits[3]).tolist() == [1000] * 10


def write_mosaics(folder: Path, labels: int = 2500) -> NDArray[np.uint8]:
    """One sheet of 2500 tiles per split; returns the tiles."""
    from PIL import Image

    tiles = pattern(2500, 32, 32, 3)
    sheet = tiles.reshape(50, 50, 32, 32, 3).transpose(0, 2, 1, 3, 4).reshape(1600, 1600, 3)
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        Image.fromarray(sheet).save(folder / f"{split}_00.webp", lossless=True, method=0)
        np.save(folder / f"{split}_labels.npy", np.arange(labels) % 10)
    return tiles


@pytest.mark.parametrize("by", ["root", "the folder itself", "environment"])
def test_cifar10_mosaics_are_found(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiles = write_mosaics(tmp_path / "cifar10")
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path if by == "environment" else tmp_path / "nowhere"))
    root = {"root": tmp_path, "the folder itself": tmp_path / "cifar10", "environment": None}[by]
    splits = load("cifar10", root)
    assert_in_order(splits, "cifar10", (2500, 2500))
    np.testing.assert_array_equal(np.rint(splits[0] * 255), tiles.transpose(0, 3, 1, 2))
    assert splits[1][:3].tolist() == [0, 1, 2]


def test_cut_short_mosaics_are_refused(tmp_path: Path) -> None:
    write_mosaics(tmp_path, labels=2501)
    with pytest.raises(ValueError, match="2500 images but 2501 labels"):
        load("cifar10", tmp_path)


def test_mosaics_without_a_split_are_refused(tmp_path: Path) -> None:
    write_mosaics(tmp_path)
    (tmp_path / "test_00.webp").unlink()
    with pytest.raises(FileNotFoundError, match=r"no test_\*\.webp"):
        load("cifar10", tmp_path)


def write_idx(root: Path, cls: str) -> None:
    """The files of MNIST and FashionMNIST: magic number, sizes, bytes."""
    raw = root / cls / "raw"
    raw.mkdir(parents=True)
    for prefix, n in (("train", 20), ("t10k", 10)):
        images, labels = pattern(n, 28, 28), (np.arange(n) % 10).astype(np.uint8)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, n, 28, 28) + images.tobytes())
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels.tobytes())


def write_cifar(root: Path, cls: str) -> None:
    """The pickled batches of CIFAR10 and CIFAR100: rows of 3×32×32 bytes, channels first."""
    fine = cls == "CIFAR100"
    folder = root / ("cifar-100-python" if fine else "cifar-10-batches-py")
    folder.mkdir(parents=True)
    names = {"train": 20, "test": 10} if fine else {**{f"data_batch_{i}": 4 for i in range(1, 6)}, "test_batch": 10}
    for name, n in names.items():
        rows = pattern(n, 32, 32, 3).transpose(0, 3, 1, 2).reshape(n, -1)
        batch = {"data": rows, "fine_labels" if fine else "labels": [i % 10 for i in range(n)]}
        (folder / name).write_bytes(pickle.dumps(batch))
    meta = {"fine_label_names": list("ab"), "label_names": list("ab")}
    (folder / ("meta" if fine else "batches.meta")).write_bytes(pickle.dumps(meta))


def write_svhn(root: Path, cls: str) -> None:
    """The MATLAB files of SVHN: pixels (32, 32, 3, N), and 10 for the digit nought."""
    from scipy.io import savemat

    for split, n in (("train", 20), ("test", 10)):
        pixels, labels = pattern(n, 32, 32, 3).transpose(1, 2, 3, 0), np.arange(n)[:, None] % 10 + 1
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels.astype(np.uint8)})


TORCHVISION: dict[str, tuple[str, Callable[[Path, str], None]]] = {
    "cifar10": ("CIFAR10", write_cifar),
    "cifar100": ("CIFAR100", write_cifar),
    "svhn": ("SVHN", write_svhn),
    "mnist": ("MNIST", write_idx),
    "fashion-mnist": ("FashionMNIST", write_idx),
}


@pytest.fixture
def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets torchvision accept made-up files."""
    from torchvision.datasets import cifar, svhn

    for module in (cifar, svhn):
        monkeypatch.setattr(module, "check_integrity", lambda path, md5=None: os.path.isfile(path))


@pytest.mark.usefixtures("no_checksums")
@pytest.mark.parametrize("beside", [False, True], ids=["in root", "in root/name"])
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_files(name: str, beside: bool, tmp_path: Path) -> None:
    cls, write = TORCHVISION[name]
    folder = tmp_path / name if beside else tmp_path
    folder.mkdir(exist_ok=True)
    write(folder, cls)
    x_train, y_train, x_test, y_test = load(name, tmp_path)
    assert_in_order((x_train, y_train, x_test, y_test), name, (20, 10))
    if DATASETS[name].input_shape[0] == 1:
        expected = pattern(10, 28, 28)[:, None]
    else:
        expected = pattern(10, 32, 32, 3).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(np.rint(x_test * 255), expected)
    assert y_test.tolist() == ([*range(1, 10), 0] if name == "svhn" else [*range(10)])


def test_every_set_is_tested() -> None:
    assert set(DATASETS) == {*NEEDS_NOTHING, *TORCHVISION}


@pytest.mark.parametrize("name", TORCHVISION)
def test_missing_files_are_named(name: str, tmp_path: Path) -> None:
    cls, _ = TORCHVISION[name]
    with pytest.raises(FileNotFoundError) as error:
        load(name, tmp_path)
    message = str(error.value)
    assert str(tmp_path) in message
    assert str(tmp_path / name) in message
    assert f"torchvision.datasets.{cls}(root, download=True" in message
    assert "ART_EXT_DATA" in message


def test_no_folder_at_all_is_an_error_that_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ART_EXT_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="no root was given and ART_EXT_DATA is not set"):
        load("cifar10")


@pytest.mark.parametrize(
    "wrong,meant",
    [
        ("fashion_mnist_5k", "fashion-mnist-5k"),
        ("cifar-10", "cifar10"),
        ("cifar_100", "cifar100"),
        ("DIGITS", "digits"),
        ("mnst", "mnist"),
    ],
)
def test_unknown_name_gets_the_nearest(wrong: str, meant: str) -> None:
    with pytest.raises(ValueError, match=f"unknown data set '{wrong}'; did you mean '{meant}'"):
        load(wrong)
