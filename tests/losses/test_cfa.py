"""CFA's numbers by hand, and what a training makes of them."""

import copy

import numpy as np
import pytest
import torch

from art_ext.attacks import InnerPGD
from art_ext.losses import get_loss
from art_ext.losses.cfa import ClassWise, class_shares
from art_ext.threat import ThreatModel
from art_ext.trainers import PIATTrainer, RobustTrainer

THREAT = ThreatModel("linf", 0.1)
QUIET = {"threat": THREAT, "precision": "fp32", "progress": False, "steps": 2}


@pytest.fixture
def data(images):
    x, _ = images
    return x.numpy(), np.arange(16) % 4


def test_shares_of_trades_where_all_are_half_robust():
    accuracy = torch.tensor([0.0, 0.5, 1.0])
    shares = class_shares(accuracy, beta=6.0, base=0.5)
    torch.testing.assert_close(shares, torch.tensor([3 / 4, 6 / 7, 9 / 10]))


def started(linear_model, **options) -> ClassWise:
    part = ClassWise(**options)
    part.start(linear_model, 4, 0)
    return part


def epoch(part, hits: list[list[int]]) -> dict[str, float]:
    """An epoch in which class k has the outcomes ``hits[k]``."""
    for k, outcomes in enumerate(hits):
        for hit in outcomes:
            logits = torch.nn.functional.one_hot(torch.tensor([k if hit else (k + 1) % 4]), 4).float()
            part.after_loss(torch.zeros(1), torch.zeros(1), logits, torch.tensor([k]))
    return part.after_epoch(0, torch.nn.Identity())


def test_radius_and_loss_of_each_class(linear_model):
    part = started(linear_model, after=1)
    assert epoch(part, [[1, 1], [1, 0], [0, 0], [1, 1, 1, 0]]) == {"train_worst_class": 0.0}
    part.before_batch(1.0, 3)
    y = torch.tensor([3, 0, 2])
    attack = part.attack_for(InnerPGD(THREAT, steps=5), torch.zeros(3), y)
    torch.testing.assert_close(attack.threat.eps, torch.tensor([1.25, 1.5, 0.5]) * 0.1)
    assert attack.step_size == pytest.approx(2.5 * 0.1 / 5), "the step is that of the nominal ε"
    told = part.loss_for(get_loss("cfa", beta=2.0))
    torch.testing.assert_close(told.shares, torch.tensor([3 / 4, 2 / 3, 1 / 2, 2.5 / 3.5]))


@pytest.mark.parametrize(
    "after, done, differ",
    [(10, 9.99, False), (10, 10.0, True), (0, 0.5, False), (0, 1.0, True)],
    ids=["before", "from then on", "the first epoch knows nothing", "the second does"],
)
def test_when_classes_begin_to_differ(linear_model, after, done, differ):
    part = started(linear_model, after=after)
    part.before_batch(done, 20)
    attack, loss = InnerPGD(THREAT), get_loss("cfa")
    assert (part.attack_for(attack, torch.zeros(1), torch.tensor([0])) is not attack) == differ
    assert (part.loss_for(loss) is not loss) == differ


@pytest.mark.parametrize("trainer", [RobustTrainer, PIATTrainer], ids=["alone", "in PIAT"])
@pytest.mark.parametrize("loss", ["cfa", "cfa-at"])
def test_training_tells_the_worst_class(trainable, conv_model, data, loss, trainer):
    made = trainer(trainable(conv_model), loss=get_loss(loss, after=1), **QUIET)
    made.fit(*data, nb_epochs=3, batch_size=8)
    worst, all_ = made.history.column("train_worst_class"), made.history.column("train_robust")
    assert len(worst) == 3
    assert all(low <= mean for low, mean in zip(worst, all_, strict=True))


def test_a_resumed_run_is_the_same(trainable, conv_model, data, tmp_path):
    def trainer(name):
        net = copy.deepcopy(conv_model)
        loss = get_loss("cfa", after=1)
        return RobustTrainer(trainable(net), loss=loss, **QUIET, checkpoint_dir=tmp_path / name, checkpoint_every=1)

    whole = trainer("whole")
    whole.fit(*data, nb_epochs=4, batch_size=8)
    trainer("parts").fit(*data, nb_epochs=2, batch_size=8)
    second = trainer("parts")
    second.resume()
    second.fit(*data, nb_epochs=4, batch_size=8)
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    "loss, options, match",
    [
        pytest.param("cfa", {"base": 0.0}, "base must be > 0", id="base"),
        pytest.param("cfa-at", {"after": -1}, "after must be ≥ 0", id="after"),
    ],
)
def test_values_out_of_range(loss, options, match):
    with pytest.raises(ValueError, match=match):
        get_loss(loss, **options)


def test_a_class_without_examples_is_named_before_training(trainable, conv_model, data):
    x, y = data
    made = RobustTrainer(trainable(conv_model), loss="cfa", **QUIET)
    with pytest.raises(ValueError, match=r"none of \[2\]"):
        made.fit(x[y != 2], y[y != 2], nb_epochs=1, batch_size=4)
    assert not len(made.history)


def test_an_attack_of_ones_own_is_refused(trainable, conv_model):
    with pytest.raises(ValueError, match="leave attack out"):
        RobustTrainer(trainable(conv_model), loss="cfa", attack=lambda model, x, y: x, **QUIET)


def test_fawa_judges_epochs_on_held_out_images(trainable, conv_model, data):
    made = RobustTrainer(trainable(conv_model), loss="cfa", averaging="fawa", **QUIET)
    with pytest.raises(ValueError, match="FAWA judges each epoch on held-out images"):
        made.fit(*data, nb_epochs=1, batch_size=8)
    made.fit(*data, nb_epochs=2, batch_size=8, validation_data=data)
    assert all(0 <= worst <= 1 for worst in made.history.column("worst_class"))
