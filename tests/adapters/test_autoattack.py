"""`AutoAttackStandard`: pyautoattack's own results, without its side effects."""

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.adapters.autoattack import VERSIONS, AutoAttackStandard
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

pyautoattack = pytest.importorskip("pyautoattack", reason="needs the extra [autoattack]")

Data = tuple[Tensor, Tensor]
EASY = ThreatModel("linf", 0.3)  # the linear model loses all images, so that the slow parts have nothing to do
HARD = ThreatModel("linf", 0.02)


def as_classifier(model: nn.Module, classes: int = 4) -> PyTorchClassifier:
    options = {"clip_values": (0, 1), "preprocessing": None, "device_type": "cpu"}
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 8, 8), classes, **options)


@pytest.fixture
def classifier(linear_model: nn.Module) -> PyTorchClassifier:
    return as_classifier(linear_model)


def predicted(classifier: PyTorchClassifier, images: Data, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Images, and labels of which all but the first are what the model says."""
    x = images[0][:n].numpy()
    y = classifier.predict(x).argmax(1)
    y[0] = (y[0] + 1) % classifier.nb_classes
    return x, y


@pytest.mark.parametrize(
    "version, threat",
    [
        pytest.param("standard", EASY, id="standard, linf"),
        pytest.param("standard", ThreatModel("l2", 8.0), id="standard, l2"),
        pytest.param("rand", EASY, id="rand"),
        pytest.param(["apgd-ce"], HARD, id="apgd-ce"),
        pytest.param(["apgd-dlr"], HARD, id="apgd-dlr"),
        pytest.param(["apgd-t"], HARD, id="apgd-t"),
        pytest.param(["fab"], HARD, id="fab"),
        pytest.param(["fab-t"], HARD, id="fab-t"),
        pytest.param(["square"], ThreatModel("linf", 0.6), id="square"),
    ],
)
def test_equals_pyautoattack_called_directly(
    version: str | Sequence[str], threat: ThreatModel, classifier: PyTorchClassifier, images: Data
) -> None:
    x, y = predicted(classifier, images, 8)
    attack = AutoAttackStandard(classifier, threat=threat, version=version, seed=5)
    ours = attack.generate(x, y)

    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    name = "rand" if version == "rand" else "standard"
    with torch.random.fork_rng(devices=[]):
        direct = pyautoattack.AutoAttack(
            DefendedModel(classifier).eval(), norm=norm, eps=threat.eps, seed=5, version=name
        )
        direct.apgd_targeted.n_target_classes = direct.fab.n_target_classes = 3
        direct.attacks_to_run = list(attack.parts)
        theirs, _ = direct.run_standard_evaluation(torch.from_numpy(x), torch.from_numpy(y), batch_size=128)
    np.testing.assert_array_equal(ours, theirs.detach().numpy())

    fooled = classifier.predict(ours).argmax(1) != y
    changed = (ours != x).any((1, 2, 3))
    assert fooled.sum() > 1
    np.testing.assert_array_equal(changed[1:], fooled[1:])
    assert not changed[0]  # the model gets it wrong by itself
    assert threat.distance(torch.from_numpy(ours), torch.from_numpy(x)).max() <= threat.eps + 1e-5
    assert ours.min() >= 0
    assert ours.max() <= 1


def test_leaves_no_trace(conv_model: nn.Module, images: Data, capfd: pytest.CaptureFixture[str]) -> None:
    classifier = as_classifier(conv_model)
    x, y = predicted(classifier, images, 4)
    conv_model.train()
    conv_model[1].eval()
    before = [m.training for m in conv_model.modules()], torch.get_rng_state(), x.copy()
    calls: list[str] = []
    tracer = sys.gettrace()
    try:
        sys.settrace(lambda frame, event, arg: calls.append(event))
        AutoAttackStandard(classifier, threat=EASY, version=["apgd-ce"]).generate(x, y)
        ours = sys.gettrace()
    finally:
        sys.settrace(tracer)
    assert ours is not None  # coverage and debuggers go on
    assert [m.training for m in conv_model.modules()] == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert all(p.grad is None and p.requires_grad for p in conv_model.parameters())
    np.testing.assert_array_equal(x, before[2])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("part", ["apgd-ce", "apgd-t", "fab", "fab-t"])
def test_channels_last_networks(part: str, conv_model: nn.Module, images: Data) -> None:
    """Their gradients are not contiguous, and pyautoattack calls `view` on gradients."""
    classifier = as_classifier(conv_model)
    x, y = predicted(classifier, images, 2)
    expected = AutoAttackStandard(classifier, threat=HARD, version=[part]).generate(x, y)
    conv_model.to(memory_format=torch.channels_last)
    np.testing.assert_allclose(
        AutoAttackStandard(classifier, threat=HARD, version=[part]).generate(x, y), expected, atol=1e-4
    )


@pytest.mark.parametrize(
    "classes, version, parts",
    [
        pytest.param(2, "standard", ("apgd-ce", "fab-t", "square"), id="2"),
        pytest.param(3, "standard", ("apgd-ce", "apgd-dlr", "fab-t", "square"), id="3"),
        pytest.param(4, "standard", ("apgd-ce", "apgd-t", "fab-t", "square"), id="4"),
        pytest.param(2, "rand", ("apgd-ce",), id="2, rand"),
        pytest.param(3, "rand", ("apgd-ce", "apgd-dlr"), id="3, rand"),
    ],
)
def test_few_classes(classes: int, version: str, parts: tuple[str, ...], images: Data) -> None:
    torch.manual_seed(0)
    classifier = as_classifier(nn.Sequential(nn.Flatten(), nn.Linear(192, classes)), classes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attack = AutoAttackStandard(classifier, threat=EASY, version=version)
    assert attack.parts == parts
    assert any("too few for the DLR loss" in str(w.message) for w in caught) == (parts != VERSIONS[version])
    x, y = predicted(classifier, images, 4)
    assert (classifier.predict(attack.generate(x, y)).argmax(1) != y).all()


def test_remarks_of_the_library_are_kept(images: Data) -> None:
    class Randomised(nn.Sequential):
        """Noise in the forward pass."""

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + 0.1 * torch.randn(len(x), 1)

    classifier = as_classifier(Randomised(nn.Flatten(), nn.Linear(192, 4)))
    attack = AutoAttackStandard(classifier, threat=EASY, version=["apgd-ce"])
    attack.generate(*predicted(classifier, images, 4))
    assert any("randomized defense" in flag for flag in attack.flags)


@pytest.mark.parametrize(
    "version, label",
    [
        pytest.param("standard", "AutoAttack (standard)", id="standard"),
        pytest.param("rand", "AutoAttack (rand)", id="rand"),
        pytest.param(["apgd-ce", "square"], "AutoAttack (apgd-ce, square)", id="parts"),
    ],
)
def test_is_an_art_attack(version: str | list[str], label: str, classifier: PyTorchClassifier) -> None:
    attack = AutoAttackStandard(classifier, threat=EASY, version=version)
    assert isinstance(attack, EvasionAttack)
    assert attack.label == label
    assert not attack.targeted


@pytest.mark.parametrize(
    "kwargs, message",
    [
        pytest.param({"version": "standart"}, "did you mean 'standard'", id="version"),
        pytest.param({"version": ["apgd"]}, "did you mean 'apgd-", id="part"),
        pytest.param({"version": []}, "no part", id="no parts"),
        pytest.param({"threat": ThreatModel("linf", [0.1, 0.2])}, "one radius", id="radius per example"),
        pytest.param({"batch_size": 0}, "batch_size", id="batch size"),
    ],
)
def test_bad_parameters(kwargs: dict[str, Any], message: str, classifier: PyTorchClassifier) -> None:
    with pytest.raises(ValueError, match=message):
        AutoAttackStandard(classifier, **{"threat": EASY, **kwargs})


def test_not_installed(classifier: PyTorchClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[autoattack\]'"):
        AutoAttackStandard(classifier, threat=EASY)
