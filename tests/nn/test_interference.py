"""Interference: the formula, what is drawn how, and the background that can be chosen."""

import pytest
import torch

from art_ext.nn.interference import Interference, draw_index, interfere
from art_ext.nn.randomness import FiniteRandomness, choosing
from art_ext.processes import SharedGenerator

BACKGROUNDS = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
NOTHING = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_backgrounds_are_added_and_the_sum_is_clipped(images):
    x, index = images[0], torch.arange(16) % 3
    got = interfere(x, BACKGROUNDS, index, alpha=0.7, beta=0, gamma=0)
    expected = (x.double() + 0.7 * BACKGROUNDS[index].double()).clamp(0, 1)
    torch.testing.assert_close(got, expected.float())
    assert bool((got == 1).any())


def test_white_noise_is_normal_and_differs_between_elements():
    x = torch.full((64, 3, 16, 16), 0.5)
    noise = interfere(x, BACKGROUNDS, None, alpha=0, beta=0.05, gamma=0, generator=generator()) - 0.5
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(0.05, rel=0.02)
    assert float((noise[:, 0] - noise[:, 1]).std()) == pytest.approx(0.05 * 2**0.5, rel=0.03)
    assert float((noise[0] - noise[1]).std()) == pytest.approx(0.05 * 2**0.5, rel=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_salt_and_pepper_are_as_frequent_as_asked(dtype):
    x = torch.full((64, 3, 32, 32), 0.5, dtype=dtype)
    got = interfere(x, BACKGROUNDS, None, alpha=0, beta=0, gamma=0.25, density=0.1, generator=generator())
    assert got.dtype == dtype
    assert set(got.unique().tolist()) == {0.25, 0.5, 0.75}
    assert torch.equal(got[:, 0], got[:, 2])  # of a whole pixel
    for value in (0.25, 0.75):
        assert float((got == value).double().mean()) == pytest.approx(0.05, rel=0.05)


def test_nothing_is_the_identity_and_half_of_it_is_no_less_exact(images):
    x = images[0]
    assert torch.equal(interfere(x, BACKGROUNDS, torch.zeros(16, dtype=torch.long), **NOTHING), x)
    assert torch.equal(Interference(torch.empty(0, 3, 8, 8), **NOTHING)(x), x)


def test_the_gradient_is_one_where_nothing_is_clipped(images):
    x = images[0].clone().requires_grad_()
    out = interfere(x, BACKGROUNDS, torch.zeros(16, dtype=torch.long), alpha=0.6, beta=0.1, gamma=0.3)
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert torch.equal(grad, ((out > 0) & (out < 1)).float())
    assert 0 < float(grad.mean()) < 1


def test_a_generator_makes_it_repeatable_and_leaves_the_global_one_alone(images):
    state = torch.get_rng_state()
    options = {"alpha": 0.1, "beta": 0.1, "gamma": 0.1}
    index = draw_index(16, 3, generator=generator())
    one, two = (interfere(images[0], BACKGROUNDS, index, **options, generator=generator(5)) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(state, torch.get_rng_state())


def test_processes_that_share_a_batch_draw_what_one_alone_draws(images):
    x, options = images[0], {"alpha": 0.1, "beta": 0.1, "gamma": 0.1}
    index = torch.arange(16) % 3
    whole = interfere(x, BACKGROUNDS, index, **options, generator=generator())
    parts = []
    for begin in (0, 6):
        shared = SharedGenerator()
        shared.manual_seed(0)
        shared.share(16, begin, 6 if not begin else 10)
        rows = slice(begin, begin + (6 if not begin else 10))
        parts.append(interfere(x[rows], BACKGROUNDS, index[rows], **options, generator=shared))
    assert torch.equal(torch.cat(parts), whole)


def test_each_example_gets_a_background_of_its_own_anew_in_each_pass():
    flat = torch.stack([torch.full((1, 2, 2), k / 10) for k in range(8)])
    module = Interference(flat, alpha=1.0, beta=0, gamma=0)
    torch.manual_seed(0)
    passes = torch.stack([module(torch.zeros(500, 1, 2, 2))[:, 0, 0, 0] for _ in range(4)])
    assert not torch.equal(passes[0], passes[1])
    counts = passes.mul(10).round().long().flatten().bincount(minlength=8)
    assert counts.min() > 180  # of 250 expected each


def test_the_background_can_be_chosen_and_is_random_again_afterwards(images):
    module = Interference(BACKGROUNDS, alpha=0.5, beta=0, gamma=0)
    assert isinstance(module, FiniteRandomness)
    assert module.outcomes == 3
    with choosing(module, 2):
        expected = (images[0] + 0.5 * BACKGROUNDS[2]).clamp(0, 1)
        assert torch.equal(module(images[0]), expected)
    torch.manual_seed(0)
    assert not torch.equal(module(images[0]), module(images[0]))


@pytest.mark.parametrize("backgrounds, alpha", [(BACKGROUNDS, 0.0), (BACKGROUNDS[:0], 0.1)], ids=["alpha 0", "none"])
def test_backgrounds_that_make_no_difference_are_no_choice(backgrounds, alpha):
    assert Interference(backgrounds, alpha=alpha).outcomes == 1


def test_state_and_device_travel_with_the_module(images):
    module = Interference(BACKGROUNDS, beta=0, gamma=0)
    assert torch.equal(module.state_dict()["backgrounds"], BACKGROUNDS)
    assert module(images[0].double()).dtype == torch.float64


BAD = {
    "alpha": ({"alpha": -0.1}, r"alpha must be a number in \[0, 1\]; got -0.1"),
    "beta": ({"beta": 1.5}, r"beta must be a number in \[0, 1\]; got 1.5"),
    "gamma": ({"gamma": "0.1"}, r"gamma must be a number in \[0, 1\]; got '0.1'"),
    "density": ({"density": float("nan")}, r"density must be a number in \[0, 1\]; got nan"),
    "range": ({"backgrounds": BACKGROUNDS * 255}, r"backgrounds must lie in \[0, 1\]; they cover \["),
    "no images": ({"backgrounds": torch.zeros(3, 8, 8)}, r"backgrounds must be a float tensor \(K, C, H, W\)"),
    "bytes": ({"backgrounds": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "backgrounds must be a float tensor"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Interference(**({"backgrounds": BACKGROUNDS} | options))


def test_images_of_another_shape():
    with pytest.raises(ValueError, match=r"shape of the images, \(3, 4, 4\); they have \(3, 8, 8\)"):
        Interference(BACKGROUNDS)(torch.rand(2, 3, 4, 4))
