"""Folders as arrays, and the search for files that cannot be read."""

import logging
from pathlib import Path

import numpy as np
import pytest

from art_ext.data import CentreCrop, UnreadableImageError, image_folder, read_arrays, readable
from art_ext.data.reading import read_pixels
from tests.data.pictures import cut_short, write_folder


def test_arrays_are_the_images_in_order(two_splits: Path) -> None:
    x, y = read_arrays(image_folder(two_splits, "train"), (3, 6, 8))
    assert (x.shape, x.dtype, y.tolist()) == ((5, 3, 6, 8), np.float32, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(x, np.arange(5, dtype=np.float32)[:, None, None, None] / 255 * np.ones((1, 3, 6, 8)))


def test_a_limit_is_spread_over_the_classes(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a": 10, "b": 10, "c": 10})
    train = image_folder(tmp_path)
    _, y = read_arrays(train, (1, 4, 4), limit=3)
    assert y.tolist() == [0, 1, 2]
    assert len(read_arrays(train, (1, 4, 4), limit=99)[0]) == 30


def test_bytes_are_the_same_pixels(two_splits: Path) -> None:
    train = image_folder(two_splits, "train")
    pixels = read_pixels(train, (3, 6, 8), CentreCrop())
    np.testing.assert_array_equal(
        pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255, read_arrays(train, (3, 6, 8))[0]
    )


def test_unreadable_images_stop_or_are_left_out(two_splits: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad = cut_short(two_splits / "train" / "cat" / "1.jpg")
    train = image_folder(two_splits, "train")
    for read in (readable, lambda folder: read_arrays(folder, (3, 8, 8))):
        with pytest.raises(UnreadableImageError, match=str(bad)):
            read(train)
    with caplog.at_level(logging.WARNING, "art_ext"):
        kept = readable(train, on_error="skip")
    assert str(bad) in caplog.text
    assert kept.labels.tolist() == [0, 0, 0, 1, 1]
    assert bad not in [kept.path(i) for i in range(len(kept))]


def test_a_sound_folder_is_kept_whole(two_splits: Path) -> None:
    train = image_folder(two_splits, "train")
    assert readable(train).fingerprint() == train.fingerprint()
