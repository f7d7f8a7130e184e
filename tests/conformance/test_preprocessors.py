"""What ART, and this library, expect of every preprocessor: a new one enters `CASES`, and passing is the contract."""

import copy
import inspect
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.attacks.evasion.projected_gradient_descent.projected_gradient_descent_pytorch import (
    ProjectedGradientDescentPyTorch,
)
from art.defences.preprocessor import CutoutPyTorch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from art_ext import DefendedModel, ThreatModel, evaluate
from art_ext.attacks import pgd
from art_ext.bpda import declared
from art_ext.isolation import keeping_random
from art_ext.nn.masking import Masking
from art_ext.nn.purifiers import UNet
from art_ext.nn.quantization import soft_levels
from art_ext.preprocessors import (
    PREPROCESSORS,
    INNPreprocessor,
    NoiseInjection,
    PurifierPreprocessor,
    RandomTransform,
    SoftQuantization,
)

SHAPE, CLASSES = (3, 8, 8), 4
with keeping_random():
    torch.manual_seed(0)
    UNET = UNet(3, width=4, levels=1).double()  # so that its gradients are exact enough for finite differences
MASK, FIXED = Masking("rt3", grid=4), Masking("rt3", grid=4, seed=0)
CASES = {  # name -> (class, arguments)
    "inn": (INNPreprocessor, {"input_shape": SHAPE}),
    "inn, backgrounds only": (INNPreprocessor, {"input_shape": SHAPE, "beta": 0.0, "gamma": 0.0, "alpha": 0.3}),
    "soft quantization": (SoftQuantization, {"levels": 4, "temperature": 0.1}),
    "soft quantization, hard": (SoftQuantization, {"levels": 4, "hard": True}),
    "soft quantization, hard, temperature": (SoftQuantization, {"levels": 4, "hard": True, "surrogate": 0.2}),
    "noise": (NoiseInjection, {"scale": 0.05}),
    "noise, signs": (NoiseInjection, {"scale": 0.05, "distribution": "signs"}),
    "mask": (RandomTransform, {"kind": "rt1", "grid": 4}),
    "noise and mask": (RandomTransform, {"kind": "rt2", "grid": 4, "sigma": 0.05}),
    "fixed mask": (RandomTransform, {"kind": "rt1", "grid": 4, "seed": 0}),
    "purifier": (PurifierPreprocessor, {"purifier": UNET, "transform": None}),
    "purifier behind a fixed mask": (
        PurifierPreprocessor,
        {"purifier": UNET, "transform": Masking("rt3", grid=4, seed=0)},
    ),
    "purifier behind a mask": (
        PurifierPreprocessor,
        {"purifier": UNET, "transform": Masking("rt3", grid=4), "vote": 2},
    ),
}
RANDOM = {
    *("inn", "inn, backgrounds only", "noise", "noise, signs"),
    *("mask", "noise and mask", "purifier behind a mask"),
}
INVALID = {
    "inn": {"alpha": 2.0},
    "soft-quantization": {"levels": 1},
    "noise-injection": {"scale": 0.0},
    "random-transform": {"grid": 1},
    "purifier": {"steps": 0},
}
SURROGATES = {  # of what is not differentiable: the gradient that it declares, for a given gradient of the output
    "soft quantization, hard": lambda module, x: x,
    "soft quantization, hard, temperature": lambda module, x: soft_levels(x, module.thresholds.to(x), 0.2),
}


def test_every_preprocessor_is_listed():
    assert {cls for cls, _ in CASES.values()} == set(PREPROCESSORS.values())
    assert set(INVALID) == set(PREPROCESSORS)


@pytest.fixture(params=CASES)
def name(request) -> str:
    return request.param


@pytest.fixture
def build(name):
    """Makes the preprocessor under test, with other arguments if asked for."""
    cls, arguments = CASES[name]
    return lambda **others: cls(**(arguments | {"device_type": "cpu"} | others))


@pytest.fixture
def preprocessor(build):
    return build()


@pytest.fixture
def x(images) -> np.ndarray:
    return images[0].numpy()


@pytest.fixture
def defended(conv_model):
    """Makes an ART classifier of a network behind some preprocessors."""

    def make(*preprocessors, net=conv_model, **options) -> PyTorchClassifier:
        given = {"clip_values": (0.0, 1.0), "preprocessing": None, "device_type": "cpu"} | options
        return PyTorchClassifier(
            net, nn.CrossEntropyLoss(), SHAPE, CLASSES, preprocessing_defences=list(preprocessors), **given
        )

    return make


@pytest.fixture(autouse=True)
def _same_draws():
    with keeping_random():
        torch.manual_seed(0)
        yield


# 1. the class, its parameters and their change


def test_class_and_constructor(build):
    preprocessor = build(apply_fit=False, apply_predict=False)
    assert isinstance(preprocessor, PreprocessorPyTorch)
    assert (preprocessor.apply_fit, preprocessor.apply_predict, preprocessor.is_fitted) == (False, False, True)
    assert preprocessor.device == torch.device("cpu")
    kinds = {p.kind for p in list(inspect.signature(type(preprocessor).__init__).parameters.values())[1:]}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    assert type(preprocessor).__name__ in repr(preprocessor)


def test_every_parameter_is_an_attribute_and_can_be_set(preprocessor, x):
    assert {"_apply_fit", "_apply_predict"} < set(preprocessor.params)
    before = preprocessor(x)[0] if not _is_random(preprocessor, x) else None
    for key in preprocessor.params:
        value = getattr(preprocessor, key)
        preprocessor.set_params(**{key: value})
        assert getattr(preprocessor, key) is value
    if before is not None:
        np.testing.assert_array_equal(preprocessor(x)[0], before)
    preprocessor.set_params(_apply_fit=False, _apply_predict=False)
    assert (preprocessor.apply_fit, preprocessor.apply_predict) == (False, False)


def test_invalid_values_are_refused_at_birth_and_later(build):
    for key, value in INVALID[type(build()).name].items():
        with pytest.raises(ValueError, match=key):
            build(**{key: value})
        with pytest.raises(ValueError, match=key):
            build().set_params(**{key: value})


# 2. on numpy arrays


@pytest.mark.parametrize("y", [None, np.arange(16) % 4, np.eye(4, dtype=np.float32)[np.arange(16) % 4]], ids=repr)
def test_arrays_in_and_arrays_out(preprocessor, x, y):
    before = x.copy()
    out, labels = preprocessor(x, y)
    assert (out.dtype, out.shape) == (np.float32, x.shape)
    assert labels is y
    assert 0 <= out.min() <= out.max() <= 1 + 1e-6
    np.testing.assert_array_equal(x, before)
    assert not np.array_equal(out, x)


NO_IMAGES = {
    "three dimensions": (np.zeros((3, 8, 8), np.float32), ValueError, r"x must be images \(N, C, H, W\)"),
    "a table": (np.zeros((4, 10), np.float32), ValueError, r"x must be images \(N, C, H, W\)"),
    "nothing": (np.zeros((0, 3, 8, 8), np.float32), ValueError, "non-empty"),
    "bytes": (np.zeros((2, 3, 8, 8), np.uint8), TypeError, "divide by 255"),
    "outside [0, 1]": (np.full((2, 3, 8, 8), 255.0, np.float32), ValueError, r"x must lie in \[0, 1\]"),
    "not a number": (np.full((2, 3, 8, 8), np.nan, np.float32), ValueError, "x must be finite"),
}


@pytest.mark.parametrize("wrong, error, message", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_batch_of_images(preprocessor, wrong, error, message):
    with pytest.raises(error, match=message):
        preprocessor(wrong)


# 3. gradients


def _fixed(preprocessor, seed: int = 3):
    """The forward pass of one draw."""

    def forward(x: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return preprocessor.forward(x)[0]

    return forward


def test_gradients_are_finite_differences_or_the_declared_surrogate(preprocessor, name):
    x = torch.rand(2, *SHAPE, dtype=torch.float64).mul(0.2).add(0.4).requires_grad_()
    forward = _fixed(preprocessor)
    if name not in SURROGATES:
        assert declared(preprocessor.module) == ()
        assert torch.autograd.gradcheck(forward, x, fast_mode=True)
        return
    assert len(declared(preprocessor.module)) == 1
    pull = torch.rand(2, *SHAPE, dtype=torch.float64)
    (grad,) = torch.autograd.grad(forward(x), x, pull)
    (expected,) = torch.autograd.grad(SURROGATES[name](preprocessor.module, x), x, pull)
    torch.testing.assert_close(grad, expected)


def test_art_gets_gradients_that_lead_somewhere(preprocessor, defended, x):
    classifier = defended(preprocessor)
    one_hot = np.eye(CLASSES, dtype=np.float32)[np.arange(16) % CLASSES]
    found = [classifier.loss_gradient(x, one_hot), classifier.class_gradient(x), classifier.class_gradient(x, 1)]
    found.append(classifier.class_gradient(x, np.arange(16) % CLASSES))
    assert [g.shape[:2] for g in found] == [(16, 3), (16, CLASSES), (16, 1), (16, 1)]
    for gradient in found:
        assert np.isfinite(gradient).all()
        assert (np.abs(gradient.reshape(16, -1)).max(1) > 0).all()


def test_estimates_agree_with_the_forward_pass(preprocessor, x):
    tensor = torch.from_numpy(x)
    forward = _fixed(preprocessor)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert torch.equal(preprocessor.estimate_forward(tensor), forward(tensor))
    assert preprocessor.estimate_gradient(x, np.ones_like(x)).shape == x.shape
    assert preprocessor.estimate_gradient(x, np.ones((16, CLASSES, *SHAPE), np.float32)).shape == (16, CLASSES, *SHAPE)


# 4. in a PyTorchClassifier, alone and in chains


def _cutout() -> CutoutPyTorch:
    return CutoutPyTorch(length=2, channels_first=True, apply_predict=True, device_type="cpu", verbose=False)


CHAINS = {
    "alone": (lambda p: [p], {}),
    "mean and std": (lambda p: [p], {"preprocessing": (0.5, 0.25)}),
    "ART's before": (lambda p: [_cutout(), p], {}),
    "ART's after": (lambda p: [p, _cutout()], {}),
    "two of ours": (lambda p: [NoiseInjection(scale=0.01), p], {}),
}


@pytest.mark.parametrize("chain, options", CHAINS.values(), ids=CHAINS)
def test_in_a_chain(preprocessor, defended, x, chain, options):
    classifier = defended(*chain(preprocessor), **options)
    assert classifier.all_framework_preprocessing is True
    attack = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.05, max_iter=2, verbose=False)
    x_adv = attack.generate(x, np.arange(16) % CLASSES)
    assert isinstance(attack._attack, ProjectedGradientDescentPyTorch)
    assert 0 < np.abs(x_adv - x).max() <= 0.1 + 1e-6
    _same_logits(classifier, x)


# 5. prediction


def test_prediction_is_the_network_on_what_the_preprocessor_makes(preprocessor, defended, x, conv_model):
    classifier = defended(preprocessor)
    torch.manual_seed(1)
    predicted = classifier.predict(x)
    torch.manual_seed(1)
    with torch.no_grad():
        expected = conv_model(preprocessor.forward(torch.from_numpy(x))[0])
    np.testing.assert_allclose(predicted, expected, atol=1e-6)


def test_it_acts_when_it_shall(build, defended, x, conv_model):
    net = conv_model
    raw = net(torch.from_numpy(x)).detach()
    off = defended(build(apply_predict=False, apply_fit=True))
    np.testing.assert_allclose(off.predict(x), raw, atol=1e-6)
    seen = []
    net[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))  # ART does not call the Sequential itself
    sgd = torch.optim.SGD(net.parameters(), lr=0.01)
    for apply_fit in (False, True):
        seen.clear()
        classifier = defended(build(apply_fit=apply_fit), optimizer=sgd)
        classifier.fit(x, np.arange(16) % CLASSES, batch_size=16, nb_epochs=1)
        same = any(torch.equal(batch.sort(0).values, torch.from_numpy(x).sort(0).values) for batch in seen)
        assert same is not apply_fit


# 6. randomness


def _is_random(preprocessor, x) -> bool:
    return not np.array_equal(preprocessor(x)[0], preprocessor(x)[0])


def test_draws_are_fresh_repeatable_and_independent(preprocessor, name, x):
    assert _is_random(preprocessor, x) is (name in RANDOM)
    torch.manual_seed(5)
    one = preprocessor(x)[0]
    torch.manual_seed(5)
    np.testing.assert_array_equal(preprocessor(x)[0], one)
    if name in RANDOM:
        same = np.repeat(x[:1] * 0.5 + 0.25, 64, axis=0)
        distinct = {image.tobytes() for image in preprocessor(same)[0]}
        assert len(distinct) == (2 if name == "inn, backgrounds only" else 64)


def test_only_torchs_generator_is_drawn_from(preprocessor, x):
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    preprocessor(x)
    assert random.getstate() == python_state
    assert all(np.array_equal(a, b) for a, b in zip(numpy_state, np.random.get_state(), strict=True))  # noqa: NPY002


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_it_acts_alike_in_both_modes_of_the_network(preprocessor, defended, x, training):
    preprocessor.set_params(_apply_fit=True)
    model = DefendedModel(defended(preprocessor, net=nn.Sequential(nn.Flatten(), nn.Linear(192, CLASSES))))
    torch.manual_seed(1)
    out = model.train(training)(torch.from_numpy(x))
    torch.manual_seed(1)
    torch.testing.assert_close(out, model.network(preprocessor.forward(torch.from_numpy(x))[0]))


# 7. devices, precisions and layouts


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_precision(preprocessor, dtype):
    x = torch.rand(4, *SHAPE).to(dtype)
    out, _ = preprocessor.forward(x)
    assert (out.dtype, out.shape) == (dtype, x.shape)
    assert bool(out.isfinite().all())


@pytest.mark.parametrize("n", [0, 1, 5])
def test_number_of_images(preprocessor, n):
    assert preprocessor.forward(torch.rand(n, *SHAPE))[0].shape == (n, *SHAPE)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_without_gradients(preprocessor, mode):
    with mode():
        assert not preprocessor.forward(torch.rand(2, *SHAPE))[0].requires_grad


def test_layouts(preprocessor, name):
    x = torch.rand(4, *SHAPE)
    strided = torch.rand(4, 8, 8, 3).permute(0, 3, 1, 2).copy_(x)
    views = {"channels last": x.contiguous(memory_format=torch.channels_last), "strided": strided}
    for other in views.values():
        assert torch.equal(other, x)
        out = _fixed(preprocessor)(other)
        assert bool(out.isfinite().all())
        if name not in RANDOM:
            assert torch.equal(out, _fixed(preprocessor)(x))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_images_decide_the_device(preprocessor):  # pragma: no cover
    assert preprocessor.forward(torch.rand(2, *SHAPE, device="cuda"))[0].is_cuda


class _Watched(TorchDispatchMode):
    """Notes the operations that make a GPU wait for the host, or the host for it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        if name in {"_local_scalar_dense", "nonzero", "item", "masked_select", "is_nonzero"}:
            self.seen.add(name)
        return func(*args, **(kwargs or {}))


def test_nothing_goes_to_the_host(preprocessor):
    x = torch.rand(4, *SHAPE)
    with _Watched() as watched:
        preprocessor.forward(x)
    assert watched.seen == set()
    with _Watched() as watched:  # it would see
        x.max().item()
    assert watched.seen == {"_local_scalar_dense"}


# 8. copies


def test_copies_of_the_classifier(preprocessor, defended, conv_model, x):
    classifier = defended(preprocessor, optimizer=torch.optim.SGD(conv_model.parameters(), lr=0.1))
    for other in (copy.deepcopy(classifier), defended(pickle.loads(pickle.dumps(preprocessor)))):
        torch.manual_seed(2)
        predicted = other.predict(x)
        torch.manual_seed(2)
        np.testing.assert_allclose(predicted, classifier.predict(x), atol=1e-6)
    assert len(classifier.clone_for_refitting().preprocessing_defences) == 1
    classifier.set_params(preprocessing_defences=[preprocessor, preprocessor])
    assert len(classifier.get_params()["preprocessing_defences"]) == 2


# 10. attacked


def _same_logits(classifier, x) -> None:
    """`DefendedModel` and ART's ``predict`` are one function."""
    model = DefendedModel(classifier).eval()
    with torch.no_grad(), warnings.catch_warnings():
        torch.manual_seed(4)
        logits = model(torch.from_numpy(x))
        torch.manual_seed(4)
        np.testing.assert_allclose(classifier.predict(x), logits, atol=1e-5)


def test_nothing_withstands_an_attack_without_a_limit(preprocessor, defended, linear_model, x):
    model = DefendedModel(defended(preprocessor, net=linear_model)).eval()
    y = linear_model(torch.from_numpy(x)).argmax(1)
    options = {"threat": ThreatModel("linf", 1.0), "steps": 50, "objective": "margin", "eot": 4}
    with torch.no_grad():
        wrong = model(pgd(model, torch.from_numpy(x), y, **options)).argmax(1) != y
    assert float(wrong.float().mean()) > 0.9


@pytest.mark.slow
def test_the_defense_names_its_attacks_and_they_run(preprocessor, defended, linear_model, x):
    classifier = defended(preprocessor, net=linear_model)
    y = linear_model(torch.from_numpy(x)).argmax(1).numpy()
    threat = ThreatModel("linf", 0.3)  # beyond the margin of every image
    suite = preprocessor.adaptive_suite(threat)
    options = {"threat": threat, "n_examples": 4, "indicators": False, "progress": False}
    report = evaluate(classifier, x, y, suite=suite, **options)
    assert len(report.attacks) == len(suite) > 0
    assert all(result.error is None for result in report.attacks.values())
    assert report.robust_accuracy < report.clean_accuracy
