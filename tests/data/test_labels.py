"""Class subsets and label noise: pure, seeded, and plain about what they refuse."""

from typing import Any

import numpy as np
import pytest

from art_ext.data import load, subset, with_label_noise

Y = np.array([3, 1, 4, 1, 5, 3])
X = np.arange(6)[:, None]


def test_a_subset_keeps_order_and_numbers_the_classes_anew() -> None:
    x, y = subset(X, Y, [5, 3])
    assert x[:, 0].tolist() == [0, 4, 5]
    assert y.tolist() == [1, 0, 1]
    assert y.dtype == np.int64
    x[:] = -1
    assert X[:, 0].tolist() == [*range(6)]


def test_all_classes_in_order_are_the_set_itself() -> None:
    x, y, *_ = load("digits")
    again = subset(x, y, range(10))
    np.testing.assert_array_equal(again[0], x)
    np.testing.assert_array_equal(again[1], y)


BAD_SUBSETS: dict[str, tuple[tuple[Any, ...], type[Exception], str]] = {
    "no class": ((X, Y, []), ValueError, "at least one class"),
    "one twice": ((X, Y, [1, 3, 1]), ValueError, r"more than once|\[1\]"),
    "no such class": ((X, Y, [3, 7]), ValueError, r"no example has the label 7; the labels lie in 1\.\.5"),
    "lengths": ((X[:5], Y, [3]), ValueError, "5 examples and 6 labels"),
    "one-hot": ((X, np.eye(6)[Y], [3]), TypeError, r"y\.argmax\(1\)"),
    "list": ((X, Y.tolist(), [3]), TypeError, "got list"),
}


@pytest.mark.parametrize("arguments,error,message", BAD_SUBSETS.values(), ids=BAD_SUBSETS)
def test_bad_subsets(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        subset(*arguments)


@pytest.mark.parametrize("share,wrong", [(0, 0), (0.2, 200), (1, 1000)])
def test_so_many_labels_are_wrong_and_none_by_chance_right(share: float, wrong: int) -> None:
    y = np.arange(1000) % 10
    noisy = with_label_noise(y, share, num_classes=10)
    assert (noisy != y).sum() == wrong
    assert (y == np.arange(1000) % 10).all()
    assert set(noisy) <= set(range(10))


def test_every_other_class_is_as_likely() -> None:
    noisy = with_label_noise(np.full(9000, 3), 1, num_classes=10)
    counts = np.bincount(noisy, minlength=10)
    assert counts[3] == 0
    np.testing.assert_allclose(np.delete(counts, 3), 1000, atol=5 * np.sqrt(1000))


def test_noise_is_the_seed_s() -> None:
    y = np.arange(100) % 10
    first, second, other = (with_label_noise(y, 0.5, num_classes=10, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


BAD_NOISE: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "share above one": ({"share": 1.5}, ValueError, r"share must be in \[0, 1\]; got 1.5"),
    "share below nought": ({"share": -0.1}, ValueError, "share must be"),
    "one class": ({"num_classes": 1}, ValueError, "at least 2"),
    "labels out of range": ({"num_classes": 5}, ValueError, r"0\.\.4; it covers 1\.\.5"),
    "float labels": ({"y": Y.astype(float)}, TypeError, "whole numbers"),
}


@pytest.mark.parametrize("changed,error,message", BAD_NOISE.values(), ids=BAD_NOISE)
def test_bad_noise(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        with_label_noise(**{"y": Y, "share": 0.5, "num_classes": 10} | changed)
