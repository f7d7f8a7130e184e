"""Bent images: where pixels come from, how far, and what that does to a network."""

import pytest
import torch
from torch import nn

from art_ext import ThreatModel, evaluate
from art_ext.attacks.spatial import bend, spatial
from art_ext.evaluation import FunctionAttack


@pytest.mark.parametrize("columns, rows", [(0, 0), (1, 0), (0, 2), (-1, 1)])
def test_a_constant_field_of_whole_pixels_is_a_shift(images, columns, rows):
    x, field = images[0], torch.empty(16, 2, 3, 3)
    field[:, 0], field[:, 1] = columns, rows
    expected = torch.roll(x, (-rows, -columns), (2, 3))
    inside = (slice(None), slice(None), slice(2, 6), slice(2, 6))
    torch.testing.assert_close(bend(x, field)[inside], expected[inside])


def test_half_a_pixel_is_the_mean_of_two(images):
    x = images[0]
    field = torch.zeros(16, 2, 1, 1)
    field[:, 0] = 0.5
    torch.testing.assert_close(bend(x, field)[..., :-1], (x[..., :-1] + x[..., 1:]) / 2)


def test_it_finds_the_direction_in_which_a_network_is_weak():
    """Of a bright column, one network sees how far to the right it lies: bent, it is elsewhere."""
    x = torch.zeros(2, 1, 8, 8)
    x[..., 4] = 1
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    with torch.no_grad():
        ramp = (torch.arange(8.0) - 3.5).repeat(8)
        net[1].weight.copy_(torch.stack((ramp, -ramp)))
    y = torch.zeros(2, dtype=torch.int64)
    assert bool((net(x).argmax(1) == y).all())
    x_adv = spatial(net, x, y, max_shift=2.0, steps=10, generator=torch.Generator().manual_seed(0))
    assert bool((net(x_adv).argmax(1) != y).all())
    assert float(x_adv.max()) <= 1


def test_as_part_of_an_evaluation(trainable, conv_model, images):
    attack = FunctionAttack(name="spatial", function=spatial, options={"steps": 3, "grid": 2})
    x, y = (t.numpy() for t in images)
    report = evaluate(
        trainable(conv_model), x, y, threat=ThreatModel("linf", 1.0), suite=[attack], indicators=False, progress=False
    )
    assert report.robust_accuracy <= report.clean_accuracy


BAD = {
    "steps": ({"steps": 0}, "steps must be"),
    "grid": ({"grid": 0}, "grid must be"),
    "shift": ({"max_shift": 0.0}, "max_shift must be > 0 pixels; got 0.0"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(conv_model, images, options, message):
    with pytest.raises(ValueError, match=message):
        spatial(conv_model, *images, **options)


def test_points_are_refused(mlp_model, points):
    with pytest.raises(ValueError, match=r"x must be images \(N, C, H, W\); got shape \(64, 2\)"):
        spatial(mlp_model, *points)
