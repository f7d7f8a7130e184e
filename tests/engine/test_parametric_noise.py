"""Parametric noise in training: attacked under noise, learnt, averaged, saved, and gone on from."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn
from torch.optim import SGD

from art_ext import RobustTrainer, ThreatModel
from art_ext.averaging import EMA, SWA, ParameterInterpolation
from art_ext.engine import History
from art_ext.engine.checkpoint import load_weights, save_weights
from art_ext.engine.precision import InPrecision
from art_ext.engine.twin import attack_twin
from art_ext.losses import get_loss
from art_ext.model import DefendedModel
from art_ext.nn import add_parametric_noise
from art_ext.nn.parametric_noise import noise_scales, parameter_groups

CPU = torch.device("cpu")


def in_bf16(model: nn.Module) -> nn.Module:
    return InPrecision(model, CPU, "bf16")


def set_scales(net: nn.Module, value: float) -> None:
    with torch.no_grad():
        for alpha in noise_scales(net).values():
            alpha.fill_(value)


@pytest.mark.parametrize("alpha", [0.25, 1e-7], ids=["noise", "too small to see"])
@torch.no_grad()
def test_the_attack_never_sees_a_network_without_its_noise(conv_model, images, alpha):
    add_parametric_noise(conv_model, alpha=alpha)
    model = DefendedModel(PyTorchClassifier(conv_model, nn.CrossEntropyLoss(), (3, 8, 8), 4, preprocessing=None)).eval()
    twin = attack_twin(model, images[0], in_bf16)
    attacked = in_bf16(model if twin is None else twin.model)
    set_scales(conv_model, 0.5)
    torch.manual_seed(0)
    one = attacked(images[0])
    torch.manual_seed(0)
    torch.testing.assert_close(one, model(images[0]), rtol=0.05, atol=0.05)
    assert float((attacked(images[0]) - one).abs().max()) > 0.1


def test_noise_is_fresh_within_one_autocast(conv_model, images):
    add_parametric_noise(conv_model)
    with torch.autocast("cpu", torch.bfloat16):  # which keeps what it has cast
        assert not torch.equal(conv_model(images[0]), conv_model(images[0]))


def trainer_of(folder=None, *, averaging=None, granularity="channel", **options) -> RobustTrainer:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 4))
    add_parametric_noise(net, granularity)
    sgd = SGD(parameter_groups(net), lr=0.1, momentum=0.9, weight_decay=0.01)
    classifier = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 4, 4), 4, optimizer=sgd, clip_values=(0, 1), device_type="cpu"
    )
    given = {"steps": 2, "progress": False, "validation_steps": 1, "precision": "fp32"} | options
    return RobustTrainer(
        classifier,
        threat=ThreatModel("linf", 0.05),
        loss=get_loss("alp", weight=0),
        averaging=averaging,
        checkpoint_dir=folder,
        **given,
    )


def fit(trainer: RobustTrainer, epochs: int) -> nn.Module:
    rng = np.random.default_rng(0)
    x, y = rng.random((24, 3, 4, 4), dtype=np.float32), rng.integers(0, 4, 24)
    trainer.fit(x, y, validation_data=(x[:8], y[:8]), batch_size=8, nb_epochs=epochs)
    return trainer.model.network


def test_sizes_are_learnt_in_either_precision():
    for precision in ("fp32", "bf16"):
        scales = noise_scales(fit(trainer_of(precision=precision), 2))
        assert all(bool((alpha != 0.25).all()) for alpha in scales.values())


@pytest.mark.parametrize("granularity", ["layer", "element"])
def test_a_run_goes_on_bit_for_bit(granularity, tmp_path, monkeypatch):
    monkeypatch.setattr(History, "plot", lambda self, path: None)
    whole = fit(trainer_of(granularity=granularity), 3).state_dict()
    fit(trainer_of(tmp_path, granularity=granularity), 2)
    trainer = trainer_of(tmp_path, granularity=granularity)
    assert trainer.resume() == 2
    assert all(torch.equal(value, whole[name]) for name, value in fit(trainer, 3).state_dict().items())


AVERAGINGS = {
    "ema": partial(EMA, 0.5, warm_up=False),
    "swa": partial(SWA, 0.0),
    "piat": partial(ParameterInterpolation, 0.5),
}


@pytest.mark.parametrize("make", AVERAGINGS.values(), ids=AVERAGINGS)
def test_averages_hold_the_mean_of_the_sizes(make, conv_model):
    add_parametric_noise(conv_model)
    averaging = make()
    averaging.start(conv_model)
    for epoch, value in enumerate((0.25, 0.75)):  # SWA's mean begins with the first epoch
        set_scales(conv_model, value)
        if epoch or not isinstance(averaging, ParameterInterpolation):
            averaging.after_step()
            averaging.after_epoch(epoch, 2, lambda network: None)
    averaged = averaging.averaged()
    assert [alpha.item() for alpha in noise_scales(averaged).values()] == pytest.approx([0.5, 0.5])
    x = torch.rand(2, 3, 8, 8)
    assert not torch.equal(averaged(x), averaged(x))


def test_trained_with_an_average_it_ends_with_the_average():
    network = fit(trainer_of(averaging="ema"), 2)
    assert len(noise_scales(network)) == 2
    assert not any(torch.isnan(value).any() for value in network.state_dict().values())


def test_weights_on_disk(conv_model, tmp_path):
    plain = copy.deepcopy(conv_model)
    add_parametric_noise(conv_model, "element")
    set_scales(conv_model, 0.125)
    save_weights(conv_model, tmp_path / "noisy.safetensors")
    other = copy.deepcopy(plain)
    add_parametric_noise(other, "element", alpha=1.0)
    load_weights(other, tmp_path / "noisy.safetensors")
    assert all(torch.equal(value, conv_model.state_dict()[name]) for name, value in other.state_dict().items())
    with pytest.raises(ValueError, match="does not fit Sequential"):
        load_weights(plain, tmp_path / "noisy.safetensors")
