"""Examples made on one model and tried on another."""

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.evaluation import PGDAttack, transfer_matrix
from art_ext.evaluation.figures import svg
from art_ext.threat import ThreatModel
from tests.evaluation.conftest import make_linear

THREAT = ThreatModel("linf", 0.05)


class Rounded(nn.Module):
    """Its gradient is zero; that of the network inside is not."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner((x * 64).round() / 64)


def matrix_of(models, linear, **options):
    return transfer_matrix(models, linear.x, linear.y, threat=THREAT, progress=False, **options)


def test_linear_models_against_the_closed_form(linear):
    other = make_linear(1).net
    matrix = matrix_of({"own": linear.net, "other": other}, linear, batch_size=16)
    assert (matrix.sources, matrix.targets) == (("own", "other"), ("own", "other"))
    x, y = torch.from_numpy(linear.x), torch.from_numpy(linear.y)
    for source, row in zip((linear.net, other), matrix.accuracies, strict=True):
        direction = (source[1].weight[1] - source[1].weight[0]).sign().view(1, 3, 4, 4)
        worst = (x - 0.05 * direction * (2.0 * y - 1).view(-1, 1, 1, 1)).clamp(0, 1)
        expected = [(target(worst).argmax(1) == y).float().mean().item() for target in (linear.net, other)]
        assert row == pytest.approx(expected)
    assert matrix.clean == pytest.approx([(net(x).argmax(1) == y).float().mean().item() for net in (linear.net, other)])


def test_the_network_inside_a_defense_is_a_source_and_gives_it_away(linear):
    matrix = matrix_of({"rounded": Rounded(linear.net), "plain": linear.net}, linear)
    assert matrix.sources == ("rounded", "plain", "inside rounded")
    rows = dict(zip(matrix.sources, matrix.accuracies, strict=True))
    assert rows["rounded"][0] > 0.6 > rows["inside rounded"][0]
    assert matrix.stronger_than_own() == {"rounded": "plain"}
    assert matrix_of({"rounded": Rounded(linear.net)}, linear, twins=False).sources == ("rounded",)


def test_repeatable_and_without_a_trace(linear):
    model, state = linear.net.train(), torch.get_rng_state()
    one, two = (matrix_of({"a": model}, linear) for _ in range(2))
    assert one == two
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


def test_shown_as_text_and_picture(linear):
    matrix = matrix_of({"a <b>": linear.net, "c": make_linear(1).net}, linear)
    assert "PGD-50 on the margin; ℓ∞ ε=0.05; 60 images; seed 0" in str(matrix)
    assert len({len(line) for line in str(matrix).splitlines()[:-1]}) == 1
    assert "a &lt;b&gt;" in svg(matrix)


def test_an_attack_cannot_leave_the_ball(linear):
    class Far(PGDAttack):
        def run(self, model, x, y, **kwargs):
            return 1 - x

    near = matrix_of({"a": linear.net}, linear, attack=Far(name="far"))
    assert near.accuracies[0][0] > np.mean(linear.net(1 - torch.from_numpy(linear.x)).argmax(1).numpy() == linear.y)


BAD = {
    "no model": ({"models": {}}, ValueError, "models must name at least one model; got none"),
    "an ART attack": ({"attack": "pgd"}, TypeError, "attack must be a native attack"),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1; got 0"),
}


@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_bad_argument(linear, change, error, message):
    with pytest.raises(error, match=message):
        transfer_matrix(**{"models": {"a": linear.net}, "x": linear.x, "y": linear.y, "threat": THREAT} | change)
