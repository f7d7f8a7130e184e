"""`PIATTrainer` against plain adversarial training and the closed form θ' = λ θ'_prev + (1 − λ) θ."""

import copy

import numpy as np
import pytest
import torch

from art_ext.attacks import pgd
from art_ext.engine.validation import Validation
from art_ext.threat import ThreatModel
from art_ext.trainers import PIATTrainer, RobustTrainer

THREAT = ThreatModel("linf", 8 / 255)
EXACT = {"threat": THREAT, "steps": 2, "precision": "fp32", "channels_last": False, "progress": False}
STATISTICS = ("1.running_mean", "1.running_var")


def without_start(model, x, y):
    return pgd(model, x, y, threat=THREAT, steps=2, random_start=False)


@pytest.fixture
def data(images) -> tuple[np.ndarray, np.ndarray]:
    return tuple(t.numpy() for t in images)


def piat(classifier, data, *, nb_epochs=3, fit=(), **options) -> PIATTrainer:
    trainer = PIATTrainer(classifier, **(EXACT | options))
    trainer.fit(*data, batch_size=8, nb_epochs=nb_epochs, **dict(fit))
    return trainer


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, value in state.items():
        assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("buffers", ["interpolate", "current"])
@pytest.mark.parametrize("loss", ["pgd-at", "nmse", "trades"])
def test_a_weight_of_zero_is_plain_training_to_the_bit(trainable, conv_model, data, loss, buffers):
    nets = [copy.deepcopy(conv_model) for _ in range(2)]
    piat(trainable(nets[0]), data, loss=loss, schedule=0.0, buffers=buffers, augment="crop-flip")
    plain = RobustTrainer(trainable(nets[1]), loss=loss, augment="crop-flip", **EXACT)
    plain.fit(*data, batch_size=8, nb_epochs=3)
    assert_same(nets[0].state_dict(), nets[1].state_dict())


def test_a_weight_of_one_keeps_what_was_given_to_the_bit(trainable, conv_model, data):
    given = copy.deepcopy(conv_model.state_dict())
    piat(trainable(conv_model), data, schedule=1.0)
    state = conv_model.state_dict()
    assert state.pop("1.num_batches_tracked") == 3 * 2  # whole numbers stay current
    given.pop("1.num_batches_tracked")
    assert_same(state, given)


SCHEDULES = {
    "dynamic": (None, [0.1, 2 / 11, 3 / 12, 4 / 13]),
    "fixed": (0.3, [0.3] * 4),
    "callable": (lambda epoch: (0.0, 0.9, 0.25, 1.0)[epoch], [0.0, 0.9, 0.25, 1.0]),
}


@pytest.mark.parametrize("buffers", ["interpolate", "current", "recalibrate"])
@pytest.mark.parametrize("schedule, weights", SCHEDULES.values(), ids=SCHEDULES)
def test_equals_plain_epochs_interpolated_by_hand(trainable, conv_model, data, schedule, weights, buffers):
    """Each epoch is a plain training of its own that starts from θ'; the optimizer's momentum lives on."""
    nets = [copy.deepcopy(conv_model) for _ in range(2)]
    options = {"loss": "pgd-at", "attack": without_start}
    in_order = {"shuffle": False}
    trainer = piat(trainable(nets[0]), data, nb_epochs=4, schedule=schedule, buffers=buffers, fit=in_order, **options)

    plain = RobustTrainer(trainable(nets[1]), **options, **EXACT)
    previous = {name: value.double() for name, value in nets[1].state_dict().items()}
    for weight in weights:
        plain.fit(*data, batch_size=8, nb_epochs=1, **in_order)
        current = {name: value.double() for name, value in nets[1].state_dict().items()}
        kept = {"1.num_batches_tracked"} | (set(STATISTICS) if buffers != "interpolate" else set())
        previous = {n: v if n in kept else weight * previous[n] + (1 - weight) * v for n, v in current.items()}
        if buffers == "recalibrate":
            previous |= statistics(previous, data[0])
        nets[1].load_state_dict(previous)

    assert trainer.history.column("interpolation") == pytest.approx(weights)
    for name, value in nets[0].state_dict().items():
        if name != "1.num_batches_tracked":
            # float32 against float64, over eight updates
            torch.testing.assert_close(value.double(), previous[name], rtol=0, atol=2e-6, msg=name)


def statistics(state, x) -> dict[str, torch.Tensor]:
    """BatchNorm's, as the mean over both batches."""
    outputs = [
        torch.nn.functional.conv2d(torch.from_numpy(b).double(), state["0.weight"], state["0.bias"], padding=1)
        for b in (x[:8], x[8:])
    ]
    means, variances = ([f(z, dim=(0, 2, 3)) for z in outputs] for f in (torch.mean, torch.var))
    return dict(zip(STATISTICS, (sum(means) / 2, sum(variances) / 2), strict=True))


def test_the_next_epoch_starts_from_the_average(trainable, conv_model, data):
    """Not a shadow average: the network itself carries it, at the first batch of the next epoch already."""
    begins, weight = [], conv_model[5].weight
    given = weight.detach().clone()

    def remember(model, x, y):
        begins.append(weight.detach().clone())
        return x

    piat(trainable(conv_model), data, nb_epochs=2, schedule=1.0, attack=remember)
    assert torch.equal(begins[2], given)
    assert not torch.equal(begins[1], given)


def test_validation_judges_the_average(trainable, conv_model, data, images):
    before = Validation(*images, THREAT, 10, 8, 0).accuracies(conv_model)
    trainer = piat(trainable(conv_model), data, schedule=1.0, fit={"validation_data": data})
    for row in trainer.history.rows:
        assert (row["clean"], row["robust"]) == before


def test_the_optimizer_is_left_alone(trainable, conv_model, data):
    classifier = trainable(conv_model)
    trainer = piat(classifier, data, nb_epochs=1, schedule=1.0, attack=without_start)
    momentum = classifier.optimizer.state[conv_model[5].weight]["momentum_buffer"]
    assert momentum.abs().max() > 1e-3
    assert classifier.optimizer.param_groups[0]["lr"] == trainer.history.rows[0]["lr"] == 0.1


def test_the_default_loss_is_nmse_and_any_other_may_be_named(trainable, conv_model):
    classifier = trainable(conv_model)
    default = PIATTrainer(classifier, **EXACT).loss
    assert (default.name, default.mu) == ("nmse", 4.0)
    assert PIATTrainer(classifier, loss="mart", **EXACT).loss.name == "mart"


BAD = {
    "weight": ({"schedule": 1.5}, ValueError, r"weight λ must be in \[0, 1\]; got 1.5"),
    "NaN": ({"schedule": float("nan")}, ValueError, r"weight λ must be in \[0, 1\]; got nan"),
    "buffers": ({"buffers": "average"}, ValueError, "buffers must be one of interpolate, .*; got 'average'"),
    "averaging": ({"averaging": "ema"}, TypeError, "averaging"),
}


@pytest.mark.parametrize("options, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(trainable, conv_model, options, error, message):
    with pytest.raises(error, match=message):
        PIATTrainer(trainable(conv_model), **EXACT, **options)


def test_a_callable_that_leaves_the_range_stops_the_training(trainable, conv_model, data):
    with pytest.raises(ValueError, match=r"weight λ must be in \[0, 1\]; got -1.0"):
        piat(trainable(conv_model), data, schedule=lambda epoch: -epoch)
    assert not any(m.training for m in conv_model.modules())
