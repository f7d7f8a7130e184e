"""Purifiers and their discriminator: shapes, ranges, layers against numpy, and whom a gradient reaches."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from art_ext.nn.purifiers import PURIFIERS, PatchDiscriminator, make_purifier
from art_ext.nn.purifiers.base import register
from art_ext.nn.purifiers.inpainting import GatedConv

OURS = sorted(set(PURIFIERS) - {"diffusers"})


def small(name, channels=3):
    torch.manual_seed(0)
    return make_purifier(name, channels, width=4)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(OURS),
    channels=st.sampled_from([1, 3]),
    size=st.tuples(st.integers(8, 33), st.integers(8, 33)),
)
def test_images_of_any_size_come_back_in_it(name, channels, size):
    image, mask = torch.rand(2, channels, *size), (torch.rand(2, 1, *size) > 0.25).float()
    with torch.no_grad():
        out = small(name, channels)(image * mask, mask)
    assert out.shape == image.shape
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


@pytest.mark.parametrize("name", OURS)
def test_what_lies_in_a_hole_has_no_say(name):
    purifier, mask = small(name), torch.ones(1, 1, 16, 16)
    mask[..., 4:8, 4:8] = 0
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    out = purifier(x, mask)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    assert bool((gradient[..., 4:8, 4:8] == 0).all())
    assert bool((gradient[..., 0, 0] != 0).any())
    assert not torch.equal(purifier(x, mask), purifier(x * mask, torch.ones_like(mask)))  # it sees what is a hole


@pytest.mark.parametrize("name", OURS)
def test_in_bf16_the_images_are_float32(name):
    with torch.autocast("cpu", torch.bfloat16):
        out = small(name)(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    assert out.dtype == torch.float32
    assert not torch.equal(out, out.bfloat16().float())


def test_gated_convolution_against_numpy():
    torch.manual_seed(0)
    layer, x = GatedConv(2, 3, 3).double(), torch.rand(1, 2, 5, 5, dtype=torch.float64)
    weight, bias = (t.detach().numpy() for t in (layer.weight, layer.bias))
    padded = np.pad(x[0].numpy(), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    raw = np.einsum("chwij,ocij->ohw", windows, weight) + bias[:, None, None]
    features, gate = raw[:3], 1 / (1 + np.exp(-raw[3:]))
    expected = np.where(features > 0, features, np.expm1(features)) * gate
    np.testing.assert_allclose(layer(x)[0].detach().numpy(), expected, atol=1e-12)


def test_the_discriminator_is_spectrally_normalised():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, width=8)
    x, mask = torch.rand(4, 3, 32, 32), torch.ones(4, 1, 32, 32)
    for _ in range(50):  # each forward in train mode is a step of the power iteration
        discriminator(x, mask)
    for layer in discriminator.layers:
        if isinstance(layer, nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
            assert float(largest) == pytest.approx(1.0, rel=0.02)


def test_a_judgement_reaches_the_images_and_not_the_discriminator():
    """The released code of the paper detaches the purifier's GAN term: nothing was learnt from it."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(3, width=8)
    image, mask = torch.rand(2, 3, 16, 16, requires_grad=True), torch.ones(2, 1, 16, 16)
    discriminator.judging(image, mask).mean().backward()
    assert float(image.grad.abs().sum()) > 0
    assert all(p.grad is None for p in discriminator.parameters())
    discriminator.eval()
    assert torch.equal(discriminator.judging(image, mask), discriminator(image, mask))


BAD = {
    "name": (("unett", 3), {}, ValueError, "unknown purifier 'unett'; did you mean 'unet'"),
    "option": (("unet", 3), {"with": 8}, TypeError, "purifier 'unet' takes width, levels; got with"),
    "width": (("unet", 3), {"width": 0}, ValueError, "width must be a whole number of at least 1; got 0"),
    "channels": (("autoencoder", 0), {}, ValueError, "in_chans must be a whole number of at least 1; got 0"),
    "dilation": (("inpainting", 3), {"dilations": (2, 0)}, ValueError, r"dilations\[1\] must be a whole number"),
}


@pytest.mark.parametrize("arguments, options, error, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        make_purifier(*arguments, **options)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="'unet' is registered already: UNet"):
        register("unet", "")(PURIFIERS["unet"])


def test_diffusers_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"pip install 'art_ext\[diffusers\]'"):
        make_purifier("diffusers", 3)


def test_a_model_of_diffusers():
    purifier = make_purifier("diffusers", 1, width=8)
    out = purifier(torch.rand(2, 1, 28, 27), torch.ones(2, 1, 28, 27))
    assert out.shape == (2, 1, 28, 27)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1
    with pytest.raises(ValueError, match="model must read 3 or 4 channels and write 3; it reads 2 and writes 1"):
        make_purifier("diffusers", 3, model=purifier.model)
