"""The shared checks of inputs, labels and models."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from art_ext.validation import ProbabilitiesWarning, check_images, check_inputs, check_labels, check_model_output

UNIT = (0.0, 1.0)


def _check(x, y, **options):
    return check_inputs(x, y, **{"num_classes": 4, "input_shape": None, "clip": UNIT} | options)


@given(
    x=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=5),
        elements=st.floats(0, 1, width=16),
    ),
    data=st.data(),
)
@settings(deadline=None)
def test_good_inputs_come_out_in_one_form(x, data):
    y = data.draw(hnp.arrays(st.sampled_from([np.int32, np.int64, np.uint8]), len(x), elements=st.integers(0, 3)))
    before = x.copy()
    for labels in (y, y[:, None], np.eye(4)[y], np.eye(4, dtype=bool)[y]):
        images, integers = _check(x, labels, input_shape=x.shape[1:])
        assert (images.dtype, integers.dtype) == (np.float32, np.int64)
        assert images.flags.c_contiguous
        np.testing.assert_array_equal(integers, y)
        np.testing.assert_allclose(images, before, atol=1e-6)
        np.testing.assert_array_equal(x, before)


@given(y=hnp.arrays(np.int64, st.integers(1, 8), elements=st.integers(-3, 6)))
@settings(deadline=None)
def test_labels_pass_exactly_when_in_range(y):
    if ((y >= 0) & (y < 4)).all():
        np.testing.assert_array_equal(check_labels(y, num_classes=4), y)
    else:
        with pytest.raises(ValueError, match=r"y must lie in 0\.\.3 \(4 classes\); got"):
            check_labels(y, num_classes=4)


def test_good_arrays_are_not_copied_and_read_only_ones_are():
    x = np.zeros((3, 2), np.float32)
    assert check_images(x, input_shape=(2,), clip=UNIT) is x
    x.flags.writeable = False
    copy = check_images(x, input_shape=(2,), clip=UNIT)
    assert copy.flags.writeable
    assert not np.shares_memory(copy, x)


@pytest.mark.parametrize(
    "make", [np.asfortranarray, lambda x: x[::-1], lambda x: x.T.copy().T, lambda x: x.astype(">f4")]
)
def test_any_memory_layout(make):
    x = make(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3))
    images = check_images(x, input_shape=(3,), clip=UNIT)
    np.testing.assert_array_equal(images, x)
    torch.from_numpy(images)


BAD_IMAGES = {
    "list": ([[0.0]], TypeError, "numpy array; got list"),
    "uint8": (np.zeros((1, 2), np.uint8), TypeError, "divide by 255"),
    "int64": (np.zeros((1, 2), np.int64), TypeError, "got int64: convert it to float32"),
    "bool": (np.zeros((1, 2), bool), TypeError, "got bool"),
    "object": (np.zeros((1, 2), object), TypeError, "got object"),
    "scalar": (np.array(0.5), ValueError, r"got shape \(\)"),
    "vector": (np.zeros(3), ValueError, r"got shape \(3,\)"),
    "no pixels": (np.zeros((3, 0)), ValueError, r"got shape \(3, 0\)"),
    "infinite": (np.array([[0.0], [np.inf]]), ValueError, "1 of 2 examples"),
    "too large for float32": (np.array([[0.0], [1e300]]), ValueError, "1 of 2 examples"),
    "above": (np.array([[1.01]]), ValueError, r"x must lie in \[0, 1\]; it covers \[1.01, 1.01\]"),
}


@pytest.mark.parametrize("x, error, message", BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_bad_images(x, error, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=message):
            check_images(x, input_shape=None, clip=UNIT)


def test_without_clip_any_finite_value_passes():
    x = np.array([[-5.0, 7.0]], np.float32)
    assert check_images(x, input_shape=(2,), clip=None) is x


def test_a_clip_value_rounded_to_float32_is_inside():
    assert len(check_images(np.full((1, 1), 8 / 255), input_shape=None, clip=(0.0, 8 / 255)))


BAD_LABELS = {
    "list": ([0, 1], TypeError, "y must be a numpy array; got list"),
    "three dimensions": (np.zeros((2, 2, 2), int), ValueError, r"got \(2, 2, 2\)"),
    "two ones": (np.array([[1, 0, 0, 0], [1, 1, 0, 0]]), ValueError, "row 1 is"),
    "no one": (np.zeros((2, 4)), ValueError, "row 0 is"),
    "cancelling": (np.array([[1, 1, -1, 0]]), ValueError, "row 0 is"),
    "NaN": (np.full((1, 4), np.nan), ValueError, "row 0 is"),
    "bool": (np.array([True, False]), TypeError, "got dtype bool"),
}


@pytest.mark.parametrize("y, error, message", BAD_LABELS.values(), ids=BAD_LABELS)
def test_bad_labels(y, error, message):
    with pytest.raises(error, match=message):
        check_labels(y, num_classes=4)


def test_the_trial_of_a_model_leaves_no_trace():
    net = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)).train()
    net[0].eval()
    logits = check_model_output(net, np.zeros((1, 4), np.float32), num_classes=3)
    assert logits.shape == (1, 3)
    assert not logits.requires_grad
    assert [m.training for m in net.modules()] == [True, False, True]
    assert net[0].num_batches_tracked == 0


@pytest.mark.parametrize(
    "rows, warns",
    [
        ([[0.2, 0.8], [1.0, 0.0]], True),
        ([[0.2, 0.8], [0.5, 0.4]], False),
        ([[-0.2, 1.2]], False),
        ([[3.0, -1.0]], False),
    ],
    ids=["probabilities", "other sums", "negative", "logits"],
)
def test_probabilities(rows, warns):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor(rows)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_model_output(Constant(), torch.zeros(len(rows), 1))
    assert [w.category for w in caught] == [ProbabilitiesWarning] * warns
    assert all(w.filename == __file__ for w in caught)
