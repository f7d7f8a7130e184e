"""NoisyTrainer: noise of the threat model's size, quantization from soft to sharp, the exact objective."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from art_ext import NoiseInjection, NoisyTrainer, RobustTrainer, SoftQuantization, ThreatModel
from art_ext.nn.quantization import SoftQuantizer
from art_ext.trainers.annealing import quantizers_of, temperature_at
from art_ext.trainers.noisy import AddNoise

EPS = 0.1
THREAT = ThreatModel("linf", EPS)
OPTIONS: dict[str, Any] = {"threat": THREAT, "progress": False, "precision": "fp32"}


@pytest.fixture
def arrays(images):
    return tuple(t.numpy() for t in images)


def fitted(classifier, arrays, *, epochs=2, **options):
    trainer = NoisyTrainer(classifier, **(OPTIONS | options))
    trainer.fit(*arrays, nb_epochs=epochs, batch_size=8)
    return trainer


def seen_by(net: nn.Module) -> list[torch.Tensor]:
    """What the network is trained on, batch by batch."""
    seen: list[torch.Tensor] = []
    net.register_forward_pre_hook(lambda m, args: seen.append(args[0].detach().clone()) if m.training else None)
    return seen


# ---- noise ----------------------------------------------------------------------------------------------------------


def test_uniform_noise_fills_the_ball():
    x = torch.full((64, 3, 8, 8), 0.5)
    noise = AddNoise("uniform", THREAT)(nn.Identity(), x, torch.zeros(64), torch.Generator().manual_seed(0)) - x
    assert noise.abs().max() <= EPS + 1e-6
    assert noise.abs().max() > 0.99 * EPS
    assert abs(noise.mean().item()) < 1e-3
    assert noise.std().item() == pytest.approx(EPS / 3**0.5, rel=0.02)


def test_signs_are_eps_in_each_element_and_cut_to_the_range():
    x = torch.full((64, 3, 8, 8), 0.5)
    x[:32] = 0.98
    noisy = AddNoise("signs", THREAT)(nn.Identity(), x, torch.zeros(64), torch.Generator().manual_seed(0))
    torch.testing.assert_close(noisy[32:].unique(), torch.tensor([0.4, 0.6]))
    torch.testing.assert_close(noisy[:32].unique(), torch.tensor([0.88, 1.0]))
    assert (noisy[32:] > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("noise", ["uniform", "signs", None])
def test_the_network_is_trained_on_the_noise_alone(trainable, conv_model, arrays, noise):
    seen = seen_by(conv_model)
    fitted(trainable(conv_model), arrays, noise=noise)
    x = torch.from_numpy(arrays[0])
    distance = torch.stack([min((image - one).abs().max() for one in x) for image in torch.cat(seen)])
    low, high = {"uniform": (0.9 * EPS, EPS), "signs": (EPS, EPS), None: (0.0, 0.0)}[noise]
    assert low - 1e-6 <= distance.min()
    assert distance.max() <= high + 1e-6


def test_noise_in_an_l2_ball(trainable, conv_model, arrays):
    seen = seen_by(conv_model)
    fitted(trainable(conv_model), arrays, threat=ThreatModel("l2", 0.5))
    x = torch.from_numpy(arrays[0])
    distance = torch.stack([min((image - one).norm() for one in x) for image in torch.cat(seen)])
    assert distance.min() > 0.1
    assert distance.max() <= 0.5 + 1e-5


MAKERS = {
    "NoisyTrainer": lambda classifier: NoisyTrainer(classifier, noise=None, **OPTIONS),
    "RobustTrainer": lambda classifier: RobustTrainer(classifier, steps=1, **OPTIONS),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_noise_injection_in_training_is_fresh_in_each_batch(trainable, conv_model, arrays, make):
    seen = seen_by(conv_model)
    injection = NoiseInjection(scale=0.05, distribution="signs", clip=None, apply_fit=True, device_type="cpu")
    classifier = trainable(conv_model, preprocessing_defences=[injection])
    x, y = np.full((16, 3, 8, 8), 0.5, np.float32), arrays[1]
    make(classifier).fit(x, y, nb_epochs=2, batch_size=16)
    first, second = ((images - 0.5).sign() for images in seen)
    agreement = (first == second).float().mean().item()
    assert agreement == pytest.approx(0.5, abs=0.15)


# ---- quantization ---------------------------------------------------------------------------------------------------


def test_the_layer_becomes_the_first_preprocessor_once(trainable, conv_model):
    layer, other = SoftQuantization(levels=4, device_type="cpu"), NoiseInjection(scale=0.1, device_type="cpu")
    classifier = trainable(conv_model, preprocessing=(0.5, 0.5), preprocessing_defences=[other])
    for _ in range(2):
        NoisyTrainer(classifier, quantization=layer, **OPTIONS)
        assert classifier.preprocessing_defences == [layer, other]
    assert classifier.all_framework_preprocessing
    assert len(classifier.preprocessing_operations) == 3
    NoisyTrainer(classifier, **OPTIONS)  # takes the one that is there
    assert classifier.preprocessing_defences == [layer, other]


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_it_is_trained_soft_and_left_as_it_was(trainable, conv_model, arrays, hard):
    layer = SoftQuantization(levels=3, temperature=0.01, hard=hard, device_type="cpu")
    seen = seen_by(conv_model)
    trainer = fitted(trainable(conv_model), arrays, quantization=layer, epochs=4)
    temperatures = trainer.history.column("temperature")
    assert temperatures == pytest.approx([1.0, 1e-2 ** (1 / 3), 1e-2 ** (2 / 3), 0.01])
    between = [((images > 0.02) & (images < 0.48)).float().mean().item() for images in seen[::2]]
    assert between[0] > 0.3  # nearly the image itself
    assert between[-1] < 0.1  # nearly all in one of three levels
    (part,) = quantizers_of(trainer.model)
    assert (part.temperature, part.hard) == (0.01, hard)
    assert trainer.model.steps[0](torch.rand(2, 3, 8, 8)).unique().numel() > 3 or hard


def test_a_layer_in_the_network_is_annealed_too(trainable, arrays):
    net = nn.Sequential(SoftQuantizer(levels=2, temperature=0.1), nn.Flatten(), nn.Linear(192, 4))
    trainer = fitted(trainable(net), arrays, epochs=4)
    assert trainer.history.column("temperature") == pytest.approx([1.0, 0.1 ** (1 / 3), 0.1 ** (2 / 3), 0.1])


ANNEALS = {
    "none": (None, [0.2] * 4),
    "a start": (0.8, [0.8, 0.8 * 0.25 ** (1 / 3), 0.8 * 0.25 ** (2 / 3), 0.2]),
    "a start sharper than the layer": (0.05, [0.2] * 4),
    "a function": (lambda progress: 1 - progress, [1.0, 0.75, 0.5, 0.25]),
}


@pytest.mark.parametrize("anneal, expected", ANNEALS.values(), ids=ANNEALS)
def test_annealing(anneal, expected):
    found = [temperature_at(progress, anneal=anneal, sharp=0.2) for progress in (0.0, 0.25, 0.5, 0.75)]
    assert found == pytest.approx(expected)


def test_an_exception_puts_the_temperature_back(trainable, conv_model, arrays):
    layer = SoftQuantization(levels=2, temperature=0.05, device_type="cpu")
    conv_model.register_forward_hook(lambda m, args, out: 1 / 0 if m.training else None)
    trainer = NoisyTrainer(trainable(conv_model), quantization=layer, **OPTIONS)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(*arrays, nb_epochs=1)
    assert layer.module.temperature == 0.05


# ---- the exact objective --------------------------------------------------------------------------------------------


def test_the_penalty_is_in_the_history_and_makes_gradients_smaller(trainable, conv_model, arrays):
    state, norms = {k: v.clone() for k, v in conv_model.state_dict().items()}, []
    for penalty in (1e-9, 0.5):
        conv_model.load_state_dict(state)
        rows = fitted(trainable(conv_model), arrays, epochs=15, gradient_penalty=penalty).history.rows
        for row in rows:
            assert row["loss"] == pytest.approx(row["cross_entropy"] + penalty * row["gradient_l1"], rel=1e-4)
        norms.append(rows[-1]["gradient_l1"])
    assert norms[1] < 0.5 * norms[0]


def test_without_penalty_there_is_one_backward_and_no_such_figure(trainable, conv_model, arrays):
    rows = fitted(trainable(conv_model), arrays).history.rows
    assert not {"gradient_l1", "temperature"} & set(rows[0])


def test_a_run_goes_on_where_it_was_stopped(trainable, conv_model, arrays, tmp_path):
    """The temperature follows from the epoch; nothing else has to be remembered."""
    state = {k: v.clone() for k, v in conv_model.state_dict().items()}
    options = {"gradient_penalty": 0.1, "checkpoint_every": 1, "noise": "signs"}

    def trainer_in(folder):
        conv_model.load_state_dict(state)
        layer = SoftQuantization(levels=4, device_type="cpu")
        return NoisyTrainer(trainable(conv_model), quantization=layer, checkpoint_dir=folder, **(OPTIONS | options))

    trainer_in(tmp_path / "whole").fit(*arrays, nb_epochs=4, batch_size=8)
    whole, rows = {k: v.clone() for k, v in conv_model.state_dict().items()}, []
    stopped = trainer_in(tmp_path / "stopped")
    steps: list[int] = []

    def stop(*_: Any) -> None:
        steps.append(1)
        if len(steps) == 4:  # the second batch of the second epoch
            raise KeyboardInterrupt

    stopped.optimizer.register_step_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(*arrays, nb_epochs=4, batch_size=8)
    going_on = trainer_in(tmp_path / "stopped")
    assert going_on.resume() == 1
    going_on.fit(*arrays, nb_epochs=4, batch_size=8)
    rows = [(r["gradient_l1"], r["temperature"]) for r in going_on.history.rows]
    assert len(rows) == 4
    assert all(torch.equal(conv_model.state_dict()[name], value) for name, value in whole.items())


# ---- bad input ------------------------------------------------------------------------------------------------------

BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "noise": ({"noise": "unifrom"}, ValueError, "unknown noise 'unifrom'; did you mean 'uniform'"),
    "signs in an l2 ball": (
        {"noise": "signs", "threat": ThreatModel("l2", 1.0)},
        ValueError,
        "noise='signs' belongs to an ℓ∞ ball",
    ),
    "penalty": ({"gradient_penalty": -1.0}, ValueError, "gradient_penalty must be a finite number ≥ 0; got -1.0"),
    "penalty compiled": ({"gradient_penalty": 0.1, "compile": True}, ValueError, "which compile=True does not have"),
    "penalty in words": (
        {"gradient_penalty": "a"},
        ValueError,
        "gradient_penalty must be .* number ≥ 0; got 'a'",
    ),
    "threat": ({"threat": 0.1, "noise": "signs"}, TypeError, r"threat must be a ThreatModel, .*; got 0\.1"),
    "anneal": ({"anneal": 0.0}, ValueError, r"anneal must be a number in \(0, 100\]; got 0\.0"),
    "hot anneal": ({"anneal": 1e8}, ValueError, r"anneal must be a number in \(0, 100\]; got 100000000\.0"),
    "quantization": ({"quantization": 4}, TypeError, "quantization must be a SoftQuantization or None; got int"),
    "not in training": (
        {"quantization": SoftQuantization(apply_fit=False)},
        ValueError,
        "must act in training and at prediction; it has apply_fit=False, apply_predict=True: set both",
    ),
    "not at prediction": (
        {"quantization": SoftQuantization(apply_predict=False)},
        ValueError,
        "must act in training and at prediction; it has apply_fit=True, apply_predict=False: set both",
    ),
    "steps": ({"steps": 10}, TypeError, "unknown option 'steps'"),
}


@pytest.mark.parametrize("options, error, told", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused_and_leave_the_classifier_alone(trainable, conv_model, options, error, told):
    classifier = trainable(conv_model)
    with pytest.raises(error, match=told):
        NoisyTrainer(classifier, **(OPTIONS | options))
    assert not classifier.preprocessing_defences


def test_a_second_quantization_layer(trainable, conv_model):
    classifier = trainable(conv_model, preprocessing_defences=[SoftQuantization(levels=2)])
    with pytest.raises(ValueError, match="has a SoftQuantization already: quantization=None takes that one"):
        NoisyTrainer(classifier, quantization=SoftQuantization(levels=4), **OPTIONS)


def test_a_temperature_that_is_none(trainable, conv_model, arrays):
    layer = SoftQuantization(levels=2, device_type="cpu")
    trainer = NoisyTrainer(trainable(conv_model), quantization=layer, anneal=lambda progress: -1.0, **OPTIONS)
    with pytest.raises(ValueError, match=r"the temperature of anneal must be a number in \(0, 100\]; got -1\.0"):
        trainer.fit(*arrays, nb_epochs=1)


def test_numpy_inputs_are_what_they_were(trainable, conv_model, arrays):
    before = [a.copy() for a in arrays]
    fitted(trainable(conv_model), arrays, noise=None, quantization=SoftQuantization(device_type="cpu"))
    for array, copied in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copied)
