"""The alarm: it rings for a network that withstands one step only, once, and lets healthy training pass."""

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.attacks import FGSMRS, InnerPGD, MixedAdversaries
from art_ext.engine.state import pack, unpack
from art_ext.losses import get_loss
from art_ext.techniques import CatastrophicOverfittingError, OverfittingAlarm
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer
from tests.conftest import seeded

QUIET = {"precision": "fp32", "progress": False}
THREAT = ThreatModel("linf", 0.05)


def learner() -> nn.Module:
    """Large enough to learn 16 images by heart, and how FGSM changes them."""
    sizes = (192, 128), (128, 128), (128, 4)
    return seeded(lambda: nn.Sequential(nn.Flatten(), *(m for size in sizes for m in (nn.ReLU(), nn.Linear(*size)))))


DATA = np.random.default_rng(0).random((16, 3, 8, 8), np.float32), np.arange(16) % 4


def trainer_of(trainable, *, eps, start, techniques=()):
    """Training against one step of 1.25 ε."""
    net, threat = learner(), ThreatModel("linf", eps)
    classifier = trainable(net, optimizer=torch.optim.Adam(net.parameters(), lr=0.003))
    return RobustTrainer(classifier, threat=threat, attack=FGSMRS(threat, start=start), techniques=techniques, **QUIET)


def fit(trainer, nb_epochs):
    """The warnings of the alarm."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(*DATA, nb_epochs=nb_epochs, batch_size=16)
    return [str(w.message) for w in caught if "catastrophic" in str(w.message)]


def test_it_rings_once_for_a_large_radius_and_no_random_start(trainable):
    trainer = trainer_of(trainable, eps=0.3, start=False)
    told = fit(trainer, 40)
    robust, tried = trainer.history.column("train_robust"), trainer.history.column("train_pgd")
    gaps = [one - many > 0.25 for one, many in zip(robust, tried, strict=True)]
    epoch = gaps.index(True)
    assert sum(gaps) > 1  # a second warning would have had its cause
    assert told == [
        f"catastrophic overfitting in epoch {epoch + 1}: accuracy on the training images is {robust[epoch]:.1%} under "
        f"the attack of the training, and {tried[epoch]:.1%} under PGD-10 on the last 16 of them; the network has "
        "learnt to mislead that attack. PGD of several steps (attack=None), a smaller ε or step_size may help"
    ]


def test_it_lets_healthy_training_pass(trainable):
    trainer = trainer_of(trainable, eps=0.03, start="uniform")
    assert fit(trainer, 25) == []
    assert trainer.history.column("train_pgd")[-1] > 0.9


def test_it_stops_with_the_weights_of_the_epoch_before(trainable):
    trainer = trainer_of(trainable, eps=0.3, start=False, techniques=[OverfittingAlarm(stop=True)])
    with pytest.raises(CatastrophicOverfittingError, match="The weights of the epoch before are restored"):
        fit(trainer, 40)
    assert 1 < len(trainer.history) < 39
    before = trainer_of(trainable, eps=0.3, start=False)
    assert fit(before, len(trainer.history)) == []
    states = [t.get_classifier().model.state_dict() for t in (before, trainer)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_it_does_not_change_the_training(trainable):
    histories = []
    for techniques in ((), [OverfittingAlarm(steps=3, images=1)]):
        net = learner()
        attack = FGSMRS(THREAT, alarm=False)
        made = RobustTrainer(trainable(net), threat=THREAT, attack=attack, techniques=techniques, **QUIET)
        made.fit(*DATA, nb_epochs=3, batch_size=8)
        histories.append(made.history.column("loss"))
    assert histories[0] == histories[1]


# ---- what it counts -------------------------------------------------------------------------------------------------


def opened(net, attack=None, **options):
    """An alarm in the middle of a run."""
    alarm = OverfittingAlarm(**options)
    attack = attack or FGSMRS(THREAT)
    alarm.check(get_loss("pgd-at"), attack)
    alarm.start(net, 4, 0)
    return alarm, attack


def shown(alarm, attack, x, y, right):
    """A batch of which the training attack has left so many right."""
    alarm.attack_for(attack, x, y)
    logits = torch.eye(4)[torch.where(torch.arange(len(x)) < right, y, (y + 1) % 4)]
    alarm.after_loss(x, x + 0.01, logits, y)


@pytest.fixture
def halfplane():
    """A linear model of two classes, images that it gets right, and their ℓ∞ distances from the boundary."""
    net = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(192, 2)))
    x = torch.from_numpy(DATA[0]) * 0.4 + 0.3  # off the ends of the range
    logits = net(x).detach()
    weight = net[1].weight.detach()
    return net, x, logits.argmax(1), (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()


def test_the_figure_is_the_robust_accuracy_of_a_linear_model(halfplane):
    net, x, y, distance = halfplane
    eps = float(distance.sort().values[7:9].mean())  # half of them withstand
    alarm, attack = opened(net, FGSMRS(ThreatModel("linf", eps)))
    shown(alarm, attack, x, y, 16)
    with pytest.warns(UserWarning, match=r"in epoch 3: .* is 100.0% under .* and 50.0% under PGD-10 on the last 16"):
        figures = alarm.after_epoch(2, net)
    assert figures == {"train_pgd": 0.5}


@pytest.mark.parametrize(
    "images_kept, sizes, last", [(1, [4, 4], 4), (5, [4, 4, 4], 8), (99, [4, 4], 8), (4, [4, 2], 6)]
)
def test_it_keeps_whole_batches_of_the_end(linear_model, images, images_kept, sizes, last):
    x, y = images
    alarm, attack = opened(linear_model, images=images_kept)
    for size in sizes:
        shown(alarm, attack, x[:size], y[:size], 0)
    assert sum(len(batch.x) for batch in alarm._last) == last


def test_natural_batches_do_not_count(linear_model, images):
    x, y = images
    alarm, _ = opened(linear_model)
    alarm.after_loss(x, x, torch.eye(4)[y], y)
    assert alarm.after_epoch(0, linear_model) == {}


def test_each_batch_is_judged_within_its_own_ball(halfplane):
    """As with an ε that grows, or one for each class."""
    net, x, y, distance = halfplane
    alarm, attack = opened(net, FGSMRS(ThreatModel("linf", 0.3)))
    shown(alarm, attack.within(torch.where(torch.arange(16) < 4, distance * 1.1, distance * 0.9)), x, y, 12)
    assert alarm.after_epoch(0, net) == {"train_pgd": 0.75}


def test_shares_as_labels(linear_model, images):
    x, y = images
    alarm, attack = opened(linear_model, gap=0.99)
    alarm.attack_for(attack, x, y)
    alarm.after_loss(x, x + 0.01, linear_model(x).detach(), torch.eye(4)[y] * 0.8 + 0.05)
    assert 0 <= alarm.after_epoch(0, linear_model)["train_pgd"] <= 1


def test_the_state_in_the_middle_of_an_epoch(conv_model, images):
    """Both alarms go on with the second half of an epoch and come to the same."""
    x, y = images
    x = x.contiguous(memory_format=torch.channels_last)
    alarm, attack = opened(conv_model)
    alarm._warned = True
    shown(alarm, attack, x[:8], y[:8], 5)
    other, _ = opened(copy.deepcopy(conv_model))
    other.load_state_dict(unpack(*pack(alarm.state_dict())))
    for one in (alarm, other):
        shown(one, attack, x[8:], y[8:], 3)
    assert (other._seen, int(other._hits), other._warned) == (16, 8, True)
    assert all(a.x.stride() == b.x.stride() for a, b in zip(alarm._last, other._last, strict=True))
    assert alarm.after_epoch(0, conv_model) == other.after_epoch(0, conv_model)


@pytest.mark.parametrize(
    "attack",
    [MixedAdversaries([THREAT, ThreatModel("l2", 1.0)]), lambda model, x, y: x],
    ids=["mixed adversaries", "a function"],
)
def test_attacks_without_one_threat_model_are_refused(attack):
    with pytest.raises(ValueError, match="tells of none: leave attack out, or the alarm"):
        OverfittingAlarm().check(get_loss("pgd-at"), attack)


def test_pgd_may_have_it_too():
    OverfittingAlarm().check(get_loss("pgd-at"), InnerPGD(THREAT))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"gap": 0.0}, r"gap must be in \(0, 1\)"),
        ({"gap": 1.5}, r"gap must be in \(0, 1\)"),
        ({"steps": 0}, "steps must be"),
        ({"images": 0}, "images must be"),
    ],
    ids=str,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        OverfittingAlarm(**options)
