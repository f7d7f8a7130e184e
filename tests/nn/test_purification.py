"""Purification: transform and purifier together."""

import pytest
import torch
from torch import nn

from art_ext.nn.masking import Masking
from art_ext.nn.purification import Purification, purified
from art_ext.nn.purifiers import UNet


class Recorded(nn.Module):
    """A purifier that returns a fixed function of what it sees, and keeps it."""

    def __init__(self, function=lambda image, mask: image) -> None:
        super().__init__()
        self.function, self.seen = function, []

    def forward(self, image, mask):
        self.seen.append((image, mask))
        return self.function(image, mask)


def test_without_a_transform_the_purifier_sees_all(images):
    purifier = Recorded()
    out, mask = purified(images[0], None, purifier)
    assert torch.equal(out, images[0])
    assert torch.equal(mask, torch.ones(16, 1, 8, 8))


def test_rt1_hands_over_the_mask_and_takes_the_whole_answer(images):
    purifier = Recorded(lambda image, mask: torch.full_like(image, 0.5))
    out, mask = purified(images[0], Masking("rt1"), purifier)
    assert bool((out == 0.5).all())
    assert torch.equal(mask, purifier.seen[0][1])
    assert torch.equal(purifier.seen[0][0], images[0] * mask)


def test_rt3_makes_every_pixel_of_other_pixels():
    """So what an attacker writes into a block is never copied into the same block."""
    torch.manual_seed(0)
    purification, x = Purification(UNet(1, width=4), Masking("rt3", grid=2)), torch.rand(1, 1, 8, 8)

    def made(image):
        torch.manual_seed(1)
        return purification(image)

    jacobian = torch.autograd.functional.jacobian(made, x)[0, 0, :, :, 0, 0]  # (8, 8, 8, 8)
    for i in range(0, 8, 4):
        for j in range(0, 8, 4):
            assert bool((jacobian[i : i + 4, j : j + 4, i : i + 4, j : j + 4] == 0).all())
    assert float(jacobian.abs().sum()) > 0


@pytest.mark.parametrize("steps, vote", [(1, 1), (3, 1), (1, 4), (2, 2)])
def test_steps_follow_each_other_and_votes_are_averaged(images, steps, vote):
    purifier = Recorded(lambda image, mask: image / 2)
    out = Purification(purifier, None, steps=steps, vote=vote)(images[0])
    assert len(purifier.seen) == steps * vote
    torch.testing.assert_close(out, images[0] / 2**steps)


def test_a_vote_is_the_mean_of_fresh_draws(images):
    masking = Masking("rt1")
    torch.manual_seed(0)
    together = Purification(Recorded(), masking, vote=3)(images[0])
    torch.manual_seed(0)
    torch.testing.assert_close(together, sum(masking(images[0]) for _ in range(3)) / 3)


BAD = {
    "steps": ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    "vote": ({"vote": 1.5}, "vote must be a whole number of at least 1; got 1.5"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Purification(Recorded(), None, **options)


def test_a_purifier_that_changes_the_shape_is_refused(images):
    halved = Recorded(lambda image, mask: image[..., ::2, ::2])
    with pytest.raises(ValueError, match=r"made \(16, 3, 4, 4\) of images \(16, 3, 8, 8\); it must keep shapes"):
        Purification(halved, None)(images[0])
