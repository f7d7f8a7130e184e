"""Warm starts: the perturbation of a row of one batch is where that row of the next begins."""

import copy

import numpy as np
import pytest
import torch

from art_ext.attacks import FGSMRS, InnerPGD, MixedAdversaries
from art_ext.techniques import WarmStart
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

EPS = 0.05
THREAT = ThreatModel("linf", EPS)
QUIET = {"threat": THREAT, "precision": "fp32", "progress": False}


@pytest.fixture
def data(images):
    """20 images: with 8 in a batch, the last has 4."""
    x = torch.cat((images[0], images[0][:4].flip(0))).numpy()
    return x, np.arange(20) % 4


@pytest.fixture
def calls(monkeypatch):
    """(x, where the attack began or None, x_adv) of each call of PGD."""
    seen = []
    call = InnerPGD.__call__

    def noted(self, model, x, y, generator=None):
        x_adv = call(self, model, x, y, generator)
        seen.append((x, self.begin, x_adv))
        return x_adv

    monkeypatch.setattr(InnerPGD, "__call__", noted)
    return seen


def train(trainable, net, data, techniques=("warm-start",), nb_epochs=2, **options):
    trainer = RobustTrainer(
        trainable(copy.deepcopy(net)), techniques=list(techniques), **{"steps": 1} | QUIET | options
    )
    trainer.fit(*data, nb_epochs=nb_epochs, batch_size=8)
    return trainer


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("attack", [None, "fgsm-rs"])
def test_each_row_begins_where_that_row_of_the_batch_before_ended(
    trainable, conv_model, data, calls, accumulate, attack
):
    steps = {"steps": 1} if attack is None else {"steps": None}
    train(trainable, conv_model, data, attack=attack, accumulate=accumulate, **steps)
    found, known = torch.full((8, 3, 8, 8), float("nan")), 0
    assert len(calls) == 2 * 3 * accumulate
    at = 0
    for number, (x, begin, x_adv) in enumerate(calls):
        size = 4 if (number // accumulate) % 3 == 2 else 8
        rows = slice(at, at + len(x))
        at = (at + len(x)) % size
        if known < rows.stop:
            assert begin is None  # the first batch begins as the attack does by itself
        else:
            assert torch.equal(begin, x + found[rows])
        found[rows], known = x_adv - x, max(known, rows.stop)


def test_it_stays_within_the_threat_model(trainable, conv_model, data, calls):
    train(trainable, conv_model, data)
    for x, _, x_adv in calls:
        assert (x_adv - x).abs().max() <= EPS + 1e-6
        assert x_adv.min() >= 0
        assert x_adv.max() <= 1


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize(
    "loss, techniques",
    [("pgd-at", ["awp"]), ("cfa-at", []), ("trades", []), ("pgd-at", ["natural"]), ("pgd-at", ["eps-warm-up"])],
    ids=["AWP", "CFA", "TRADES", "natural", "warm-up"],
)
def test_composition(trainable, conv_model, data, averaging, loss, techniques):
    trainer = train(trainable, conv_model, data, ["warm-start", *techniques], loss=loss, averaging=averaging)
    assert all(np.isfinite(trainer.history.column("loss")))


def test_natural_batches_leave_the_perturbations_alone(images):
    x, y = images
    technique = WarmStart()
    technique.start(torch.nn.Linear(1, 2), 2, 0)
    attack = InnerPGD(THREAT)
    for x_adv in (x + 0.01, x):  # the second is not attacked
        technique.batch(x, y)
        technique.attack_for(attack, x, y)
        technique.after_loss(x, x_adv, None, y)
    technique.batch(x, y)
    torch.testing.assert_close(technique.attack_for(attack, x, y).begin, x + 0.01)


@pytest.mark.parametrize(
    "attack, name",
    [(MixedAdversaries([THREAT, ThreatModel("l2", 1.0)]), "MixedAdversaries"), (lambda model, x, y: x, "partial")],
    ids=["mixed adversaries", "a function"],
)
def test_attacks_without_a_place_to_begin_are_refused(trainable, conv_model, attack, name):
    with pytest.raises(ValueError, match=f"{name} has no place to begin: leave attack out, or warm-start"):
        RobustTrainer(trainable(conv_model), attack=attack, techniques=["warm-start"], **QUIET)


def test_fgsm_rs_has_one():
    technique = WarmStart()
    technique.check(None, FGSMRS(THREAT))
    assert repr(technique) == "WarmStart()"
