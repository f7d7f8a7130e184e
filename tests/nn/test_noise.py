"""Noise: its distributions, where it is drawn, and what is refused."""

import pytest
import torch

from art_ext.nn.noise import DISTRIBUTIONS, Noise, noise_like

SPREAD = {"gaussian": 1.0, "uniform": 3**-0.5, "laplace": 2**0.5, "signs": 1.0}  # standard deviations
KURTOSIS = {"gaussian": 3.0, "uniform": 1.8, "laplace": 6.0, "signs": 1.0}


def test_every_distribution_is_tested():
    assert set(SPREAD) == set(KURTOSIS) == set(DISTRIBUTIONS)


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_moments(distribution):
    noise = noise_like(torch.empty(200, 1000), distribution, generator=torch.Generator().manual_seed(0)).double()
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.std()) == pytest.approx(SPREAD[distribution], rel=0.01)
    assert float((noise / noise.std()).pow(4).mean()) == pytest.approx(KURTOSIS[distribution], rel=0.05)
    rows = torch.corrcoef(noise[:20])
    assert float((rows - torch.eye(20)).abs().max()) < 0.15  # examples do not share their noise


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_precision_of_the_images(distribution, dtype):
    out = Noise(0.1, distribution=distribution)(torch.full((4, 3, 8, 8), 0.5, dtype=dtype))
    assert out.dtype == dtype
    assert bool(out.isfinite().all())


def test_scale_and_clipping(images):
    x = images[0]
    assert bool((Noise(0.25, distribution="uniform", clip=None)(x) - x).abs().max() <= 0.25 + 1e-6)
    noisy = Noise(1.0)(x)
    assert (float(noisy.min()), float(noisy.max())) == (0.0, 1.0)
    assert float(Noise(1.0, clip=None)(x).max()) > 1


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_fresh_in_each_pass_and_repeatable_by_the_global_seed(images, training):
    module = Noise(0.1).train(training)
    torch.manual_seed(0)
    one, two = module(images[0]), module(images[0])
    assert not torch.equal(one, two)
    torch.manual_seed(0)
    assert torch.equal(module(images[0]), one)


BAD = {
    "scale": ({"scale": 0.0}, "scale must be a finite number > 0; got 0.0"),
    "infinite": ({"scale": float("inf")}, "scale must be a finite number > 0; got inf"),
    "distribution": ({"scale": 0.1, "distribution": "gauss"}, "unknown distribution 'gauss'; did you mean 'gaussian'"),
    "clip": ({"scale": 0.1, "clip": (1, 0)}, r"clip must be \(low, high\)"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Noise(**options)
