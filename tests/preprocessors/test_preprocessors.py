"""Our preprocessors: hyper-parameters that change in place, thresholds learnt from data, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
import torch
from art.defences.preprocessor import JpegCompression, SpatialSmoothing
from art.estimators.classification import PyTorchClassifier
from torch import nn

import art_ext
from art_ext import DefendedModel, INNPreprocessor, NoiseInjection, SoftQuantization
from art_ext.bpda import declared
from art_ext.cli.listing import registered
from art_ext.nn.interference import Interference
from art_ext.nn.quantization import SoftQuantizer
from art_ext.preprocessors import PREPROCESSORS, ModulePreprocessor, StraightThrough, register

SHAPE = (3, 8, 8)
X = np.random.default_rng(0).random((4, *SHAPE), np.float32)


def classifier_with(*preprocessors) -> PyTorchClassifier:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), SHAPE, 4, clip_values=(0, 1), preprocessing_defences=list(preprocessors)
    )


def test_the_registry_is_what_the_package_exports_and_the_command_lists():
    assert {cls.__name__ for cls in PREPROCESSORS.values()} <= set(art_ext.__all__)
    rows = dict(registered("preprocessors"))
    assert list(rows) == list(PREPROCESSORS)
    for name, cls in PREPROCESSORS.items():
        assert rows[name] == f"{cls.__name__}: {cls.description} — {cls.paper}"
        assert cls.paper.startswith("https://arxiv.org/abs/")
    with pytest.raises(ValueError, match="'inn' is registered already: INNPreprocessor"):
        register("inn", "", paper="")(ModulePreprocessor)


def test_a_model_goes_on_with_new_parameters():
    quantize = SoftQuantization(levels=2, temperature=0.5)
    model = DefendedModel(classifier_with(quantize)).eval()
    module, before = quantize.module, model(torch.from_numpy(X))
    quantize.set_params(levels=4, temperature=0.01)
    assert quantize.module is module
    assert (module.levels, module.temperature, len(module.thresholds)) == (4, 0.01, 3)
    after = model(torch.from_numpy(X))
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, model.network(SoftQuantizer(levels=4, temperature=0.01)(torch.from_numpy(X))))


MADE = {
    "inn": lambda: INNPreprocessor(input_shape=SHAPE),
    "soft quantization": lambda: SoftQuantization(levels=4),
}


@pytest.mark.parametrize("build", MADE.values(), ids=MADE)
def test_the_module_lies_on_the_device_of_the_preprocessor(build, monkeypatch):
    """Plain ART calls it there, and would copy its tensors at each call."""
    monkeypatch.setattr(ModulePreprocessor, "device", torch.device("meta"))
    made = build()
    assert {t.device.type for t in made.module.buffers()} == {"meta"}


REFUSED = {
    "out of range": ({"alpha": 0.5, "beta": -1.0}, r"beta must be a number in \[0, 1\]; got -1.0"),
    "unknown": ({"alpha": 0.5, "gama": 0.2}, "unknown parameter of INNPreprocessor 'gama'; did you mean 'gamma'"),
}


@pytest.mark.parametrize("changes, message", REFUSED.values(), ids=REFUSED)
def test_a_refused_change_changes_nothing(changes, message):
    interference = INNPreprocessor(input_shape=SHAPE)
    with pytest.raises(ValueError, match=message):
        interference.set_params(**changes)
    assert (interference.alpha, interference.beta, interference.gamma) == (0.1, 0.1, 0.1)
    assert (interference.module.alpha, interference.module.beta) == (0.1, 0.1)


def test_backgrounds_reach_the_module_and_travel_with_the_model():
    backgrounds = np.random.default_rng(1).random((3, *SHAPE), np.float32)
    interference = INNPreprocessor(input_shape=SHAPE, backgrounds=backgrounds, beta=0, gamma=0, alpha=1.0)
    assert isinstance(interference.module, Interference)
    np.testing.assert_array_equal(interference.module.backgrounds, backgrounds)
    model = DefendedModel(classifier_with(interference)).double()
    assert interference.module.backgrounds.dtype == torch.float64
    assert any(torch.equal(buffer, interference.module.backgrounds) for buffer in model.buffers())


@pytest.mark.parametrize("per_channel", [False, True], ids=["shared", "per channel"])
def test_thresholds_are_learnt_from_data(per_channel):
    quantize = SoftQuantization(levels=3, per_channel=per_channel, hard=True)
    quantize.fit(X)
    assert quantize.thresholds.shape == ((3, 2) if per_channel else (2,))
    out, _ = quantize(X)
    shares = [(out == v).mean() for v in (0, 0.5, 1)]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.02)


def test_soft_steps_declare_no_surrogate_and_hard_ones_do():
    quantize = SoftQuantization()
    model = DefendedModel(classifier_with(quantize))
    assert declared(model) == ()
    quantize.set_params(hard=True, surrogate=0.3)
    assert declared(model) == ("SoftQuantizer: temperature 0.3",)


def test_noise_is_for_inference_unless_asked_for():
    assert (NoiseInjection(scale=0.1).apply_fit, NoiseInjection(scale=0.1, apply_fit=True).apply_fit) == (False, True)
    model = DefendedModel(classifier_with(NoiseInjection(scale=0.5)))
    x = torch.from_numpy(X)
    assert torch.equal(model.train()(x), model.network(x))
    assert not torch.equal(model.eval()(x), model.network(x))


BAD = {
    "alpha": (lambda: INNPreprocessor(input_shape=SHAPE, alpha=1.1), "alpha must be a number in"),
    "density": (lambda: INNPreprocessor(input_shape=SHAPE, density=-0.1), "density must be a number in"),
    "channels": (
        lambda: INNPreprocessor(input_shape=SHAPE, backgrounds=np.zeros((1, 1, 8, 8))),
        r"backgrounds must be \(K, 3, H, W\)",
    ),
    "shape": (lambda: INNPreprocessor(input_shape=(8, 8)), r"input_shape must be .*; got \(8, 8\)"),
    "no shape": (lambda: INNPreprocessor(input_shape=8), r"input_shape must be \(channels, height, width\); got 8"),
    "half of a range": (lambda: NoiseInjection(scale=0.1, clip=(0,)), r"clip must be \(low, high\) .*; got \(0,\)"),
    "no range": (lambda: NoiseInjection(scale=0.1, clip=0.5), r"clip must be \(low, high\) .*; got 0.5"),
    "range of words": (lambda: NoiseInjection(scale=0.1, clip="01"), r"clip must be \(low, high\) .*; got '01'"),
    "thresholds": (lambda: SoftQuantization(thresholds=["a"]), r"thresholds must be .*; got \['a'\]"),
    "levels": (lambda: SoftQuantization(levels=1), "levels must be a whole number of at least 2; got 1"),
    "temperature": (lambda: SoftQuantization(temperature=0.0), r"temperature must be a number in \(0, 100\]; got 0.0"),
    "scale": (lambda: NoiseInjection(scale=-0.1), "scale must be a finite number > 0; got -0.1"),
    "distribution": (lambda: NoiseInjection(scale=0.1, distribution="normal"), "unknown distribution 'normal'"),
}


@pytest.mark.parametrize("build, message", BAD.values(), ids=BAD)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_an_empty_folder_of_backgrounds(tmp_path):
    with pytest.raises(ValueError, match="has no images"):
        INNPreprocessor(input_shape=SHAPE, backgrounds=tmp_path)


def test_a_numpy_only_preprocessor_beside_ours_is_refused_and_told_how_to_go_on():
    mixed = classifier_with(NoiseInjection(scale=0.1), SpatialSmoothing(channels_first=True))
    with pytest.raises(ValueError, match=r"SpatialSmoothing works on numpy arrays only.*wrap it in .*StraightThrough"):
        DefendedModel(mixed)
    DefendedModel(classifier_with(NoiseInjection(scale=0.1), StraightThrough(SpatialSmoothing(channels_first=True))))


def jpeg() -> JpegCompression:
    return JpegCompression(clip_values=(0, 1), quality=30, channels_first=True)


def test_a_wrapped_preprocessor_has_its_values_and_the_gradient_of_the_identity():
    wrapped = StraightThrough(jpeg())
    classifier = classifier_with(wrapped, NoiseInjection(scale=1e-4))
    assert classifier.all_framework_preprocessing
    np.testing.assert_allclose(wrapped(X)[0], jpeg()(X)[0], atol=1e-6)
    x = torch.from_numpy(X).requires_grad_()
    (grad,) = torch.autograd.grad(wrapped.forward(x)[0].square().sum(), x)
    torch.testing.assert_close(grad, 2 * torch.from_numpy(jpeg()(X)[0]))
    assert declared(DefendedModel(classifier)) == ("StraightThrough: identity",)
    assert (wrapped.apply_fit, wrapped.apply_predict) == (jpeg().apply_fit, jpeg().apply_predict)


class Halved(SpatialSmoothing):
    def __call__(self, x, y=None):
        return x[..., ::2], y


WRONG = {
    "torch's": (lambda: StraightThrough(NoiseInjection(scale=0.1)), TypeError, "work on numpy arrays; got Noise"),
    "something else": (lambda: StraightThrough(nn.ReLU()), TypeError, "work on numpy arrays; got ReLU"),
    "shape": (lambda: StraightThrough(Halved())(X), ValueError, r"Halved turns \(4, 3, 8, 8\) into \(4, 3, 8, 4\)"),
}


@pytest.mark.parametrize("build, error, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_wrapped(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))], ids=["copy", "pickle"])
def test_duplicates_do_the_same_and_share_nothing(duplicate):
    quantize = SoftQuantization(levels=3, thresholds=[0.2, 0.6])
    other = duplicate(quantize)
    np.testing.assert_array_equal(other(X)[0], quantize(X)[0])
    other.set_params(temperature=1.0)
    assert quantize.module.temperature == 0.1


def test_text():
    text = "INNPreprocessor(backgrounds=2, alpha=0.1, beta=0.1, gamma=0.1, density=0.05, apply_fit=True, apply_predict="
    assert repr(INNPreprocessor(input_shape=SHAPE)).startswith(text)
