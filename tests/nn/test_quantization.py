"""Soft quantization: the formula, its limits, its gradients, and thresholds learnt from data."""

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.bpda import declared
from art_ext.nn.quantization import SoftQuantizer, attacked_through, hard_levels, soft_levels
from art_ext.nn.thresholds import annealed, learn_thresholds, uniform_thresholds

X = torch.linspace(0, 1, 101, dtype=torch.float64).view(1, 1, 1, 101)


def formula(x: np.ndarray, levels: int, temperature: float) -> np.ndarray:
    """Q_T in float64, as written."""
    t = (np.arange(1, levels) - 0.5) / (levels - 1)

    def s(v):
        return (1 / (1 + np.exp(-(np.asarray(v)[..., None] - t) / temperature))).sum(-1)

    return (s(x) - s(0.0)) / (s(1.0) - s(0.0))


@pytest.mark.parametrize("temperature", [0.02, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("levels", [2, 3, 8])
def test_the_formula(levels, temperature):
    quantizer = SoftQuantizer(levels=levels, temperature=temperature)
    np.testing.assert_allclose(quantizer(X), formula(X.numpy(), levels, temperature), atol=1e-6)
    np.testing.assert_allclose(quantizer(X.float()), formula(X.numpy(), levels, temperature), atol=1e-5)


@pytest.mark.parametrize("levels", [2, 4, 9])
def test_sharp_steps_are_rounding(levels):
    hard = SoftQuantizer(levels=levels, hard=True)(X)
    assert sorted(hard.unique().tolist()) == pytest.approx([k / (levels - 1) for k in range(levels)])
    away = (X[..., None] - uniform_thresholds(levels)).abs().amin(-1) > 1e-3
    assert torch.equal(hard[away], ((X[away] * (levels - 1)).round() / (levels - 1)))
    torch.testing.assert_close(SoftQuantizer(levels=levels, temperature=1e-4)(X)[away], hard[away], atol=1e-4, rtol=0)


def test_black_and_white_stay_what_they_are():
    for quantizer in (SoftQuantizer(temperature=0.3), SoftQuantizer(levels=5, temperature=2.0)):
        assert quantizer(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, 1], abs=1e-6)


def test_the_hottest_temperature_is_a_line():
    x = X.float()
    torch.testing.assert_close(SoftQuantizer(levels=8, temperature=100)(x), x, atol=1e-3, rtol=0)


def test_the_gradient_is_that_of_finite_differences():
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(SoftQuantizer(levels=4, temperature=0.1), x)


def test_float32_loses_the_gradient_that_float64_still_has():
    quantizer = SoftQuantizer(temperature=0.02)
    x = torch.full((1,), 0.99)
    single, double = x.clone().requires_grad_(), x.double().requires_grad_()
    assert torch.autograd.grad(quantizer(single).sum(), single)[0].item() == 0
    assert torch.autograd.grad(quantizer(double).sum(), double)[0].item() > 0


SURROGATES = {"identity": lambda x, _: x, 0.2: lambda x, t: soft_levels(x, t, 0.2)}


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_hard_steps_have_the_gradient_of_their_surrogate(surrogate):
    quantizer = SoftQuantizer(levels=3, hard=True, surrogate=surrogate)
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    out = quantizer(x)
    assert torch.equal(out.detach(), hard_levels(x.detach(), quantizer.thresholds))
    (grad,) = torch.autograd.grad(out.square().sum(), x)
    stand_in = SURROGATES[surrogate](x, quantizer.thresholds)
    (expected,) = torch.autograd.grad(stand_in, x, grad_outputs=2 * out.detach())
    torch.testing.assert_close(grad, expected)


def test_what_is_declared():
    net = nn.Sequential(SoftQuantizer(hard=True), SoftQuantizer(hard=True, surrogate=0.25), SoftQuantizer())
    assert declared(net) == ("SoftQuantizer: identity", "SoftQuantizer: temperature 0.25")


def test_an_attacker_changes_the_gradient_and_not_the_values():
    net = nn.Sequential(SoftQuantizer(temperature=1e-3), nn.Flatten())
    x = torch.rand(2, 3, 4, 4, requires_grad=True)
    plain = net(x)
    with attacked_through(net, "identity") as found:
        assert found == [net[0]]
        through = net(x)
        assert torch.equal(through.detach(), plain.detach())
        assert torch.autograd.grad(through.sum(), x)[0].unique().tolist() == [1.0]
    with pytest.raises(RuntimeError, match="stop"), attacked_through(net, 0.1):
        raise RuntimeError("stop")
    assert net[0].attacked is None


def test_each_channel_may_have_its_thresholds():
    quantizer = SoftQuantizer(levels=2, thresholds=[[0.2], [0.5], [0.8]], hard=True)
    assert quantizer(torch.full((1, 3, 2, 2), 0.6))[0, :, 0, 0].tolist() == [1, 1, 0]
    with pytest.raises(ValueError, match=r"x must be \(N, 3, ...\)"):
        quantizer(torch.rand(1, 1, 2, 2))


@pytest.mark.parametrize("per_channel", [False, True], ids=["shared", "per channel"])
def test_learnt_thresholds_give_each_level_as_many_pixels(per_channel):
    x = np.random.default_rng(0).random((10, 3, 16, 16)).astype(np.float32) ** 2
    x[:5] = 0  # the black half says nothing
    thresholds = learn_thresholds(x, 4, per_channel=per_channel)
    assert thresholds.shape == ((3, 3) if per_channel else (3,))
    out = SoftQuantizer(levels=4, thresholds=thresholds, hard=True)(torch.from_numpy(x[5:]))
    shares = torch.stack([(out == k).float().mean((0, 2, 3)) for k in out.unique()])
    assert shares.shape == (4, 3)
    assert float((shares - 0.25).abs().max()) < (0.005 if per_channel else 0.05)


def test_annealing_is_geometric():
    assert [annealed(p, soft=0.5, sharp=0.005) for p in (0, 0.5, 1)] == pytest.approx([0.5, 0.05, 0.005])
    with pytest.raises(ValueError, match=r"progress must be a number in \[0, 1\]"):
        annealed(1.5, soft=1, sharp=0.1)


BAD = {
    "levels": ({"levels": 1}, "levels must be a whole number of at least 2; got 1"),
    "half a level": ({"levels": 2.5}, "levels must be a whole number of at least 2; got 2.5"),
    "temperature": ({"temperature": 0}, r"temperature must be a number in \(0, 100\]; got 0"),
    "negative": ({"temperature": -1.0}, r"temperature must be a number in \(0, 100\]; got -1.0"),
    "hot": ({"temperature": 1e8}, r"temperature must be a number in \(0, 100\]; got 100000000.0"),
    "surrogate": ({"surrogate": "sigmoid"}, r"surrogate must be 'identity' or a temperature in \(0, 100\]; got 'sigm"),
    "surrogate temperature": ({"surrogate": -2.0}, r"surrogate must be a number in \(0, 100\]; got -2.0"),
    "hot surrogate": ({"surrogate": 101}, r"surrogate must be a number in \(0, 100\]; got 101"),
    "words": (
        {"thresholds": ["a"]},
        r"thresholds must be \(1,\) or \(C, 1\) numbers .*; got \['a'\]",
    ),
    "too many": ({"thresholds": [0.2, 0.5]}, r"thresholds must be \(1,\) or \(C, 1\) for 2 levels; got \(2,\)"),
    "descending": ({"levels": 3, "thresholds": [0.5, 0.2]}, r"must ascend strictly within \(0, 1\)"),
    "outside": ({"thresholds": [1.0]}, r"must ascend strictly within \(0, 1\)"),
    "not a number": ({"thresholds": [float("nan")]}, r"must ascend strictly within \(0, 1\)"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        SoftQuantizer(**options)


FLAT = {"one value": np.full((2, 1, 4, 4), 0.5), "black and white": np.eye(4).reshape(1, 1, 4, 4)}


@pytest.mark.parametrize("x", FLAT.values(), ids=FLAT)
def test_images_without_enough_different_values(x):
    with pytest.raises(ValueError, match="3 levels need 2 different quantiles"):
        learn_thresholds(x, 3)
