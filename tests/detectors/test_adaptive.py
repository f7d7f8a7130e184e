"""The attacker who knows the detector, where it is known what can be reached."""

import pytest
import torch
from torch import nn

from art_ext.attacks import pgd
from art_ext.detectors.adaptive import evade, evaded
from art_ext.threat import ThreatModel

EPS = 0.1


class Window(nn.Module):
    """Logits of two classes and the distance to a threshold, all of the mean of the image.

    From 0.5 on the class is wrong; above ``limit`` the detector speaks: between the two it is fooled in silence.
    """

    def __init__(self, boundary, limit):
        super().__init__()
        self.boundary, self.limit = boundary, limit

    def forward(self, x):
        mean = x.flatten(1).mean(1)
        gain = 50 * (mean - self.boundary)
        return torch.stack((-gain, gain, 50 * (self.limit - mean)), 1)


@pytest.fixture
def grey():
    return torch.full((8, 1, 4, 4), 0.47), torch.zeros(8, dtype=torch.int64)


@pytest.mark.parametrize("norm, eps", [("linf", EPS), ("l2", 4 * EPS)])
def test_finds_the_window_between_both(grey, norm, eps):
    model, threat = Window(0.52, 0.53), ThreatModel(norm, eps)
    blind = pgd(nn.Sequential(model), *grey, threat=threat, steps=30, objective=lambda z, y: z[:, 1] - z[:, 0])
    assert not evaded(model, blind, grey[1]).any()
    x_adv = evade(model, *grey, threat=threat, steps=90)
    assert evaded(model, x_adv, grey[1]).all()
    assert float(threat.distance(x_adv, grey[0]).max()) <= eps + 1e-6


@pytest.mark.parametrize("boundary, limit", [(0.53, 0.52), (0.6, 1.0)], ids=["no window", "out of reach"])
def test_finds_nothing_where_there_is_nothing(grey, boundary, limit):
    model = Window(boundary, limit)
    x_adv = evade(model, *grey, threat=ThreatModel("linf", EPS), steps=30, restarts=2)
    assert not evaded(model, x_adv, grey[1]).any()


def test_what_evades_already_is_found_at_once(grey):
    model = Window(0.4, 0.6)
    assert evaded(model, evade(model, *grey, threat=ThreatModel("linf", EPS), steps=3), grey[1]).all()


def test_steps_and_rounds_are_what_they_are_said_to_be(grey):
    passes = []
    model = Window(0.53, 0.52)
    model.register_forward_hook(lambda m, args, out: passes.append(len(out)))
    evade(model, *grey, threat=ThreatModel("linf", EPS), steps=30, restarts=2)
    # two objectives and two rounds of 30 steps; each of three stages, and each run, is judged once more
    assert len(passes) == 4 * (30 + 3 + 1)
    assert set(passes) == {8}


def test_generator_and_data(grey):
    model, threat, given = Window(0.52, 0.5201), ThreatModel("linf", EPS), grey[0].clone()
    random = torch.get_rng_state()
    found = [evade(model, *grey, threat=threat, steps=3, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(grey[0], given)
    assert torch.equal(torch.get_rng_state(), random)


def test_radius_per_example(grey):
    threat = ThreatModel("linf", torch.tensor([0.01] * 4 + [0.1] * 4))
    model = Window(0.52, 0.56)
    found = evaded(model, evade(model, *grey, threat=threat, steps=30), grey[1])
    assert found.tolist() == [False] * 4 + [True] * 4
