"""Threshold crossing: against the exact worst case of a quantized linear model, inside the ball, and refusals."""

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.attacks.crossing import crossing
from art_ext.nn.quantization import SoftQuantizer
from art_ext.threat import ThreatModel

HALF = torch.tensor([0.5])


@pytest.fixture
def quantized() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of two classes on two grey levels, and images that it classifies correctly."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(SoftQuantizer(levels=2, hard=True), nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(generator=generator)
    x = torch.rand(40, 3, 4, 4, generator=generator)
    with torch.no_grad():
        return net, x, net(x).argmax(1)


def lowest_margin(net: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Of the true class, in ℓ∞: each pixel on the side of ½ that is worse, where it can get there."""
    weight, bias = (p.detach().double() for p in (net[2].weight, net[2].bias))
    sign = 2.0 * y.double() - 1
    w = (weight[1] - weight[0]) * sign[:, None]
    flat = x.flatten(1).double()
    low, high = (flat - eps > 0.5).double(), (flat + eps > 0.5).double()
    return torch.minimum(w * low, w * high).sum(1) + sign * (bias[1] - bias[0])


@pytest.mark.parametrize("eps", [0.02, 0.05, 0.1])
def test_it_finds_the_worst_case_of_a_quantized_linear_model(quantized, eps):
    net, x, y = quantized
    fallen = lowest_margin(net, x, y, eps) < 0
    assert 0 < int(fallen.sum()) < 40
    x_adv = crossing(net, x, y, threat=ThreatModel("linf", eps), thresholds=HALF, beyond=1e-3, steps=1)
    with torch.no_grad():
        assert torch.equal(net(x_adv).argmax(1) != y, fallen)


def test_in_l2_the_budget_goes_where_it_pays(quantized):
    """More examples fall than to PGD on the same surrogate, which spends on pixels that cross nothing."""
    net, x, y = quantized
    threat = ThreatModel("l2", 0.1)
    with torch.no_grad():
        fallen = net(crossing(net, x, y, threat=threat, thresholds=HALF, beyond=1e-3)).argmax(1) != y
        by_pgd = net(pgd(net, x, y, threat=threat, steps=20, early_exit=True)).argmax(1) != y
    assert int(fallen.sum()) > int(by_pgd.sum())


@pytest.mark.parametrize("threat", [ThreatModel("linf", 0.1), ThreatModel("l2", 0.3)], ids=str)
def test_results_lie_in_the_ball_and_the_input_is_left_alone(quantized, threat):
    net, x, y = quantized
    before = x.clone()
    thresholds = torch.tensor([[0.2, 0.6], [0.3, 0.5], [0.01, 0.99]])
    x_adv = crossing(net, x, y, threat=threat, thresholds=thresholds, beyond=0.02)
    assert torch.equal(x, before)
    assert bool((threat.distance(x_adv, x) <= threat.eps + 1e-6).all())
    assert bool(((x_adv >= 0) & (x_adv <= 1)).all())
    assert not torch.equal(x_adv, x)


def test_several_thresholds_are_crossed_one_after_the_other():
    net = nn.Sequential(nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        net[1].bias.copy_(torch.tensor([0.0, -10.0]))
    x, thresholds = torch.tensor([0.5]).view(1, 1, 1, 1), torch.tensor([0.15, 0.25, 0.35, 0.45])
    options = {"threat": ThreatModel("linf", 0.3), "thresholds": thresholds, "beyond": 0.001}
    for steps, expected in ((1, 0.449), (2, 0.349), (3, 0.249), (4, 0.249)):  # 0.15 is out of reach
        x_adv = crossing(net, x, torch.tensor([0]), steps=steps, **options)
        assert x_adv.item() == pytest.approx(expected)


BAD = {
    "steps": ({"steps": 0}, "steps must be"),
    "eot": ({"eot": 0}, "eot must be"),
    "goal": ({"objective": "cee"}, "'ce'"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(quantized, options, message):
    net, x, y = quantized
    with pytest.raises(ValueError, match=message):
        crossing(net, x, y, threat=ThreatModel("linf", 0.1), thresholds=HALF, **options)
