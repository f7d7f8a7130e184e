"""Natural batches: how many, that nothing attacks them, and that the other techniques notice."""

import copy

import numpy as np
import pytest
import torch

from art_ext.attacks import MixedAdversaries
from art_ext.technique import Technique
from art_ext.techniques import Natural
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

THREAT = ThreatModel("linf", 0.1)
QUIET = {"threat": THREAT, "precision": "fp32", "progress": False, "steps": 1}


class Noting(Technique):
    """Whether each batch was attacked."""

    name = "noting"

    def __init__(self):
        self.attacked = []

    def after_loss(self, x, x_adv, logits_adv, y):
        self.attacked.append(not torch.equal(x, x_adv))


@pytest.fixture
def data(images):
    return images[0].numpy(), np.arange(16) % 4


def train(trainable, net, data, techniques, nb_epochs=3, **options):
    trainer = RobustTrainer(trainable(copy.deepcopy(net)), techniques=techniques, **QUIET | options)
    trainer.fit(*data, nb_epochs=nb_epochs, batch_size=4)
    return trainer


@pytest.mark.parametrize("share", [0.05, 0.5])
def test_so_many_batches_are_natural(share):
    technique, n = Natural(share=share), 2000
    technique.start(torch.nn.Linear(1, 2), 2, 0)
    natural = 0
    for _ in range(n):
        technique.before_batch(0.0, 1)
        natural += technique.attack_for("an attack", None, None) != "an attack"
    assert abs(natural - share * n) < 5 * (share * (1 - share) * n) ** 0.5  # five standard deviations


def test_all_processes_and_parts_agree():
    first, second = Natural(share=0.5), Natural(share=0.5)
    for technique in (first, second):
        technique.start(torch.nn.Linear(1, 2), 2, 7)
    for _ in range(20):
        for technique in (first, second):
            technique.before_batch(0.0, 1)
        said = [technique.attack_for("a", None, None) == "a" for technique in (first, first, second)]
        assert len(set(said)) == 1


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize(
    "options",
    [{}, {"attack": MixedAdversaries([THREAT, ThreatModel("l2", 0.5)], steps=1)}, {"attack": lambda m, x, y: x + 0.1}],
    ids=["PGD", "mixed adversaries", "a function"],
)
def test_they_are_not_attacked(trainable, conv_model, data, averaging, options):
    noting = Noting()
    train(trainable, conv_model, data, [Natural(share=0.5), noting], averaging=averaging, **options)
    assert set(noting.attacked) == {True, False}


@pytest.mark.parametrize("others", [["awp"], ["warm-start"], ["eps-warm-up"], ["free"], ["overfitting-alarm"]], ids=str)
@pytest.mark.parametrize("natural_first", [True, False])
def test_beside_others_in_any_order(trainable, conv_model, data, others, natural_first):
    noting, natural = Noting(), Natural(share=0.5)
    techniques = [natural, *others] if natural_first else [*others, natural]
    trainer = train(trainable, conv_model, data, [*techniques, noting])
    assert set(noting.attacked) == {True, False}
    assert all(np.isfinite(trainer.history.column("loss")))


def test_per_class_radii(trainable, conv_model, data):
    noting = Noting()
    train(trainable, conv_model, data, [Natural(share=0.5), noting], loss="cfa-at")
    assert set(noting.attacked) == {True, False}


def test_a_natural_batch_of_trades_is_cross_entropy(trainable, conv_model, data):
    losses = [
        train(trainable, conv_model.eval(), data, [Natural(share=1 - 1e-9)], loss=loss, nb_epochs=1).history
        for loss in ("trades", "pgd-at")
    ]
    trades, plain = (history.column("loss")[0] for history in losses)
    assert trades == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_bad_shares(share):
    with pytest.raises(ValueError, match=r"share must be in \(0, 1\)"):
        Natural(share=share)
