"""Attacks of ART and torchattacks on every defended classifier: they run, stay inside the ball, and see the defense."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoProjectedGradientDescent,
    CarliniL2Method,
    DeepFool,
    FastGradientMethod,
    ProjectedGradientDescent,
    SquareAttack,
)
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
    ProjectedGradientDescentPyTorch,
)
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import DefendedModel, INNPreprocessor, NoiseInjection, SoftQuantization, ThreatModel
from art_ext.attacks import pgd
from art_ext.isolation import keeping_random
from art_ext.model import frozen
from art_ext.nn.backgrounds import load_backgrounds
from art_ext.nn.interference import Interference
from art_ext.nn.noise import Noise
from art_ext.nn.soft_vote import SoftVote

SHAPE, CLASSES, EPS = (3, 8, 8), 4, 0.03
BACKGROUNDS = load_backgrounds(input_shape=SHAPE)


def _wider(net: nn.Module) -> nn.Module:
    """The network with a class more for each background, as an interference network has."""
    last = net[-1]
    wide = nn.Linear(last.in_features, CLASSES + len(BACKGROUNDS))
    with torch.no_grad():
        wide.weight[:CLASSES], wide.bias[:CLASSES] = last.weight, last.bias
    return nn.Sequential(*list(net)[:-1], wide)


DEFENSES = {  # name -> the network and the preprocessors, of an undefended network
    "inn": lambda net: (net, [INNPreprocessor(input_shape=SHAPE, device_type="cpu")]),
    "soft quantization": lambda net: (net, [SoftQuantization(levels=4, temperature=0.05, device_type="cpu")]),
    "hard quantization": lambda net: (net, [SoftQuantization(levels=8, hard=True, device_type="cpu")]),
    "noise": lambda net: (net, [NoiseInjection(scale=0.02, device_type="cpu")]),
    "vote over backgrounds": lambda net: (
        SoftVote(_wider(net), transform=Interference(BACKGROUNDS, beta=0, gamma=0), classes=CLASSES),
        [],
    ),
    "vote over snapshots and draws": lambda net: (
        SoftVote([net, net], transform=Interference(BACKGROUNDS), draws=2, chunk=2),
        [],
    ),
    "vote over noise": lambda net: (SoftVote(net, transform=Noise(0.02), draws=4), []),
}
VOTES = [name for name in DEFENSES if name.startswith("vote")]


@pytest.fixture(autouse=True)
def _same_draws():
    with keeping_random():
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002  (ART draws from it)
        yield


def _defend(name: str, net: nn.Module) -> PyTorchClassifier:
    network, preprocessors = DEFENSES[name](net)
    return PyTorchClassifier(
        network.eval(),
        nn.CrossEntropyLoss(),
        SHAPE,
        CLASSES,
        clip_values=(0.0, 1.0),
        preprocessing=None,
        preprocessing_defences=preprocessors,
        device_type="cpu",
    )


@pytest.fixture
def case(linear_model, images):
    """Makes a defended linear network, with images and the labels it gives them."""

    def make(name: str) -> tuple[PyTorchClassifier, np.ndarray, np.ndarray]:
        classifier = _defend(name, linear_model)
        x = images[0].numpy()
        votes = np.mean([classifier.predict(x) for _ in range(10)], axis=0)
        return classifier, x, votes.argmax(1)

    return make


ART = {  # name -> of a classifier
    "FGSM": lambda c: FastGradientMethod(c, eps=EPS),
    "PGD": lambda c: ProjectedGradientDescent(c, eps=EPS, eps_step=EPS / 4, max_iter=10, verbose=False),
    "PGD, 2 restarts": lambda c: ProjectedGradientDescent(
        c, eps=EPS, eps_step=EPS / 4, max_iter=5, num_random_init=2, verbose=False
    ),
    "APGD-CE": lambda c: _apgd(c, "cross_entropy"),
    "APGD-DLR": lambda c: _apgd(c, "difference_logits_ratio"),
    "Square": lambda c: SquareAttack(c, eps=EPS, max_iter=100, verbose=False),
    "DeepFool": lambda c: DeepFool(c, max_iter=20, verbose=False),
    "CW": lambda c: CarliniL2Method(
        c, max_iter=20, binary_search_steps=3, learning_rate=0.05, initial_const=1.0, verbose=False
    ),
}
MINIMUM_NORM = {"DeepFool", "CW"}


def _apgd(classifier: PyTorchClassifier, loss: str) -> AutoProjectedGradientDescent:
    return AutoProjectedGradientDescent(
        classifier, eps=EPS, eps_step=EPS / 2, max_iter=10, nb_random_init=1, loss_type=loss, verbose=False
    )


@pytest.mark.slow
@pytest.mark.parametrize("attack", ART)
@pytest.mark.parametrize("name", DEFENSES)
def test_arts_attacks(case, name, attack):
    classifier, x, y = case(name)
    made = ART[attack](classifier)
    x_adv = made.generate(x.copy(), np.eye(CLASSES, dtype=np.float32)[y])
    assert x_adv.shape == x.shape
    assert np.isfinite(x_adv).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    if attack not in MINIMUM_NORM:
        assert np.abs(x_adv - x).max() <= EPS + 1e-6
    if attack.startswith("PGD"):
        assert isinstance(made._attack, ProjectedGradientDescentPyTorch)
    if attack != "Square" or "quantization" not in name:
        right = np.mean([(classifier.predict(x_adv).argmax(1) == y).mean() for _ in range(5)])
        assert right < 0.9


GRADIENT_ATTACKS = [
    "APGD",
    "APGDT",
    "BIM",
    "CW",
    "DIFGSM",
    "DeepFool",
    "EADEN",
    "EADL1",
    "EOTPGD",
    "FAB",
    "FFGSM",
    "FGSM",
    "JSMA",
    "Jitter",
    "MIFGSM",
    "NIFGSM",
    "PGD",
    "PGDL2",
    "PGDRS",
    "PGDRSL2",
    "PIFGSM",
    "PIFGSMPP",
    "RFGSM",
    "SINIFGSM",
    "SparseFool",
    "TIFGSM",
    "TPGD",
    "UPGD",
    "VMIFGSM",
    "VNIFGSM",
]

_EAD = {"max_iterations": 10, "binary_search_steps": 2}
FEW = {"EADL1": _EAD, "EADEN": _EAD} | {
    name: {"steps": 3} for name in ("APGD", "APGDT", "CW", "DeepFool", "FAB", "SparseFool")
}


@pytest.mark.slow
@pytest.mark.parametrize("attack", GRADIENT_ATTACKS)
@pytest.mark.parametrize("name", DEFENSES)
def test_torchattacks(case, name, attack):
    pytest.importorskip("torchattacks")
    from art_ext.adapters.torchattacks import TorchattacksAttack

    classifier, x, y = case(name)
    options = FEW.get(attack, {})
    threat = ThreatModel("l2" if attack in ("PGDL2", "PGDRSL2") else "linf", EPS)
    made = TorchattacksAttack(attack, estimator=classifier, threat=threat, **options)
    x_adv = made.generate(x[:6], y[:6])
    assert x_adv.shape == (6, *SHAPE)
    distance = threat.distance(torch.from_numpy(x_adv), torch.from_numpy(x[:6]))
    assert float(distance.max()) <= EPS + 1e-5
    assert made.n_failed == 0


@pytest.mark.parametrize("name", VOTES)
def test_votes_are_logits_one_row_for_each_image(case, name):
    classifier, x, _ = case(name)
    logits = classifier.predict(x)
    assert logits.shape == (16, CLASSES)
    assert (logits < 0).any()  # log-probabilities, which nobody takes for probabilities
    np.testing.assert_allclose(np.exp(logits).sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", VOTES)
def test_what_art_rebuilds_of_a_vote_votes_the_same(case, name):
    classifier, x, _ = case(name)
    rebuilt = _apgd(classifier, "difference_logits_ratio").estimator
    assert rebuilt is not classifier
    predictions = []
    for each in (classifier, rebuilt):
        torch.manual_seed(1)
        predictions.append(each.predict(x))
    np.testing.assert_allclose(*predictions, atol=1e-6)


@pytest.mark.parametrize("name", VOTES)
def test_arts_gradient_is_that_of_the_vote(case, name):
    classifier, x, y = case(name)
    torch.manual_seed(1)
    gradient = classifier.loss_gradient(x, np.eye(CLASSES, dtype=np.float32)[y])
    images = torch.from_numpy(x).requires_grad_()
    torch.manual_seed(1)
    loss = nn.functional.cross_entropy(DefendedModel(classifier)(images), torch.from_numpy(y))
    (expected,) = torch.autograd.grad(loss, images)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in DEFENSES if "quantization" not in name])
def test_averaged_gradients_are_no_weaker_than_single_ones(case, name):
    classifier, x, y = case(name)
    model = DefendedModel(classifier).eval()
    images, labels = torch.from_numpy(x), torch.from_numpy(y)
    right = {}
    with frozen(model):
        for eot in (1, 16):
            x_adv = pgd(model, images, labels, threat=ThreatModel("linf", 0.01), steps=10, eot=eot)
            with torch.no_grad():
                right[eot] = np.mean([(model(x_adv).argmax(1) == labels).float().mean().item() for _ in range(20)])
    assert right[16] <= right[1] + 0.05


def test_an_honest_surrogate_breaks_what_no_gradient_does(linear_model, images):
    """BPDA against the exact, vanished gradient of the same steps."""
    y = linear_model(images[0]).argmax(1)
    right = {}
    for label, options in {"bpda": {"hard": True}, "exact": {"temperature": 1e-4}}.items():
        quantization = SoftQuantization(levels=8, device_type="cpu", **options)
        classifier = PyTorchClassifier(
            linear_model, nn.CrossEntropyLoss(), SHAPE, CLASSES, preprocessing_defences=[quantization]
        )
        model = DefendedModel(classifier).eval()
        x_adv = pgd(model, images[0], y, threat=ThreatModel("linf", 0.1), steps=10)
        with torch.no_grad():
            right[label] = (model(x_adv).argmax(1) == y).float().mean().item()
    assert right["bpda"] < right["exact"] - 0.3
