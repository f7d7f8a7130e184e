"""FGSM from a random start: one step of 1.25 ε, back onto the ball; what comes with it, what it composes with."""

import numpy as np
import pytest
import torch

from art_ext.attacks import FGSMRS, InnerPGD
from art_ext.losses import get_loss
from art_ext.techniques import OverfittingAlarm, Techniques
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer
from art_ext.trainers.inner import inner_attack

EPS = 0.04
THREAT = ThreatModel("linf", EPS)
QUIET = {"threat": THREAT, "precision": "fp32", "progress": False}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def data(images):
    return images[0].numpy(), np.arange(16) % 4


def test_it_is_the_start_and_a_step_of_the_sign(linear_model, images):
    x, y = images
    x_adv = FGSMRS(THREAT)(linear_model, x, y, seeded())
    weight = linear_model[1].weight.detach()
    start = THREAT.random_start(x, seeded())
    error = linear_model(start).softmax(1) - torch.eye(4)[y]
    sign = (error @ weight).sign().view_as(x)
    expected = (start + 1.25 * EPS * sign).clamp(x - EPS, x + EPS).clamp(0, 1)
    torch.testing.assert_close(x_adv, expected)
    inside = (x_adv - x).abs() < EPS - 1e-6
    assert 0.05 < inside.float().mean() < 0.5  # not all in the corners: 1.25 ε does not always get there


def test_one_forward_and_backward(conv_model, images):
    calls = []
    conv_model.register_forward_hook(lambda net, args, out: calls.append(len(out)))
    FGSMRS(THREAT)(conv_model, *images)
    assert calls == [16]


@pytest.mark.parametrize(
    "options, eps, step",
    [
        pytest.param({}, 0.08, 0.1, id="default"),
        pytest.param({"step_size": EPS}, 0.08, 0.08, id="its own ratio"),
        pytest.param({}, torch.tensor([0.08, 0.04]), torch.tensor([0.1, 0.05]), id="ε per example"),
    ],
)
def test_within_another_radius_the_step_keeps_its_ratio(options, eps, step):
    other = FGSMRS(THREAT, **options).within(eps)
    assert isinstance(other, FGSMRS)
    torch.testing.assert_close(torch.as_tensor(other.step_size), torch.as_tensor(step))
    assert torch.equal(torch.as_tensor(other.threat.eps), torch.as_tensor(eps))


def test_within_another_radius_and_step():
    assert FGSMRS(THREAT).within(0.1, 0.02).step_size == 0.02


@pytest.mark.parametrize("loss, objective", [("pgd-at", "ce"), ("trades", "kl"), ("mart", "ce")])
def test_by_name_it_climbs_what_the_loss_says_from_a_start_of_its_own(trainable, conv_model, loss, objective):
    made = inner_attack("fgsm-rs", trainable(conv_model), get_loss(loss), THREAT, None, None)
    assert isinstance(made, FGSMRS)
    assert (made.objective, made.start, made.steps) == (objective, True, 1)
    assert made.step_size == pytest.approx(1.25 * EPS)


# ---- in training ----------------------------------------------------------------------------------------------------


def alarms(trainer):
    technique = trainer.technique
    parts = technique.parts if isinstance(technique, Techniques) else (technique,)
    return [part for part in parts if isinstance(part, OverfittingAlarm)]


@pytest.mark.parametrize(
    "attack, techniques, expected",
    [
        pytest.param("fgsm-rs", (), "OverfittingAlarm(gap=0.25, steps=10, images=256, stop=False)", id="by default"),
        pytest.param("fgsm-rs", [OverfittingAlarm(gap=0.1)], repr(OverfittingAlarm(gap=0.1)), id="one's own"),
        pytest.param("fgsm-rs", ["awp"], repr(OverfittingAlarm()), id="beside others"),
        pytest.param(FGSMRS(THREAT, alarm=False), (), None, id="not wanted"),
        pytest.param(None, (), None, id="PGD"),
    ],
)
def test_the_alarm_comes_with_it(trainable, conv_model, attack, techniques, expected):
    trainer = RobustTrainer(trainable(conv_model), attack=attack, techniques=techniques, **QUIET)
    assert [repr(alarm) for alarm in alarms(trainer)] == ([] if expected is None else [expected])


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize(
    "loss, techniques",
    [("pgd-at", ["awp"]), ("cfa-at", []), ("trades", ["natural"]), ("pgd-at", ["eps-warm-up", "warm-start"])],
    ids=["AWP", "CFA", "natural", "warm-up and warm start"],
)
def test_composition(trainable, conv_model, data, averaging, loss, techniques):
    made = trainable(conv_model)
    trainer = RobustTrainer(made, attack="fgsm-rs", loss=loss, averaging=averaging, techniques=techniques, **QUIET)
    trainer.fit(*data, nb_epochs=2, batch_size=8)
    assert all(np.isfinite(trainer.history.column("loss")))
    assert len(trainer.history.column("train_pgd")) == 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"steps": 7}, "fgsm-rs takes one step; for 7 leave attack out, which is PGD"),
        ({"step_size": 0.0}, "step_size must be > 0 .*10/255.*; got 0.0"),
        ({"step_size": float("nan")}, "step_size must be > 0"),
    ],
    ids=["steps", "step size", "NaN"],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        FGSMRS(THREAT, **options)


def test_it_is_an_inner_pgd():
    """So that techniques that change PGD may change it."""
    assert isinstance(FGSMRS(THREAT).beginning_at(torch.zeros(1)), InnerPGD)
