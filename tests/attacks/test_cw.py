"""Carlini and Wagner's attack: the closed form of a linear network, another implementation, what it leaves alone."""

import pytest
import torch
from torch import nn

from art_ext.attacks import cw
from art_ext.attacks.cw import _Bisection
from art_ext.scores import margin
from art_ext.threat import ThreatModel

NEAR = {"steps": 80, "searches": 8, "learning_rate": 0.003}  # close to the optimum on these networks


@pytest.fixture
def inner(linear_model, images):
    """Images that stay away from the edges of the range, and the classes that a linear network gives them."""
    x = 0.4 + 0.2 * images[0].double()
    linear_model.double()
    linear_model.requires_grad_(False)
    return linear_model, x, linear_model(x).argmax(1)


def distance_to_boundary(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """min over i of (z_y − z_i) / ‖w_y − w_i‖."""
    weight, logits = net[1].weight, net(x)
    gaps = logits.gather(1, y[:, None]) - logits
    norms = (weight[y][:, None] - weight).norm(dim=2)
    return (gaps / norms).masked_fill(norms == 0, torch.inf).amin(1)


def test_distance_is_that_of_the_closed_form(inner):
    net, x, y = inner
    x_adv = cw(net, x, y, **NEAR)
    assert bool((net(x_adv).argmax(1) != y).all())
    ratio = (x_adv - x).flatten(1).norm(dim=1) / distance_to_boundary(net, x, y)
    assert float(ratio.min()) >= 1 - 1e-9
    assert float(ratio.max()) <= 1.03


def test_confidence_is_the_margin_that_it_keeps(inner):
    net, x, y = inner
    x_adv = cw(net, x, y, confidence=0.5, **NEAR)
    margins = margin(net(x_adv), y)
    assert float(margins.min()) > 0.5
    assert float(margins.max()) < 0.6


def test_range_is_kept_and_edges_can_be_left(linear_model):
    x = torch.tensor([0.0, 1.0]).repeat(96).view(1, 3, 8, 8)
    y = linear_model(x).argmax(1)
    x_adv = cw(linear_model, x, y, steps=50, learning_rate=0.1)
    assert bool((linear_model(x_adv).argmax(1) != y).all())
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1


def test_what_is_outside_the_ball_is_a_failure(inner):
    net, x, y = inner
    needed = distance_to_boundary(net, x, y).sort().values
    eps = float(needed[7] + needed[8]) / 2  # the boundary of half of them is nearer
    x_adv = cw(net, x, y, threat=ThreatModel("l2", eps), **NEAR)
    moved = (x_adv != x).flatten(1).any(1)
    assert 5 <= int(moved.sum()) <= 8
    assert float((x_adv - x).flatten(1).norm(dim=1).max()) <= eps
    assert bool((net(x_adv).argmax(1) != y)[moved].all())


def test_misclassified_images_are_not_touched(linear_model, images):
    x, wrong = images[0], (linear_model(images[0]).argmax(1) + 1) % 4
    torch.testing.assert_close(cw(linear_model, x, wrong, steps=5), x, atol=1e-5, rtol=0)


def test_leaves_no_trace(conv_model, images):
    x, y = images
    conv_model.train()
    before, random = [p.clone() for p in conv_model.state_dict().values()], torch.get_rng_state()
    given = x.clone()
    cw(conv_model, x, y, steps=3, searches=2)
    assert conv_model.training
    assert all(p.requires_grad and p.grad is None for p in conv_model.parameters())
    assert all(map(torch.equal, before, conv_model.state_dict().values()))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(given, x)


def test_bisection_of_c():
    c = _Bisection.starting(torch.tensor([1.0, 1.0]))
    c = c.next(torch.tensor([True, False]))
    assert c.value.tolist() == [0.5, 10.0]
    c = c.next(torch.tensor([False, True]))
    assert c.value.tolist() == [0.75, 5.5]


def test_agrees_with_torchattacks(linear_model, images):
    torchattacks = pytest.importorskip("torchattacks")
    x = 0.1 + 0.8 * images[0]
    with torch.no_grad():
        linear_model[1].bias += 10  # theirs takes a logit of 0 for a class
    y = linear_model(x).argmax(1)
    theirs = torchattacks.CW(linear_model, c=1, steps=10, lr=0.02)(x, y)  # later it stops by a rule of its own
    ours = cw(linear_model, x, y, const=1.0, steps=9, searches=1, learning_rate=0.02)  # looks at its last point
    assert int((linear_model(ours).argmax(1) != y).sum()) >= 8
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


BAD = {
    "steps": ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    "searches": ({"searches": 0}, "searches must be"),
    "learning rate": ({"learning_rate": 0.0}, "learning_rate must be > 0; got 0.0"),
    "confidence": ({"confidence": -1.0}, "confidence must be at least 0; got -1.0"),
    "const": ({"const": float("nan")}, "const must be > 0; got nan"),
    "another norm": ({"threat": ThreatModel("linf", 0.1)}, "ℓ2 attack .*; the threat model is ℓ∞ ε=0.1"),
    "no range": ({"threat": ThreatModel("l2", 1.0, clip=None)}, "of a valid range"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(conv_model, images, options, message):
    with pytest.raises(ValueError, match=message):
        cw(conv_model, *images, **options)
