"""Adversarial weight perturbation: its size, its direction, and that nothing of it stays."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from art_ext.losses import get_loss
from art_ext.techniques import AWP
from art_ext.techniques.awp import perturb
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

QUIET = {"threat": ThreatModel("linf", 0.1), "precision": "fp32", "progress": False, "steps": 1}


def opened(net, gamma=0.05):
    part = AWP(gamma=gamma, after=0)
    part.start(net, 4, 0)
    part.before_batch(0.0, 1)
    return part


def test_the_perturbation_has_the_share_of_each_layers_norm(conv_model, images):
    x, y = images
    before = copy.deepcopy(conv_model.state_dict())
    with opened(conv_model).perturbing(conv_model.train(), get_loss("pgd-at"), x, x, y, 0.0):
        for name, value in conv_model.named_parameters():
            moved = (value - before[name]).norm() / before[name].norm().clamp(min=1e-9)
            assert moved.item() == pytest.approx(0.05 if value.ndim > 1 else 0.0, rel=1e-4), name


def test_it_goes_along_the_gradient_of_a_linear_classifier(linear_model, images):
    x, y = images
    head = linear_model[1]
    error = linear_model(x).softmax(1) - F.one_hot(y, 4)
    expected = (error.T @ x.flatten(1)) / len(x)
    before = head.weight.detach().clone()
    with opened(linear_model).perturbing(linear_model, get_loss("pgd-at"), x, x, y, 0.0):
        moved = (head.weight - before).detach()
    cosine = F.cosine_similarity(moved.flatten(), expected.detach().flatten(), dim=0)
    assert cosine.item() == pytest.approx(1.0, abs=1e-5)


def test_it_raises_the_loss_and_leaves_nothing(conv_model, images):
    x, y = images
    loss, net = get_loss("trades"), conv_model.train()
    before = copy.deepcopy(net.state_dict())
    plain = loss.compute(net, x, x + 0.05, y).value.item()
    net.load_state_dict(before)

    def interrupted() -> None:
        with opened(net).perturbing(net, loss, x, x + 0.05, y, 0.0):
            assert net[1].num_batches_tracked == before["1.num_batches_tracked"], "its own forwards leave no statistics"
            assert loss.compute(net, x, x + 0.05, y).value.item() > plain
            net.load_state_dict({**net.state_dict(), **{k: v for k, v in before.items() if k.startswith("1.")}})
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None for p in net.parameters())


def test_a_zero_gradient_moves_nothing():
    weight = torch.ones(2, 2)
    perturb([weight], [torch.zeros(2, 2)], 0.1)
    assert torch.equal(weight, torch.ones(2, 2))


@pytest.mark.parametrize("loss", ["pgd-at", "trades", "mart", "nmse", "cfa", "rat"])
@pytest.mark.parametrize("averaging", [None, "piat"], ids=["alone", "in PIAT"])
def test_it_begins_after_its_epochs(trainable, conv_model, images, loss, averaging):
    x, y = images[0].numpy(), np.arange(16) % 4
    histories = []
    for techniques in ((), [AWP(after=1)]):
        net = copy.deepcopy(conv_model)
        made = RobustTrainer(trainable(net), loss=loss, averaging=averaging, techniques=techniques, **QUIET)
        made.fit(x, y, nb_epochs=2, batch_size=8)
        histories.append(made.history.column("loss"))
    assert histories[0][0] == histories[1][0]
    assert histories[0][1] != histories[1][1]


@pytest.mark.parametrize(
    "options, match",
    [({"gamma": 0.0}, r"gamma must be in \(0, 1\)"), ({"after": -1}, "after must be ≥ 0")],
    ids=["gamma", "after"],
)
def test_values_out_of_range(options, match):
    with pytest.raises(ValueError, match=match):
        AWP(**options)
