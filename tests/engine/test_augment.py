"""Augmentation against all crops that are possible, one by one."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from art_ext.engine.augment import AUGMENTATIONS, crop, crop_flip, flip, get_augmentation


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def possible(image: Tensor, padding: int, mirrored: bool) -> list[bytes]:
    """Every crop of the zero-padded image, and its mirror image, as bytes."""
    channels, height, width = image.shape
    padded = np.zeros((channels, height + 2 * padding, width + 2 * padding), np.float32)
    padded[:, padding : padding + height, padding : padding + width] = image.numpy()
    corners = [(row, column) for row in range(2 * padding + 1) for column in range(2 * padding + 1)]
    crops = [padded[:, row : row + height, column : column + width] for row, column in corners]
    return [c.tobytes() for c in crops] + [c[:, :, ::-1].tobytes() for c in crops if mirrored]


AUGMENTED = {
    "crop-flip": (crop_flip, 4, True),
    "crop": (crop, 4, False),
    "flip": (flip, 0, True),
    "padding 1": (partial(crop_flip, padding=1), 1, True),
}


@pytest.mark.parametrize("augment, padding, mirrored", AUGMENTED.values(), ids=AUGMENTED)
def test_each_image_becomes_one_of_its_own_crops(augment, padding, mirrored):
    x = torch.rand(32, 2, 5, 7, generator=generator(1))
    before = x.clone()
    out = augment(x, generator())
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    torch.testing.assert_close(x, before, rtol=0, atol=0)
    choices = [possible(image, padding, mirrored).index(o.numpy().tobytes()) for image, o in zip(x, out, strict=True)]
    assert len(set(choices)) > 1


def test_places_and_mirrors_are_uniform_and_independent():
    n, kinds = 3600, 18  # 3 rows × 3 columns × 2 directions
    image = torch.rand(1, 4, 4, generator=generator(1))
    known = possible(image, 1, True)
    out = crop_flip(image.expand(n, -1, -1, -1), generator(), padding=1)
    drawn = np.array([known.index(o.numpy().tobytes()) for o in out])
    five_sigma = 5 * np.sqrt(n / kinds)
    assert np.abs(np.bincount(drawn, minlength=kinds) - n / kinds).max() < five_sigma
    assert abs((drawn[1:] == drawn[:-1]).sum() - n / kinds) < five_sigma  # neighbours share no draw


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_draws_come_from_the_generator_alone(name):
    x = torch.rand(16, 1, 6, 6, generator=generator(1))
    augment, source, state = AUGMENTATIONS[name], generator(), torch.get_rng_state()
    first, second = augment(x, source), augment(x, source)
    assert torch.equal(first, augment(x, generator()))
    assert not torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_by_name():
    assert get_augmentation(None) is None
    assert get_augmentation("crop") is crop
    assert get_augmentation(flip) is flip
    with pytest.raises(ValueError, match="unknown augmentation 'cropflip'; did you mean 'crop-flip'"):
        get_augmentation("cropflip")
