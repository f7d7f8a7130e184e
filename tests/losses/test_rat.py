"""RAT: its gradient without a backward, its soft labels, its noise that leaves no trace."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from art_ext.losses import get_loss
from art_ext.losses.rat import NoisyWeights, head_gradient, noisy_weights, soft_labels
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

QUIET = {"threat": ThreatModel("linf", 0.1), "precision": "fp32", "progress": False, "steps": 2}


def test_the_gradient_is_autograds_summed_over_the_features():
    generator = torch.Generator().manual_seed(0)
    layer = nn.Linear(6, 4).double()
    features, y = torch.randn(5, 6, generator=generator, dtype=torch.float64), torch.arange(5) % 4
    logits = layer(features)
    expected = torch.autograd.grad(F.cross_entropy(logits, y), layer.weight)[0].sum(1)
    torch.testing.assert_close(head_gradient(logits.detach(), features, y), expected)


@pytest.mark.parametrize("classes, own", [(10, 0.2), (100, 0.02)], ids=["10 classes", "100 classes"])
def test_shares_are_those_of_the_authors(classes, own):
    labels = soft_labels(torch.rand(classes, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(labels.sum(1), torch.ones(classes))
    torch.testing.assert_close(labels.diagonal(), torch.full((classes,), own))


@pytest.mark.parametrize(
    "gap, first",
    [
        pytest.param([0.0, 0.0, 0.0, 0.0], [0.5, 1 / 6, 1 / 6, 1 / 6], id="no gap at all"),
        pytest.param([5.0, 1.0, 1.0, 1.0], [0.5, 1 / 6, 1 / 6, 1 / 6], id="none but one's own"),
        pytest.param([-1.0, -1.0, 0.0, 2.0], [0.5, 0.0, 0.125, 0.375], id="in proportion"),
    ],
)
def test_soft_labels(gap, first):
    torch.testing.assert_close(soft_labels(torch.tensor(gap))[0], torch.tensor(first))


def test_two_classes_have_their_labels():
    torch.testing.assert_close(soft_labels(torch.tensor([0.3, 0.1])), torch.eye(2))


def test_the_features_are_the_last_layers(conv_model, images):
    x, y = images
    found = get_loss("rat").compute(conv_model, x, x + 0.1, y)
    body, head = conv_model[:-1], conv_model[-1]
    h, h_adv = body(x), body(x + 0.1)
    expected = get_loss("rat").value(head(h), head(h_adv), y, h, h_adv)
    torch.testing.assert_close(found.value, expected)
    assert not any(m._forward_hooks for m in conv_model.modules())


def test_a_network_without_a_linear_end_is_refused(images):
    x, y = images
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.Unflatten(1, (7, 1)), nn.Flatten(), nn.AvgPool1d(2, 1))
    with pytest.raises(ValueError, match="use 'trades'"):
        get_loss("rat").compute(net, x, x, y % 4)


def test_noise_is_there_while_attacking_and_gone_afterwards(conv_model, images):
    part = NoisyWeights(noise=0.01)
    part.start(conv_model, 4, 0)
    before = copy.deepcopy(conv_model.state_dict())

    def interrupted() -> None:
        with part.attacking(conv_model, images[0]):
            moved = (conv_model[0].weight - before["0.weight"]).detach()
            assert moved.std().item() == pytest.approx(0.01, rel=0.3)
            assert torch.equal(conv_model[-1].weight, before["5.weight"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(value, before[name]) for name, value in conv_model.state_dict().items())


def test_without_convolutions_all_weights_are_noisy(mlp_model):
    assert [tuple(w.shape) for w in noisy_weights(mlp_model)] == [(16, 2), (2, 16)]


@pytest.mark.parametrize("averaging", [None, "piat"], ids=["alone", "in PIAT"])
def test_it_trains(trainable, conv_model, images, averaging):
    x, y = images[0].numpy(), np.arange(16) % 4
    made = RobustTrainer(trainable(conv_model), loss="rat", averaging=averaging, **QUIET)
    made.fit(x, y, nb_epochs=8, batch_size=8)
    losses = made.history.column("loss")
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    "options, match",
    [({"alpha": 1.2}, "alpha must be in"), ({"noise": -1.0}, "noise must be ≥ 0")],
    ids=["alpha", "noise"],
)
def test_values_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        get_loss("rat", **options)
