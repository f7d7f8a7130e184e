"""Masks: how much is missing, where, for whom, and what is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from art_ext.nn.masking import KINDS, Masking, spread


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    grid=st.integers(2, 6),
    size=st.tuples(st.integers(6, 17), st.integers(6, 17)),
    channels=st.integers(1, 3),
)
def test_shapes_ranges_and_holes_of_zeros(kind, grid, size, channels):
    x = torch.rand(3, channels, *size)
    for image, mask in Masking(kind, grid=grid).views(x):
        assert image.shape == x.shape
        assert mask.shape == (3, 1, *size)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert bool((image * (1 - mask) == 0).all())
        assert 0 <= float(image.min()) <= float(image.max()) <= 1


@pytest.mark.parametrize("missing, share", [(0.25, 0.25), (0.5, 0.5), (0.1, 6 / 64)], ids=repr)
def test_exactly_so_many_blocks_are_missing(missing, share):
    """Of 8 × 8 blocks, in each image, and over many draws each block as often as any other."""
    view = Masking("rt1", missing=missing).views(torch.ones(2000, 1, 8, 8))[0]
    assert torch.allclose(1 - view.mask.flatten(1).mean(1), torch.tensor(share))
    assert (1 - view.mask.mean(0) - share).abs().max() < 0.05


def test_rt3_divides_the_image_between_its_holes():
    views = Masking("rt3").views(torch.ones(5, 3, 28, 28))
    assert len(views) == 4
    assert torch.equal(sum(1 - view.mask for view in views), torch.ones(5, 1, 28, 28))


def test_rt3_merges_the_answers_in_the_holes():
    masking, x = Masking("rt3", grid=4), torch.rand(2, 3, 8, 8)
    views = masking.views(x)
    answers = [torch.full_like(x, float(i)) for i in range(4)]
    merged = masking.merge(views, answers)
    for i, view in enumerate(views):
        assert bool((merged[(view.mask == 0).expand_as(merged)] == i).all())


def test_rt2_is_noise_of_sigma_under_the_mask():
    x = torch.full((200, 1, 16, 16), 0.5)
    image, mask = Masking("rt2", sigma=0.05).views(x)[0]
    noise = (image - x)[mask.bool()]
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)
    assert abs(float(noise.mean())) < 1e-3
    image, mask = Masking("rt2", sigma=0).views(x)[0]
    assert torch.equal(image, x * mask)


def test_each_image_has_its_mask_unless_shared():
    x = torch.ones(20, 1, 8, 8)
    assert len(Masking("rt1")(x).unique(dim=0)) > 15
    assert len(Masking("rt1", shared=True)(x).unique(dim=0)) == 1


def test_fresh_draws_or_always_the_same(images):
    fresh, fixed = Masking("rt2"), Masking("rt2", seed=1)
    assert (fresh.random, fixed.random) == (True, False)
    assert not torch.equal(fresh(images[0]), fresh(images[0]))
    state = torch.get_rng_state()
    assert torch.equal(fixed(images[0]), fixed(images[0]))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(fixed(images[0]), Masking("rt2", seed=2)(images[0]))


def test_the_gradient_is_that_of_what_is_seen(images):
    x = images[0].clone().requires_grad_()
    image, mask = Masking("rt1").views(x)[0]
    (gradient,) = torch.autograd.grad(image.sum(), x)
    assert torch.equal(gradient, mask.expand_as(x))


def test_blocks_differ_by_one_pixel_where_the_grid_does_not_divide_the_side():
    numbers = spread(torch.arange(64).view(1, 64), torch.zeros(1, 1, 28, 28), 8)[0, 0]
    assert {int(n) for n in numbers.unique(return_counts=True)[1]} == {9, 12, 16}


BAD = {
    "kind": ({"kind": "rt4"}, "unknown random transform 'rt4'; did you mean"),
    "grid": ({"grid": 1}, "grid must be a whole number of at least 2; got 1"),
    "nothing missing": ({"missing": 0.0}, r"missing must leave a hole .* be in \(0, 1\); got 0.0"),
    "all missing": ({"missing": 1.0}, r"missing must leave a hole .* be in \(0, 1\); got 1.0"),
    "more than all": ({"missing": 1.5}, r"missing must be a number in \[0, 1\]; got 1.5"),
    "rt3 of one mask": ({"kind": "rt3", "missing": 0.9}, "kind 'rt3' needs at least two masks"),
    "sigma": ({"sigma": -1}, r"sigma must be a number in \[0, 10\]; got -1"),
    "seed": ({"seed": -1}, "seed must be a whole number of at least 0; got -1"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Masking(**options)


def test_images_smaller_than_the_grid_are_refused():
    with pytest.raises(ValueError, match="images of 6 × 8 pixels cannot have 8 × 8 blocks; give a smaller grid"):
        Masking("rt1")(torch.zeros(1, 1, 6, 8))


def test_rt3_without_a_purifier_is_refused(images):
    with pytest.raises(ValueError, match="'rt3' fills every hole, so it needs a purifier"):
        Masking("rt3")(images[0])
