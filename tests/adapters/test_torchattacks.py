"""`TorchattacksAttack`: the library's own results, inside the threat model, without its side effects."""

import random
import sys
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from art.exceptions import EstimatorError
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from art_ext.adapters.torchattacks import TorchattacksAttack
from art_ext.model import DefendedModel
from art_ext.nn.normalize import Normalized
from art_ext.threat import ThreatModel

torchattacks = pytest.importorskip("torchattacks", reason="needs the extra [torchattacks]")

EPS = 0.3
LINF = ThreatModel("linf", EPS)
Data = tuple[Tensor, Tensor]


def as_classifier(model: nn.Module, **kwargs: Any) -> PyTorchClassifier:
    options = {"clip_values": (0, 1), "preprocessing": None, "device_type": "cpu", **kwargs}
    return PyTorchClassifier(model, nn.CrossEntropyLoss(), (3, 8, 8), 4, **options)


@pytest.fixture
def classifier(linear_model: nn.Module) -> PyTorchClassifier:
    """A linear model behind BatchNorm, of which one parameter is frozen, and dropout."""
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), linear_model)
    net[0].bias.requires_grad_(False)
    return as_classifier(net)


def arrays(images: Data, n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    return images[0][:n].numpy(), images[1][:n].numpy()


# Parameters that make each attack quick; what is not listed is quick as it is.
QUICK: dict[str, dict[str, Any]] = {
    "EADL1": {"binary_search_steps": 2, "max_iterations": 10},
    "EADEN": {"binary_search_steps": 2, "max_iterations": 10},
    "OnePixel": {"steps": 1, "popsize": 4},
    "PGDRS": {"steps": 2, "noise_batch_size": 2},
    "PGDRSL2": {"steps": 2, "noise_batch_size": 2},
    "Pixle": {"restarts": 2, "max_iterations": 2},
    "SparseFool": {"steps": 2},
    "SPSA": {"nb_sample": 8, "max_batch_size": 8},
    "Square": {"n_queries": 20},
    "SINIFGSM": {"steps": 2},
    "VMIFGSM": {"steps": 2},
    "VNIFGSM": {"steps": 2},
}


def build(name: str, classifier: PyTorchClassifier, images: Data, **kwargs: Any) -> TorchattacksAttack:
    parameters = {"threat": ThreatModel("l2", 1.0) if name.endswith("L2") else LINF, **QUICK.get(name, {}), **kwargs}
    if name == "LGV":
        loader = DataLoader(TensorDataset(*images), batch_size=8)
        parameters |= {"trainloader": loader, "epochs": 1, "nb_models_epoch": 1, "verbose": False}
    if name == "MultiAttack":
        del parameters["threat"]
        attack = TorchattacksAttack(several, estimator=classifier, threat=LINF, **parameters)
    else:
        attack = TorchattacksAttack(name, estimator=classifier, **parameters)
    return attack


def several(model: nn.Module) -> Any:
    return torchattacks.MultiAttack([torchattacks.FGSM(model, eps=EPS), torchattacks.PGD(model, eps=EPS, steps=2)])


@pytest.mark.parametrize("name", torchattacks.__all__)
def test_every_attack_stays_inside_and_leaves_no_trace(name: str, classifier: PyTorchClassifier, images: Data) -> None:
    x, _ = arrays(images)
    y = classifier.predict(x).argmax(1)  # labels that the model gets right, so that each attack has work
    for i, module in enumerate(classifier.model.modules()):
        module.training = i % 2 == 0
    before = trace(classifier), x.copy()

    attack = build(name, classifier, images)
    x_adv = attack.generate(x, y)

    assert x_adv.dtype == np.float32
    assert x_adv.shape == x.shape
    assert np.isfinite(x_adv).all()
    assert 0 <= x_adv.min() <= x_adv.max() <= 1
    assert attack.threat.distance(torch.from_numpy(x_adv), torch.from_numpy(x)).max() <= attack.threat.eps + 1e-5
    assert attack.n_failed == 0
    assert trace(classifier) == before[0]
    np.testing.assert_array_equal(x, before[1])


def trace(classifier: PyTorchClassifier) -> list[Any]:
    """All that an attack might leave changed."""
    model = classifier.model
    return [
        [m.training for m in model.modules()],
        [(p.requires_grad, p.grad) for p in model.parameters()],
        [t.tolist() for t in model.state_dict().values()],
        torch.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # noqa: NPY002
        random.getstate(),
    ]


@pytest.mark.parametrize(
    "name, parameters",
    [
        pytest.param("FGSM", {}, id="FGSM"),
        pytest.param("PGD", {"steps": 4}, id="PGD, random start"),
        pytest.param("MIFGSM", {"steps": 4}, id="MIFGSM"),
        pytest.param("PGDL2", {"steps": 4}, id="PGDL2"),
        pytest.param("APGD", {"steps": 4, "eps": EPS, "seed": 3}, id="APGD, seeds by itself"),
        pytest.param("Square", {"n_queries": 50, "eps": EPS, "seed": 3}, id="Square, seeds by itself"),
        pytest.param("CW", {"steps": 10, "lr": 0.1, "c": 10}, id="CW"),
    ],
)
def test_equals_torchattacks_called_directly(
    name: str, parameters: dict[str, Any], linear_model: nn.Module, images: Data
) -> None:
    classifier, (x, _) = as_classifier(linear_model), arrays(images, 16)
    y = classifier.predict(x).argmax(1)
    given = {k: v for k, v in parameters.items() if k != "seed"}
    ours = TorchattacksAttack(name, estimator=classifier, seed=3, **given).generate(x, y)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        attack = getattr(torchattacks, name)(DefendedModel(classifier).eval(), **parameters)
        direct = attack(torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_array_equal(ours, direct.detach().numpy())
    assert np.abs(ours - x).max() > 0.01


def test_attacks_through_preprocessing_as_through_a_normalising_network(linear_model: nn.Module, images: Data) -> None:
    outside = as_classifier(linear_model, preprocessing=([0.4], [0.2]))
    inside = as_classifier(Normalized(linear_model, (0.4,), (0.2,)))
    found = [
        TorchattacksAttack("PGD", estimator=c, threat=LINF, steps=3).generate(*arrays(images))
        for c in (outside, inside)
    ]
    np.testing.assert_allclose(*found, atol=1e-6)


def test_same_seed_same_result_and_batches_do_not_matter_without_randomness(
    conv_model: nn.Module, images: Data
) -> None:
    classifier, (x, y) = as_classifier(conv_model), arrays(images, 7)

    def run(name: str, **kwargs: Any) -> np.ndarray:
        return TorchattacksAttack(name, estimator=classifier, steps=2, **kwargs).generate(x, y)

    np.testing.assert_array_equal(run("PGD", seed=1), run("PGD", seed=1))
    assert not np.array_equal(run("PGD", seed=1), run("PGD", seed=2))
    np.testing.assert_allclose(run("BIM", batch_size=3), run("BIM"), atol=1e-6)


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(lambda y: None, id="predictions"),
        pytest.param(lambda y: y, id="integers"),
        pytest.param(lambda y: np.eye(4)[y], id="one-hot"),
    ],
)
def test_labels(labels: Any, conv_model: nn.Module, images: Data) -> None:
    classifier = as_classifier(conv_model)
    x, _ = arrays(images)
    predicted = classifier.predict(x).argmax(1)
    attack = TorchattacksAttack("FGSM", estimator=classifier, threat=LINF)
    np.testing.assert_array_equal(attack.generate(x, labels(predicted)), attack.generate(x, predicted))


@pytest.mark.parametrize("name", ["FGSM", "JSMA", "Pixle", "Square"])
def test_targeted_attacks_reach_the_target(name: str, linear_model: nn.Module, images: Data) -> None:
    classifier = as_classifier(linear_model)
    x, _ = arrays(images)
    targets = (classifier.predict(x).argmax(1) + 1) % 4
    parameters = {"eps": 0.5} if name in ("FGSM", "Square") else {"gamma": 0.3} if name == "JSMA" else {}
    parameters |= {"n_queries": 200} if name == "Square" else {}
    x_adv = TorchattacksAttack(name, estimator=classifier, targeted=True, **parameters).generate(x, targets)
    assert (classifier.predict(x_adv).argmax(1) == targets).mean() >= 0.75


@pytest.mark.parametrize(
    "name, threat, expected",
    [
        pytest.param("PGD", ThreatModel("linf", 0.1), {"eps": 0.1, "alpha": 0.025}, id="step scaled with ε"),
        pytest.param("PGDL2", ThreatModel("l2", 0.5), {"eps": 0.5, "alpha": 0.1}, id="ℓ2"),
        pytest.param("PIFGSM", ThreatModel("linf", 0.1), {"max_epsilon": 0.1}, id="another name of ε"),
        pytest.param("APGD", ThreatModel("l2", 0.5), {"eps": 0.5, "norm": "L2"}, id="norm chosen"),
        pytest.param("APGDT", LINF, {"eps": EPS, "norm": "Linf", "n_classes": 4}, id="classes"),
        pytest.param("CW", LINF, {}, id="knows no radius"),
        pytest.param("PGD", None, {}, id="no threat model"),
    ],
)
def test_what_the_threat_model_gives(
    name: str, threat: ThreatModel | None, expected: dict[str, Any], linear_model: nn.Module
) -> None:
    attack = TorchattacksAttack(name, estimator=as_classifier(linear_model), threat=threat)
    assert attack.params == pytest.approx(expected)


def test_min_norm_attacks_are_projected_only_with_a_threat_model(linear_model: nn.Module, images: Data) -> None:
    classifier = as_classifier(linear_model)
    free, bound = (
        TorchattacksAttack("DeepFool", estimator=classifier, threat=threat, overshoot=5.0)
        for threat in (None, ThreatModel("linf", 0.01))
    )
    x, y = arrays(images, 16)
    y = classifier.predict(x).argmax(1)
    assert np.abs(free.generate(x, y) - x).max() > 0.02
    assert np.abs(bound.generate(x, y) - x).max() <= 0.01 + 1e-6
    assert free.n_projected == 0
    assert bound.n_projected > 0


def test_autoattack_has_the_published_iterations(linear_model: nn.Module) -> None:
    attack = TorchattacksAttack("AutoAttack", estimator=as_classifier(linear_model), threat=LINF)
    built = attack._build(DefendedModel(attack.estimator))
    ce, targeted, fab, square = built._autoattack.attacks
    assert attack.label == "torchattacks AutoAttack (100 iterations)"
    assert [part.steps for part in (ce, targeted, fab)] == [100, 100, 100]
    assert targeted.n_target_classes == fab.n_target_classes == 3
    assert square.rescale_schedule is False


class OneBroken(torchattacks.VANILA):
    """Returns NaN for the first image, as MIFGSM and its kin can when the gradient vanishes."""

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return (images + 0.1).clamp(0, 1).index_fill(0, torch.tensor([0]), torch.nan)


def test_nan_images_count_as_failures(linear_model: nn.Module, images: Data) -> None:
    attack = TorchattacksAttack(OneBroken, estimator=as_classifier(linear_model))
    x, y = arrays(images)
    x_adv = attack.generate(x, y)
    np.testing.assert_array_equal(x_adv[0], x[0])
    np.testing.assert_allclose(x_adv[1:], np.clip(x[1:] + 0.1, 0, 1))
    assert attack.n_failed == 1


def test_is_an_art_attack(linear_model: nn.Module) -> None:
    attack = TorchattacksAttack("cw", estimator=as_classifier(linear_model), c=1, steps=50)
    assert isinstance(attack, EvasionAttack)
    assert attack.label == "torchattacks CW"
    assert attack.params == {"c": 1, "steps": 50}
    assert "steps" in repr(attack)
    attack.set_params(batch_size=3)
    assert attack.batch_size == 3
    with pytest.raises(EstimatorError):
        TorchattacksAttack("CW", estimator=linear_model)


@pytest.mark.parametrize(
    "name, kwargs, error, message",
    [
        pytest.param("PDG", {}, ValueError, "did you mean 'PGD'", id="name"),
        pytest.param("MultiAttack", {}, ValueError, "give a callable", id="attack of attacks by name"),
        pytest.param("PGD", {"step": 3}, TypeError, "'step'; it takes eps, alpha, steps", id="parameter"),
        pytest.param("PGD", {"eps": 0.1, "threat": LINF}, ValueError, "not both", id="two radii"),
        pytest.param("PGDL2", {"threat": LINF}, ValueError, "attacks in L2", id="norm of the class"),
        pytest.param("APGD", {"norm": "L2", "threat": LINF}, ValueError, "attacks in L2", id="norm given"),
        pytest.param("APGD", {"targeted": True}, ValueError, "no working targeted mode", id="no targets"),
        pytest.param("FAB", {"targeted": True}, ValueError, "no working targeted mode", id="broken targets"),
        pytest.param("PGD", {"batch_size": 0}, ValueError, "batch_size", id="batch size"),
        pytest.param("PGD", {"threat": ThreatModel("linf", torch.ones(4))}, ValueError, "one radius", id="many radii"),
        pytest.param("PGD", {"threat": ThreatModel("linf", 1, (0, 255))}, ValueError, "clip", id="clip of the threat"),
    ],
)
def test_bad_parameters(
    name: str, kwargs: dict[str, Any], error: type[Exception], message: str, linear_model: nn.Module
) -> None:
    with pytest.raises(error, match=message):
        TorchattacksAttack(name, estimator=as_classifier(linear_model), **kwargs)


def test_clip_values_of_the_classifier(linear_model: nn.Module) -> None:
    with pytest.raises(ValueError, match="clip_values"):
        TorchattacksAttack("PGD", estimator=as_classifier(linear_model, clip_values=(0, 255)))


@pytest.mark.parametrize(
    "x, y, kwargs, error",
    [
        pytest.param(np.full((2, 3, 8, 8), 2.0), None, {}, ValueError, id="range"),
        pytest.param(np.full((2, 3, 8, 8), np.nan), None, {}, ValueError, id="NaN"),
        pytest.param(np.zeros((2, 3, 8, 8), np.uint8), None, {}, TypeError, id="8 bits"),
        pytest.param(np.zeros((2, 8, 8, 3)), None, {}, ValueError, id="channels last"),
        pytest.param(np.zeros((2, 3, 8, 8)), np.array([0]), {}, ValueError, id="number of labels"),
        pytest.param(np.zeros((2, 3, 8, 8)), np.array([0, 4]), {}, ValueError, id="label out of range"),
        pytest.param(np.zeros((2, 3, 8, 8)), None, {"mask": np.ones(1)}, TypeError, id="mask"),
    ],
)
def test_bad_images(x: np.ndarray, y: Any, kwargs: Any, error: type[Exception], linear_model: nn.Module) -> None:
    with pytest.raises(error):
        TorchattacksAttack("FGSM", estimator=as_classifier(linear_model)).generate(x, y, **kwargs)


def test_targeted_needs_targets(linear_model: nn.Module, images: Data) -> None:
    attack = TorchattacksAttack("FGSM", estimator=as_classifier(linear_model), targeted=True)
    with pytest.raises(ValueError, match="give the target labels"):
        attack.generate(arrays(images)[0])


def test_not_installed(linear_model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[torchattacks\]'"):
        TorchattacksAttack("PGD", estimator=as_classifier(linear_model))
