"""Which images are shown, what is written below them, and how the difference is magnified."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from torch import Tensor, nn

from art_ext.evaluation.cost import counting
from art_ext.evaluation.figures import svg
from art_ext.evaluation.figures.gallery import RIGHT, WRONG, Gallery, gallery


class Bright(nn.Module):
    """Class 1 for images above one half on average."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.flatten(1).mean(1, keepdim=True)
        return torch.cat((0.5 - mean, mean - 0.5), dim=1)


# survives, is broken, was wrong before, is broken, becomes right
BEFORE = np.array([0.25, 0.375, 0.25, 0.625, 0.625], np.float32)
AFTER = np.array([0.375, 0.625, 0.25, 0.375, 0.375], np.float32)
LABELS = np.array([0, 0, 1, 1, 0])


def of_brightness(values: np.ndarray, channels: int = 1) -> np.ndarray:
    return np.broadcast_to(values[:, None, None, None], (len(values), channels, 4, 6)).copy()


X, X_ADV = of_brightness(BEFORE), of_brightness(AFTER)


@pytest.mark.parametrize(
    "show, n, order",
    [
        ("broken", 2, [1, 3]),
        ("broken", 8, [1, 3, 0, 2, 4]),
        ("survived", 3, [0, 1, 2]),
        ("given", 4, [0, 1, 2, 3]),
    ],
)
def test_which_are_shown(show, n, order):
    shown = gallery(Bright(), X, LABELS, X_ADV, show=show, n=n, batch_size=2)
    assert shown.labels.tolist() == LABELS[order].tolist()
    assert shown.before.tolist() == (BEFORE[order] > 0.5).tolist()
    assert shown.after.tolist() == (AFTER[order] > 0.5).tolist()
    np.testing.assert_array_equal(shown.clean, X[order])
    np.testing.assert_array_equal(shown.adversarial, X_ADV[order])


FACTORS = {
    "fits": (0.03125, (0.0, 1.0), 16),
    "is rounded down": (8 / 255, (0.0, 1.0), 15),
    "never reduces": (0.625, (0.0, 1.0), 1),
    "no change": (0.0, (0.0, 1.0), 1),
    "another range": (0.0625, (-0.5, 1.5), 16),
}


@pytest.mark.parametrize("change, clip, factor", FACTORS.values(), ids=FACTORS)
def test_the_factor_is_the_largest_that_cuts_nothing(change, clip, factor):
    x = of_brightness(np.full(2, 0.25, np.float32))
    shown = gallery(Bright(), x, LABELS[:2], x + np.float32(change), clip=clip)
    assert shown.magnify == factor
    low, high = clip
    np.testing.assert_allclose(shown.clean, (x - low) / (high - low), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_drawn(channels):
    x, x_adv = of_brightness(BEFORE, channels), of_brightness(AFTER, channels)
    shown = gallery(Bright(), x, LABELS, x_adv, n=3, names=("dark", "$bright$"), magnify=2, note="a note")
    axes = np.reshape(shown.figure().axes, (3, 3))
    assert [a.get_ylabel() for a in axes[:, 0]] == ["clean", "adversarial", "difference × 2"]
    assert [a.get_title() for a in axes[0]] == ["dark", r"\$bright\$", "dark"]
    assert [a.get_xlabel() for a in axes[0]] == ["✓ dark", r"✓ \$bright\$", "✓ dark"]
    assert [a.get_xlabel() for a in axes[1]] == [r"✗ \$bright\$", "✗ dark", "✓ dark"]
    assert [to_hex(a.xaxis.label.get_color()).upper() for a in axes[1]] == [WRONG, WRONG, RIGHT]
    pictures = [[a.images[0].get_array() for a in row] for row in axes]
    assert pictures[0][0].shape == ((4, 6) if channels == 1 else (4, 6, 3))
    assert [float(p.ravel()[0]) for p in pictures[0]] == BEFORE[[1, 3, 0]].tolist()
    assert [float(p.ravel()[0]) for p in pictures[2]] == [1.0, 0.0, 0.75]  # 0.5 + 2 × the change, cut to [0, 1]
    assert axes[0, 0].figure.get_supxlabel() == "a note"


def test_a_long_note_is_broken_into_lines():
    figure = gallery(Bright(), X, LABELS, X_ADV, n=1, note="margin-PGD-100; " * 9).figure()
    width = max(text.get_window_extent().width for text in figure.texts)
    assert figure.get_supxlabel().count("\n") >= 2
    assert width <= figure.bbox.width


def test_channels_are_not_mixed_up():
    x = np.zeros((1, 3, 2, 2), np.float32)
    x[0, 2, 0, 1] = 1
    picture = gallery(Bright(), x, LABELS[:1], x).figure().axes[0].images[0].get_array()
    assert picture[0, 1].tolist() == [0, 0, 1]
    assert picture.sum() == 1


def test_a_gallery_is_a_figure():
    assert svg(gallery(Bright(), X, LABELS, X_ADV)).count("<image") == 15


BAD_CALLS = {
    "show": ({"show": "brokn"}, "unknown show 'brokn'; did you mean 'broken'?"),
    "n": ({"n": 0}, "n must be a whole number of at least 1; got 0"),
    "fewer": ({"x_adv": X_ADV[:3]}, "x_adv must have as many images as x, 5; got 3"),
    "shape": ({"x_adv": X_ADV[:, :, :3]}, "x_adv: x must have shape"),
    "range": ({"x_adv": X_ADV + 1}, r"x_adv: x must lie in \[0, 1\]"),
    "tensor": ({"x_adv": torch.from_numpy(X_ADV)}, "x_adv: x must be a numpy array; got Tensor"),
    "names": ({"names": ("dark",)}, "names must name all classes up to 1; got 1 names"),
    "factor": ({"magnify": 0}, "magnify must be > 0 and finite; got 0"),
    "infinite factor": ({"magnify": inf}, "magnify must be > 0"),
    "two channels": ({"x": of_brightness(BEFORE, 2), "x_adv": of_brightness(AFTER, 2)}, "C 1 or 3; got shape"),
    "points": ({"x": X[:, 0, 0], "x_adv": X_ADV[:, 0, 0]}, "clean must be images"),
}


@pytest.mark.parametrize("changes, message", BAD_CALLS.values(), ids=BAD_CALLS)
def test_bad_arguments(changes, message):
    given = {"x": X, "y": LABELS, "x_adv": X_ADV} | changes
    with pytest.raises((TypeError, ValueError), match=message):
        gallery(Bright(), **given)


@pytest.mark.parametrize("name", ["adversarial", "labels", "before", "after"])
def test_a_gallery_of_parts_that_do_not_fit(name):
    shown = gallery(Bright(), X, LABELS, X_ADV)
    with pytest.raises(ValueError, match=f"{name} must have"):
        replace(shown, **{name: getattr(shown, name)[:2]})


def test_the_model_is_as_before_and_two_passes_are_all(conv_model, images):
    x, y = (t.numpy() for t in images)
    conv_model.train()
    buffers, state = {n: b.clone() for n, b in conv_model.named_buffers()}, torch.get_rng_state()
    with counting(conv_model) as cost:
        gallery(conv_model, x, y, x)
    assert cost.forwards == 2 * 8 + 2 * 16
    assert all(m.training for m in conv_model.modules())
    assert all(torch.equal(b, buffers[n]) for n, b in conv_model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)


def test_an_empty_gallery_is_refused():
    none = torch.empty(0, dtype=torch.int64)
    with pytest.raises(ValueError, match="N ≥ 1"):
        Gallery(clean=torch.empty(0, 1, 2, 2), adversarial=none, labels=none, before=none, after=none, magnify=1)
