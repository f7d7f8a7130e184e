"""Backgrounds: the shipped photographs, folders, arrays, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from art_ext.data import UnreadableImageError
from art_ext.nn.backgrounds import load_backgrounds


def save(folder, name, colour, size=(40, 30)):
    Image.new("RGB", size, colour).save(folder / name)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (3, 224, 160)], ids=str)
def test_the_shipped_photographs(shape):
    backgrounds = load_backgrounds(input_shape=shape)
    assert backgrounds.shape == (2, *shape)
    assert backgrounds.dtype == torch.float32
    assert 0 <= float(backgrounds.min()) < 0.2 < 0.8 < float(backgrounds.max()) <= 1
    assert float(backgrounds[0].std()) > 0.1  # a picture, not a field
    assert not torch.equal(backgrounds[0], backgrounds[1])


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path):
    save(tmp_path, "b.png", (0, 255, 0))
    save(tmp_path, "a.png", (255, 0, 0), size=(10, 90))
    (tmp_path / "notes.txt").write_text("not an image")
    got = load_backgrounds(tmp_path, input_shape=(3, 8, 8))
    assert got.shape == (2, 3, 8, 8)
    assert torch.equal(got[0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    assert torch.equal(got[1, :, 0, 0], torch.tensor([0, 1.0, 0]))
    grey = load_backgrounds(str(tmp_path), input_shape=(1, 8, 8))
    assert grey[:, 0, 0, 0].tolist() == pytest.approx([0.299, 0.587], abs=2 / 255)


def test_shrinking_is_antialiased():
    stripes = np.zeros((1, 1, 64, 64), np.float32)
    stripes[..., ::2] = 1
    got = load_backgrounds(stripes, input_shape=(1, 16, 16))
    assert float((got - 0.5).abs().max()) < 0.05


ARRAYS = {
    "array": lambda a: a,
    "tensor": torch.from_numpy,
    "sequence of several sizes": lambda a: [a[0], a[1][:, :10]],
    "float64": lambda a: a.astype(np.float64),
}


@pytest.mark.parametrize("form", ARRAYS.values(), ids=ARRAYS)
def test_arrays(form):
    images = np.random.default_rng(0).random((2, 3, 20, 12), np.float32)
    got = load_backgrounds(form(images), input_shape=(3, 20, 12))
    assert got.shape == (2, 3, 20, 12)
    assert got.dtype == torch.float32
    np.testing.assert_array_equal(got[0], images[0])


def test_arrays_are_not_shared():
    images = torch.zeros(1, 3, 4, 4)
    load_backgrounds(images, input_shape=(3, 4, 4)).add_(1)
    assert float(images.sum()) == 0


def test_colour_becomes_grey():
    red = np.zeros((1, 3, 4, 4), np.float32)
    red[:, 0] = 1
    assert load_backgrounds(red, input_shape=(1, 4, 4)).unique().tolist() == pytest.approx([0.299])


@pytest.mark.parametrize("nothing", [(), [], np.empty((0, 3, 8, 8), np.float32)], ids=["tuple", "list", "array"])
def test_no_backgrounds_at_all(nothing):
    assert load_backgrounds(nothing, input_shape=(3, 8, 8)).shape == (0, 3, 8, 8)


BAD = {
    "channels": (np.zeros((2, 1, 8, 8)), (3, 8, 8), ValueError, r"\(K, 3, H, W\); number 0 has shape \(1, 8, 8\)"),
    "channels last": (np.zeros((2, 8, 8, 3)), (3, 8, 8), ValueError, r"number 0 has shape \(8, 8, 3\)"),
    "range": ([np.full((3, 8, 8), 200.0)], (3, 8, 8), ValueError, r"in \[0, 1\]; number 0 covers \[200, 200\]"),
    "not a number": ([np.full((3, 8, 8), np.nan)], (3, 8, 8), ValueError, r"must lie in \[0, 1\]"),
    "bytes": (np.zeros((2, 3, 8, 8), np.uint8), (3, 8, 8), TypeError, "number 0 is torch.uint8: divide by 255"),
    "a number": (3, (3, 8, 8), TypeError, "must be None, a folder, or float images; got int"),
    "file names": (["a.png"], (3, 8, 8), TypeError, r"float images \(C, H, W\), or a folder of files; number 0 is 'a"),
    "no folder": ("/nowhere", (3, 8, 8), ValueError, "backgrounds: /nowhere is not a folder"),
    "photographs for five channels": (None, (5, 8, 8), ValueError, "1 or 3 channels; the input has 5: give arrays"),
    "no input shape": (None, 8, ValueError, r"input_shape must be \(channels, height, width\); got 8"),
    "input shape in words": (None, "abc", ValueError, r"input_shape must be \(channels, height, width\); got 'abc'"),
    "input shape": (None, (32, 32), ValueError, r"input_shape must be \(channels, height, width\); got \(32, 32\)"),
}


@pytest.mark.parametrize("source, shape, error, message", BAD.values(), ids=BAD)
def test_bad_sources(source, shape, error, message):
    with pytest.raises(error, match=message):
        load_backgrounds(source, input_shape=shape)


def test_an_empty_folder(tmp_path):
    with pytest.raises(ValueError, match=f"the folder {tmp_path} has no images"):
        load_backgrounds(tmp_path, input_shape=(3, 8, 8))


def test_an_unreadable_file_is_named(tmp_path):
    save(tmp_path, "a.png", "red")
    (tmp_path / "b.jpg").write_bytes(b"no photograph")
    with pytest.raises(UnreadableImageError, match=r"b\.jpg"):
        load_backgrounds(tmp_path, input_shape=(3, 8, 8))
