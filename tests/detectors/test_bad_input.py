"""Bad input is refused before any work: the message names the argument, what was seen and what is allowed."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod
from art.estimators.classification import BlackBoxClassifier
from sklearn.exceptions import NotFittedError
from torch import nn

from art_ext.detectors import AttackForensics, confusion, evasion
from art_ext.threat import ThreatModel
from tests.detectors.planes import THREAT, smooth


def black_box(x):
    return np.zeros((len(x), 2))


CLASSIFIERS = {
    "a module": (nn.Linear(2, 2), "must be an art.*PyTorchClassifier; got Linear"),
    "a black box": (BlackBoxClassifier(black_box, (1, 8, 8), 2), "PyTorchClassifier; got BlackBoxClassifier"),
    "nothing": (None, "PyTorchClassifier; got NoneType"),
}


@pytest.mark.parametrize("classifier, message", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_wrong_classifier(classifier, message):
    with pytest.raises(TypeError, match=message):
        AttackForensics(classifier, threat=THREAT)


def test_classifier_of_another_range(trainable, linear_model):
    classifier = trainable(linear_model, clip_values=(0.0, 255.0))
    with pytest.raises(ValueError, match="the classifier's clip_values are"):
        AttackForensics(classifier, threat=THREAT)


OPTIONS = {
    "no threat": ({"threat": 0.1}, TypeError, "threat must be a ThreatModel"),
    "unbounded": ({"threat": ThreatModel("linf", 0.1, clip=None)}, ValueError, "clip"),
    "eps per example": ({"threat": ThreatModel("linf", [0.1, 0.2])}, ValueError, "one number for all"),
    "unknown family": ({"families": ["fgms"]}, ValueError, "unknown family 'fgms'; did you mean 'fgsm'"),
    "no family": ({"families": []}, ValueError, "at least one attack: nothing can be told apart from 'none' alone"),
    "none alone": ({"families": ["none"]}, ValueError, "'none' is the family of clean images"),
    "twice": ({"families": ["fgsm", "cw", "fgsm"]}, ValueError, "families must be different; got fgsm twice"),
    "a name": ({"families": "fgsm"}, TypeError, "list of names, or a dict .*; got 'fgsm'"),
    "no attack": ({"families": {"mine": 3}}, TypeError, r"families\['mine'\] must be a function .*; got 3"),
    "a class": ({"families": {"mine": FastGradientMethod}}, TypeError, r"families\['mine'\] must be"),
    "rate 0": ({"false_positive_rate": 0.0}, ValueError, r"false_positive_rate must be in \(0, 1\); got 0.0"),
    "rate 5": ({"false_positive_rate": 5}, ValueError, "false_positive_rate must be"),
    "held out": ({"held_out": 1.0}, ValueError, r"held_out must be in \(0, 1\); got 1.0"),
    "width": ({"width": 0}, ValueError, "width must be a whole number of at least 1; got 0"),
    "learning rate": ({"learning_rate": 0.0}, ValueError, r"learning_rate must be in \(0, 1\); got 0.0"),
    "features": ({"features": "all"}, ValueError, "unknown features 'all'"),
    "head": ({"head": "9"}, ValueError, "head='9' is no layer"),
}


@pytest.mark.parametrize("options, error, message", OPTIONS.values(), ids=OPTIONS)
def test_options(make, options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


IMAGES = {
    "0 to 255": (lambda x: 255 * x, ValueError, r"x must lie in \[0, 1\]; it covers"),
    "negative": (lambda x: x - 1, ValueError, r"x must lie in \[0, 1\]"),
    "NaN": (lambda x: x * np.nan, ValueError, "x must be finite"),
    "uint8": (lambda x: (255 * x).astype(np.uint8), TypeError, "got uint8: divide by 255"),
    "a tensor": (torch.from_numpy, TypeError, "x must be a numpy array; got Tensor"),
    "other shape": (lambda x: x[..., :4], ValueError, r"x must have shape \(N, 1, 8, 8\)"),
    "empty": (lambda x: x[:0], ValueError, "non-empty"),
}
images = pytest.mark.parametrize("spoil, error, message", IMAGES.values(), ids=IMAGES)


@images
def test_images_of_fit(make, spoil, error, message):
    x, y = smooth(100)
    with pytest.raises(error, match=message):
        make().fit(spoil(x), y, nb_epochs=1)


@images
def test_images_of_detect(fitted, spoil, error, message):
    for method in (fitted.detect, fitted.predict):
        with pytest.raises(error, match=message):
            method(spoil(smooth(4)[0]))


@images
def test_calibration(make, spoil, error, message):
    with pytest.raises(error, match=message):
        make().fit(*smooth(100), nb_epochs=1, calibration=spoil(smooth(30)[0]))


FIT = {
    "labels": ({"y": np.full(100, 2)}, ValueError, r"y must lie in 0\.\.1 \(2 classes\); got 2"),
    "fewer labels": ({"y": np.zeros(99, int)}, ValueError, "same length; got 100 examples and 99 labels"),
    "batches of one": ({"batch_size": 1}, ValueError, "batch_size must be at least 2, for BatchNorm; got 1"),
    "no epochs": ({"nb_epochs": 0}, ValueError, "nb_epochs must be a whole number of at least 1; got 0"),
}


@pytest.mark.parametrize("options, error, message", FIT.values(), ids=FIT)
def test_arguments_of_fit(make, options, error, message):
    x, y = smooth(100)
    with pytest.raises(error, match=message):
        make().fit(**({"x": x, "y": y, "nb_epochs": 1} | options))


@pytest.mark.parametrize(
    "n, options, seen",
    [(94, {}, (19, 19)), (92, {}, (19, 18)), (40, {"false_positive_rate": 0.01}, (99, 8))],
    ids=["enough", "one too few", "far too few"],
)
def test_too_few_images_for_the_rate(make, n, options, seen):
    detector, (needed, there) = make(**options), seen
    if there >= needed:
        detector.fit(*smooth(n), nb_epochs=1)
        return
    with pytest.raises(ValueError, match=f"at least {needed} clean images that are not trained on; there are {there}"):
        detector.fit(*smooth(n), nb_epochs=1)
    with pytest.raises(NotFittedError):
        detector.detect(smooth(1)[0])


def test_too_few_images_of_calibration(make):
    with pytest.raises(ValueError, match=r"at least 19 clean images .* there are 18"):
        make().fit(*smooth(50), nb_epochs=1, calibration=smooth(18)[0])


def test_an_attack_that_changes_nothing_teaches_nothing(make):
    detector = make(families={"lazy": lambda model, x, y, generator: x})
    with pytest.raises(ValueError, match="lazy changed no image"):
        detector.fit(*smooth(100), nb_epochs=1)


PAIRS = {
    "unknown": (np.array(["none", "mim"] * 50), ValueError, "unknown family 'mim'"),
    "index": (np.arange(100), ValueError, r"family must lie in 0\.\.1 \(none, fgsm\); got 2"),
    "negative": (np.arange(100) % 2 - 1, ValueError, r"family must lie in 0\.\.1 \(none, fgsm\); got -1"),
    "clean alone": (np.zeros(100, int), ValueError, "at least one attack; there is only none"),
    "attacks alone": (np.ones(100, int), ValueError, "clean images .* there is only fgsm"),
    "floats": (np.zeros(100), TypeError, "names or indices"),
    "fewer": (np.arange(99) % 2, ValueError, "got 100 images and 99 families"),
}


@pytest.mark.parametrize("family, error, message", PAIRS.values(), ids=PAIRS)
def test_families_of_ready_pairs(make, family, error, message):
    with pytest.raises(error, match=message):
        make().fit_crafted(smooth(100)[0], family, nb_epochs=1)


def test_sources_of_ready_pairs(make):
    with pytest.raises(ValueError, match=r"source must have one number for each of the 100 images; got shape \(3,\)"):
        make().fit_crafted(smooth(100)[0], np.arange(100) % 2, nb_epochs=1, source=np.arange(3))


CALLS = {
    "detect": lambda d: d.detect(smooth(2)[0]),
    "predict": lambda d: d.predict(smooth(2)[0]),
    "threshold": lambda d: d.threshold,
    "guarded": lambda d: d.guarded(),
    "save": lambda d: d.save("nowhere.safetensors"),
    "confusion": lambda d: confusion(d, *smooth(2), progress=False),
    "evasion": lambda d: evasion(d, *smooth(2), eps=[0.1], progress=False),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_before_fit(make, call):
    with pytest.raises(NotFittedError, match="not fitted: call fit, fit_crafted or load first"):
        call(make())


EVALUATIONS = {
    "no detector": (lambda d: confusion(None, *smooth(4)), TypeError, "must be an AttackForensics; got NoneType"),
    "taken name": (lambda d: confusion(d, *smooth(4), attacks={"fgsm": print}), ValueError, "fgsm is a family of"),
    "no attack": (lambda d: confusion(d, *smooth(4), attacks={"a": 1}), TypeError, r"attacks\['a'\] must be"),
    "labels": (lambda d: confusion(d, smooth(4)[0], np.full(4, 3)), ValueError, "y must lie in"),
    "seed": (lambda d: confusion(d, *smooth(4), seed=-1), ValueError, "seed must be"),
    "batch size": (lambda d: evasion(d, *smooth(4), eps=[0.1], batch_size=0), ValueError, "batch_size must be"),
    "no eps": (lambda d: evasion(d, *smooth(4), eps=[]), ValueError, "eps must hold ascending"),
    "eps 0": (lambda d: evasion(d, *smooth(4), eps=[0.0]), ValueError, "eps must be > 0"),
    "falling": (lambda d: evasion(d, *smooth(4), eps=[0.2, 0.1]), ValueError, "eps must hold ascending"),
    "norm": (lambda d: evasion(d, *smooth(4), eps=[0.1], norm="l1"), ValueError, "norm must be one of linf, l2"),
    "steps": (lambda d: evasion(d, *smooth(4), eps=[0.1], steps=2), ValueError, "steps must be at least 3"),
    "restarts": (lambda d: evasion(d, *smooth(4), eps=[0.1], restarts=0), ValueError, "restarts must be"),
    "all wrong": (
        lambda d: evasion(d, smooth(4)[0], 1 - smooth(4)[1], eps=[0.1]),
        ValueError,
        "it gets none of 4 right",
    ),
}


@pytest.mark.parametrize("call, error, message", EVALUATIONS.values(), ids=EVALUATIONS)
def test_arguments_of_evaluations(fitted, call, error, message):
    with pytest.raises(error, match=message):
        call(fitted)
