"""Patch masking: how many patches, where, and that nothing else changes."""

from math import floor

import pytest
import timm
import torch
from torch import nn

from art_ext.attacks import pgd
from art_ext.threat import ThreatModel
from art_ext.vit import mask_patches, patch_masking, patch_size

from .conftest import NETWORKS

X = torch.rand(3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
X_ADV = X + 0.1


def masked_patches(out: torch.Tensor, patch: tuple[int, int]) -> torch.Tensor:
    """Which patches are clean, (N, rows, columns): all of a patch or nothing of it, in all channels."""
    clean = (out == X).unflatten(2, (-1, patch[0])).unflatten(4, (-1, patch[1]))
    whole, any_of_it = clean.all(5).all(3).all(1), clean.any(5).any(3).any(1)
    assert torch.equal(whole, any_of_it)
    return whole


@pytest.mark.parametrize("patch", [(2, 2), (4, 4), (4, 6), (8, 12), (1, 1)])
@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.75, 0.99, 1.0])
def test_as_many_patches_as_the_paper_says_the_same_of_all_images(patch, keep):
    out = mask_patches(X_ADV, X, patch=patch, keep=keep, generator=torch.Generator().manual_seed(0))
    masked = masked_patches(out, patch)
    patches = (8 // patch[0]) * (12 // patch[1])
    assert masked.flatten(1).sum(1).tolist() == [floor(patches * (1 - keep))] * 3
    assert torch.equal(masked[0], masked[1])
    assert torch.equal(torch.where(out == X, X, X_ADV), out)


def test_places_are_drawn_uniformly_and_anew():
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(4, 6)
    for _ in range(600):
        counts += masked_patches(mask_patches(X_ADV, X, patch=(2, 2), keep=0.75, generator=generator), (2, 2))[0]
    assert counts.sum() == 600 * 6
    assert (counts / 600 - 0.25).abs().max() < 4.5 * (0.25 * 0.75 / 600) ** 0.5


def test_the_inputs_are_not_modified():
    x, x_adv = X.clone(), X_ADV.clone()
    out = mask_patches(x_adv, x, patch=(2, 2), keep=0.0)
    assert torch.equal(out, X)
    out.zero_()
    assert torch.equal(x, X)
    assert torch.equal(x_adv, X_ADV)


def test_before_each_step_of_pgd():
    net, y = nn.Sequential(nn.Flatten(), nn.Linear(X[0].numel(), 2)), torch.tensor([0, 1, 0])
    seen = []
    with patch_masking(4, keep=0.5, generator=torch.Generator().manual_seed(0)) as without_patches:

        def watched(x_adv, x):
            seen.append(masked_patches(without_patches(x_adv, x), (4, 4)))
            return without_patches(x_adv, x)

        x_adv = pgd(net, X, y, threat=ThreatModel("linf", 0.1), steps=3, before_step=watched)
    assert [int(m[0].sum()) for m in seen] == [3, 3, 3]
    assert len({tuple(m[0].flatten().tolist()) for m in seen}) > 1
    assert (x_adv - X).abs().amax((1, 2, 3)).tolist() == pytest.approx([0.1] * 3)


@pytest.mark.parametrize(
    "name, expected", [(name, (2, 2) if name.startswith("swin") else (4, 4)) for name in NETWORKS], ids=list(NETWORKS)
)
def test_the_patches_of_the_model(make_vit, name, expected):
    assert patch_size(nn.Sequential(make_vit(name))) == expected
    with patch_masking(make_vit(name), keep=0.0) as without_patches:
        assert torch.equal(without_patches(X_ADV, X), X)


@pytest.mark.parametrize("name", ["resnet18", "pvt_v2_b0", "mobilevit_xxs", "vit_tiny_r_s16_p8_224"])
def test_no_patches_of_pixels_side_by_side(name):
    with torch.device("meta"):
        net = timm.create_model(name)
    with (
        pytest.raises(ValueError, match=r"no patch embedding.*give the number of pixels"),
        patch_masking(net, keep=0.5),
    ):
        pass


@pytest.mark.parametrize(
    "arguments, keep, message",
    [
        pytest.param(0, 0.5, "whole number of pixels", id="no pixels"),
        pytest.param((4, 0), 0.5, "whole number of pixels", id="no width"),
        pytest.param((4, 4, 4), 0.5, "whole number of pixels", id="three sides"),
        pytest.param(4, 2, r"keep must be a share in \[0, 1\]; got 2", id="keep"),
    ],
)
def test_bad_arguments(arguments, keep, message):
    with pytest.raises(ValueError, match=message), patch_masking(arguments, keep=keep):
        pass


@pytest.mark.parametrize("shape", [(2, 3, 9, 8), (2, 3, 8, 9), (2, 16)])
def test_images_that_patches_do_not_tile(shape):
    x = torch.zeros(shape)
    with patch_masking(4, keep=1.0) as without_patches, pytest.raises(ValueError, match="4 × 4 pixels do not tile"):
        without_patches(x, x)
