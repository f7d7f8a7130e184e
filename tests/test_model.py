"""DefendedModel against ART's own predictions and gradients, and context managers that restore what they change."""

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentNumpy
from art.defences.postprocessor import ReverseSigmoid
from art.defences.preprocessor import CutoutPyTorch, FeatureSqueezing, SpatialSmoothing
from art.defences.preprocessor.preprocessor import Preprocessor, PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from art.estimators.classification.scikitlearn import ScikitlearnLogisticRegression
from art.preprocessing.standardisation_mean_std.numpy import StandardisationMeanStd
from art.preprocessing.standardisation_mean_std.pytorch import StandardisationMeanStdPyTorch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from art_ext.model import DefendedModel, evaluating, frozen, require_pytorch_classifier

IMAGE, CLASSES = (3, 8, 8), 4
MEAN, STD = np.array([0.5, 0.4, 0.3], np.float32), np.array([0.2, 0.25, 0.3], np.float32)
ROUNDING = 1e-6


class Gamma(PreprocessorPyTorch):
    """x ↦ x^γ: deterministic, differentiable, and it does not commute with a standardisation."""

    params = ("gamma",)

    def __init__(self, gamma: float = 2.0, **options: object) -> None:
        super().__init__(device_type="cpu", **options)
        self.gamma = gamma

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return x.clamp(min=0.01) ** self.gamma, y


class Shift(Gamma):
    """x ↦ x + 0.1: together with `Gamma` it tells which of two came first."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        return x + 0.1, y


class Body(nn.Module):
    """A network that is not a Sequential, which ART would unroll."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def classifier_of(
    network: nn.Module, shape: tuple[int, ...] = IMAGE, classes: int = CLASSES, **options: object
) -> PyTorchClassifier:
    defaults = {"clip_values": (0.0, 1.0), "device_type": "cpu"}
    return PyTorchClassifier(network, nn.CrossEntropyLoss(), shape, classes, **defaults | options)


CHAINS: dict[str, dict[str, object]] = {  # arguments of the classifier
    "ART's default": {},
    "nothing": {"preprocessing": None},
    "mean and std, numbers": {"preprocessing": (0.5, 0.25)},
    "mean and std, per channel": {"preprocessing": (MEAN, STD)},
    "mean and std, per pixel": {
        "preprocessing": (np.full(IMAGE, 0.5, np.float32), np.linspace(0.2, 0.4, 192, dtype=np.float32).reshape(IMAGE))
    },
    "a defence": {"preprocessing_defences": Gamma(), "preprocessing": None},
    "a defence and mean and std": {"preprocessing_defences": Gamma(), "preprocessing": (MEAN, STD)},
    "two defences": {"preprocessing_defences": [Shift(), Gamma()], "preprocessing": (MEAN, STD)},
    "two defences, the other way": {"preprocessing_defences": [Gamma(), Shift()], "preprocessing": (MEAN, STD)},
    "a defence in training only": {"preprocessing_defences": Gamma(apply_predict=False, apply_fit=True)},
    "mean and std in training only": {
        "preprocessing": StandardisationMeanStdPyTorch(MEAN, STD, apply_predict=False, device_type="cpu")
    },
}

chains = pytest.mark.parametrize("options", CHAINS.values(), ids=CHAINS)


@pytest.fixture(params=["sequential", "module"])
def network(request, conv_model) -> nn.Module:
    return conv_model if request.param == "sequential" else Body(conv_model).eval()


# The same function as ART


@chains
def test_logits_are_those_of_predict(network, images, options):
    x, _ = images
    classifier = classifier_of(network, **options)
    with torch.no_grad():
        logits = DefendedModel(classifier)(x)
    assert logits.dtype == torch.float32
    np.testing.assert_allclose(logits, classifier.predict(x.numpy()), atol=ROUNDING)


@chains
def test_the_gradient_is_that_of_loss_gradient(network, images, options):
    x, y = images
    classifier = classifier_of(network, **options)
    expected = classifier.loss_gradient(x.numpy(), np.eye(CLASSES, dtype=np.float32)[y])
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(DefendedModel(classifier)(leaf), y), leaf)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    np.testing.assert_allclose(gradient, expected, atol=ROUNDING)


@pytest.mark.parametrize("fits, predicts", [(True, False), (False, True), (True, True), (False, False)])
@pytest.mark.parametrize("step", ["defence", "mean and std"])
def test_the_mode_decides_which_preprocessors_act(step, fits, predicts):
    flags = {"apply_fit": fits, "apply_predict": predicts}
    options = (
        {"preprocessing_defences": Gamma(2.0, **flags), "preprocessing": None}
        if step == "defence"
        else {"preprocessing": StandardisationMeanStdPyTorch(0.5, 0.25, device_type="cpu", **flags)}
    )
    x = torch.full((1, 4), 0.7)
    acted = x**2 if step == "defence" else (x - 0.5) / 0.25
    model = DefendedModel(classifier_of(nn.Identity(), (4,), 4, **options))
    torch.testing.assert_close(model.train()(x), acted if fits else x)
    torch.testing.assert_close(model.eval()(x), acted if predicts else x)


def test_a_random_preprocessor_draws_as_in_art(network, images):
    x, _ = images
    cutout = CutoutPyTorch(length=4, channels_first=True, apply_predict=True, device_type="cpu")
    classifier = classifier_of(network, preprocessing_defences=cutout)
    model, logits = DefendedModel(classifier), []
    for predict in (lambda: model(x).detach().numpy(), lambda: classifier.predict(x.numpy())):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            logits.append(predict())
    np.testing.assert_allclose(*logits, atol=ROUNDING)
    assert not np.allclose(logits[0], network(x).detach().numpy(), atol=ROUNDING)


@pytest.mark.parametrize("classes", [2, 3])
def test_points_with_a_mean_vector(points, classes):
    x, _ = points
    mean, std = np.array([0.5, -0.5], np.float32), np.array([2.0, 0.5], np.float32)
    classifier = classifier_of(nn.Linear(2, classes), (2,), classes, preprocessing=(mean, std), clip_values=None)
    logits = DefendedModel(classifier)(x).detach()
    np.testing.assert_allclose(logits, classifier.predict(x.numpy()), atol=ROUNDING)


SHAPES = {"as wide as it has channels": (3, 3, 3), "features last": (5, 3), "channels first": (3, 5)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_mean_vector_lies_along_the_axis_that_art_chooses(shape):
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0))
    network = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2))
    classifier = classifier_of(network, shape, 2, preprocessing=(MEAN, STD))
    np.testing.assert_allclose(DefendedModel(classifier)(x).detach(), classifier.predict(x.numpy()), atol=ROUNDING)


def test_mean_and_std_of_numpy_become_torch(conv_model, images):
    """`set_params(preprocessing=…)` leaves ART's numpy class behind; its formula is known, so nothing is lost."""
    x, _ = images
    classifier = classifier_of(conv_model)
    classifier.set_params(preprocessing=(MEAN, STD))
    assert isinstance(classifier.preprocessing_operations[-1], StandardisationMeanStd)
    np.testing.assert_allclose(DefendedModel(classifier)(x).detach(), classifier.predict(x.numpy()), atol=ROUNDING)


def test_art_attacks_the_same_function(conv_model, images):
    """The whole defense inside one module is attacked exactly as the classifier with its preprocessors is."""
    x, y = images
    classifier = classifier_of(conv_model, preprocessing_defences=Gamma(), preprocessing=(MEAN, STD))
    whole = classifier_of(DefendedModel(classifier), preprocessing=None)
    settings = {"eps": 0.1, "eps_step": 0.03, "max_iter": 4, "verbose": False}
    attacked = [
        ProjectedGradientDescentNumpy(c, **settings).generate(x.numpy(), y.numpy()) for c in (classifier, whole)
    ]
    np.testing.assert_allclose(*attacked, atol=ROUNDING)


# The module itself


def test_the_network_is_shared_not_copied(conv_model, images):
    x, _ = images
    model = DefendedModel(classifier_of(conv_model, preprocessing=(MEAN, STD)))
    assert model.network is conv_model
    before = model(x)
    with torch.no_grad():
        conv_model[-1].bias.add_(1.0)
    torch.testing.assert_close(model(x), before + 1)


def test_nothing_of_the_preprocessors_is_trained_or_saved(conv_model):
    model = DefendedModel(classifier_of(conv_model, preprocessing=(MEAN, STD)))
    assert list(map(id, model.parameters())) == list(map(id, conv_model.parameters()))
    assert {k.removeprefix("network.") for k in model.state_dict()} == set(conv_model.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_it_begins_in_the_mode_of_the_network(conv_model, training):
    model = DefendedModel(classifier_of(conv_model.train(training), preprocessing_defences=Gamma()))
    assert {m.training for m in model.modules()} == {training}


DTYPES = {torch.float64: torch.float64, torch.float32: torch.float32, torch.bfloat16: torch.float32}


@pytest.mark.parametrize("network_dtype, logits_dtype", DTYPES.items(), ids=str)
def test_dtype_of_the_logits(network_dtype, logits_dtype):
    network = nn.Linear(4, 3).to(network_dtype)
    model = DefendedModel(classifier_of(network, (4,), 3, preprocessing=None))
    assert model(torch.rand(2, 4, dtype=network_dtype)).dtype == logits_dtype


def test_a_network_that_returns_a_tuple_is_left_to_whoever_wants_logits():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    logits = DefendedModel(classifier_of(Two(), (4,), 4, preprocessing=None))(torch.zeros(2, 4))
    assert isinstance(logits, tuple)


def test_a_float64_network_stays_float64_behind_mean_and_std(conv_model, images):
    x, _ = images
    single = DefendedModel(classifier_of(conv_model, preprocessing=(MEAN, STD)))(x).detach()
    double = DefendedModel(classifier_of(conv_model.double(), preprocessing=(MEAN, STD)))(x.double())
    assert double.dtype == torch.float64
    np.testing.assert_allclose(double.detach(), single, atol=1e-5)  # float32 through a few layers


def test_around_another_network(conv_model, images):
    x, _ = images
    model = DefendedModel(classifier_of(conv_model, preprocessing_defences=Gamma(), preprocessing=(MEAN, STD)))
    other = nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))
    expected = DefendedModel(classifier_of(other, preprocessing_defences=Gamma(), preprocessing=(MEAN, STD)))(x)
    before = model(x)
    torch.testing.assert_close(model.around(other)(x), expected, rtol=0, atol=0)
    assert model.around(other).network is other
    assert model.network is conv_model
    torch.testing.assert_close(model(x), before, rtol=0, atol=0)


def test_device():
    assert DefendedModel(classifier_of(nn.Linear(4, 3), (4,), 3)).device == torch.device("cpu")
    assert DefendedModel(classifier_of(nn.Flatten(), (4,), 4)).device == torch.device("cpu")


# What it refuses


@pytest.mark.parametrize(
    "preprocessor", [SpatialSmoothing(), FeatureSqueezing(clip_values=(0, 1))], ids=lambda p: type(p).__name__
)
def test_a_preprocessor_of_numpy_is_refused_and_the_way_out_named(conv_model, preprocessor: Preprocessor):
    name = type(preprocessor).__name__
    with pytest.raises(ValueError, match=rf"{name} works on numpy arrays only.*{name}PyTorch.*PreprocessorPyTorch"):
        DefendedModel(classifier_of(conv_model, preprocessing_defences=preprocessor))


def test_a_postprocessor_is_refused_by_name(conv_model):
    with pytest.raises(ValueError, match=r"postprocessing defences \(ReverseSigmoid\) act outside the gradient"):
        DefendedModel(classifier_of(conv_model, postprocessing_defences=ReverseSigmoid()))


NOT_CLASSIFIERS: dict[str, Callable[[], object]] = {
    "Linear": lambda: nn.Linear(4, 3),
    "NoneType": lambda: None,
    "ScikitlearnLogisticRegression": lambda: ScikitlearnLogisticRegression(LogisticRegression().fit(np.eye(2), [0, 1])),
}


@pytest.mark.parametrize("make", NOT_CLASSIFIERS.values(), ids=NOT_CLASSIFIERS)
def test_anything_else_is_refused(make):
    thing = make()
    for refuse in (DefendedModel, require_pytorch_classifier):
        with pytest.raises(TypeError, match=rf"must be an art\..*PyTorchClassifier; got {type(thing).__name__}"):
            refuse(thing)


# What is changed is restored


def mixed(module: nn.Module) -> nn.Module:
    """Every second submodule in train mode, every third parameter frozen."""
    for i, m in enumerate(module.modules()):
        m.training = i % 2 == 0
    for i, p in enumerate(module.parameters()):
        p.requires_grad_(i % 3 != 0)
    return module


def modes(module: nn.Module) -> list[bool]:
    return [m.training for m in module.modules()]


def flags(module: nn.Module) -> list[bool]:
    return [p.requires_grad for p in module.parameters()]


class Stop(BaseException):
    """Not an Exception, so that nobody catches it by accident (as an interrupt from the keyboard)."""


MANAGERS = {"evaluating": (evaluating, modes), "frozen": (frozen, flags)}


@pytest.mark.parametrize("manager, state", MANAGERS.values(), ids=MANAGERS)
@pytest.mark.parametrize("fails", [False, True], ids=["quietly", "with an error"])
def test_mixed_flags_come_back(conv_model, manager, state, fails):
    module = mixed(conv_model)
    before = modes(module), flags(module)
    assert {*state(module)} == {True, False}
    with pytest.raises(Stop) if fails else nullcontext(), manager(module) as inside:
        assert inside is module
        assert not any(state(module))
        if fails:
            raise Stop
    assert (modes(module), flags(module)) == before


def test_no_parameter_gets_a_gradient_inside_frozen(conv_model, images):
    x, _ = images
    leaf = x.clone().requires_grad_(True)
    with frozen(conv_model):
        conv_model(leaf).sum().backward()
    assert leaf.grad is not None
    assert all(p.grad is None for p in conv_model.parameters())
