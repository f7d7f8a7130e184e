"""The attack loop against ART's, against exact worst cases, against its own budget, and what it must leave alone."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf, nan, sqrt
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.evasion import ProjectedGradientDescentPyTorch
from art.estimators.classification import PyTorchClassifier
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from art_ext.attacks import fgsm, get_objective, input_gradient, pgd
from art_ext.attacks.pgd import GAUSSIAN_START
from art_ext.model import DefendedModel
from art_ext.scores import ce, margin
from art_ext.threat import NORMS, ThreatModel, per_example

ROUNDING = 1e-6  # float32 near 1: some units in the last place

norms = pytest.mark.parametrize("norm", NORMS)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Watch(nn.Module):
    """Counts forwards and backwards, and keeps what came in and in which state the model was then."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.inputs: list[Tensor] = []
        self.backwards = 0
        self.modes: set[bool] = set()
        self.trainable: set[bool] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x.detach().clone())
        self.modes |= {m.training for m in self.modules()}
        self.trainable |= {p.requires_grad for p in self.parameters()}
        logits = self.body(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, _: Tensor) -> None:
        self.backwards += 1

    @property
    def forwards(self) -> int:
        return len(self.inputs)


class Noisy(nn.Module):
    """Adds fresh noise of the global generator to its input, so that every forward is another function."""

    def __init__(self, body: nn.Module, scale: float = 0.1) -> None:
        super().__init__()
        self.body, self.scale = body, scale

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x + self.scale * torch.randn_like(x))


class Indifferent(nn.Module):
    """Logits that depend on the input by a gradient of exactly zero; class 0 wins."""

    def forward(self, x: Tensor) -> Tensor:
        return 0 * x.flatten(1).sum(1, keepdim=True) + torch.tensor([1.0, 0.0, -1.0])


@pytest.fixture
def contested(conv_model, images) -> tuple[nn.Module, Tensor, Tensor]:
    """A model whose predictions on the images vary, the images, and these predictions: each has to be attacked."""
    x, _ = images
    with torch.no_grad():
        conv_model[-1].bias.sub_(conv_model(x).mean(0))
        return conv_model, x, conv_model(x).argmax(1)


def fooled(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


def margins(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return margin(model(x), y)


def assert_inside(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> None:
    assert x_adv.shape == x.shape
    assert x_adv.isfinite().all()
    assert (threat.distance(x_adv, x) <= torch.as_tensor(threat.eps) + ROUNDING).all()
    if threat.clip is not None:
        assert torch.equal(x_adv, x_adv.clamp(*threat.clip))


# The same algorithm as ART's


def art_pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    norm: str,
    *,
    clip: tuple[float, float] | None,
    preprocessing: tuple[float, float] | None = None,
    **options: Any,
) -> np.ndarray:
    classifier = PyTorchClassifier(
        model,
        nn.CrossEntropyLoss(),
        tuple(x.shape[1:]),
        4,
        clip_values=clip,
        preprocessing=preprocessing,
        device_type="cpu",
    )
    norm_ = {"linf": np.inf, "l2": 2}[norm]
    attack = ProjectedGradientDescentPyTorch(classifier, norm=norm_, num_random_init=0, verbose=False, **options)
    return attack.generate(x.numpy(), np.eye(4, dtype=np.float32)[y.numpy()])


ART_SETTINGS: dict[str, tuple[str, tuple[float, float] | None, float]] = {  # norm, clip, ε
    "linf": ("linf", (0.0, 1.0), 0.1),
    "linf, free": ("linf", None, 0.1),
    # In ℓ2 ART cuts to the range before it projects and we after. Both are one algorithm where the range does not bind.
    "l2, free": ("l2", None, 0.5),
    "l2, far from the ends of the range": ("l2", (-1.0, 2.0), 0.5),
}
art_settings = pytest.mark.parametrize("norm, clip, eps", ART_SETTINGS.values(), ids=ART_SETTINGS)


@art_settings
@pytest.mark.parametrize("steps", [1, 7])
def test_equals_art(conv_model, images, norm, clip, eps, steps):
    x, y = images
    threat, size = ThreatModel(norm, eps, clip), 0.3 * eps
    x_adv = pgd(conv_model, x, y, threat=threat, steps=steps, step_size=size, random_start=False)
    expected = art_pgd(conv_model, x, y, norm, clip=clip, eps=eps, eps_step=size, max_iter=steps)
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=ROUNDING)
    assert threat.distance(x_adv, x).min() > 0.29 * eps


@art_settings
def test_equals_art_with_one_eps_per_example(conv_model, images, norm, clip, eps):
    x, y = images
    radii = torch.linspace(0.2, 1, len(x)) * eps
    x_adv = pgd(
        conv_model, x, y, threat=ThreatModel(norm, radii, clip), steps=7, step_size=0.3 * radii, random_start=False
    )
    column = radii.view(-1, 1, 1, 1).numpy()
    expected = art_pgd(conv_model, x, y, norm, clip=clip, eps=column, eps_step=0.3 * column, max_iter=7)
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=ROUNDING)


def test_equals_art_through_a_preprocessor(conv_model, images):
    x, y = images
    classifier = PyTorchClassifier(
        conv_model, nn.CrossEntropyLoss(), (3, 8, 8), 4, preprocessing=(0.5, 0.25), device_type="cpu"
    )
    threat = ThreatModel("linf", 0.1)
    x_adv = pgd(DefendedModel(classifier), x, y, threat=threat, steps=5, step_size=0.03, random_start=False)
    options = {"clip": (0.0, 1.0), "eps": 0.1, "eps_step": 0.03, "max_iter": 5}
    expected = art_pgd(conv_model, x, y, "linf", preprocessing=(0.5, 0.25), **options)
    np.testing.assert_allclose(x_adv, expected, rtol=0, atol=ROUNDING)


# The exact worst case of linear models


@dataclass(frozen=True)
class Linear:
    """Two classes told apart by the sign of w·x + b."""

    net: nn.Module
    w: np.ndarray
    b: float

    def margin(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Logit of the true class minus that of the other, in float64."""
        return (2.0 * y - 1) * (x.reshape(len(x), -1).astype(np.float64) @ self.w + self.b)

    def worst(self, threat: ThreatModel, x: Tensor, y: np.ndarray) -> np.ndarray:
        """The lowest margin anywhere in the threat model."""
        rows = x.double().numpy().reshape(len(x), -1)
        eps = np.broadcast_to(np.asarray(threat.eps, np.float64), len(x))
        if threat.norm == "linf" and threat.clip is None:
            return self.margin(rows, y) - eps * np.abs(self.w).sum()
        if threat.norm == "linf":
            worst = rows - eps[:, None] * np.sign((2.0 * y - 1)[:, None] * self.w)
            return self.margin(worst.clip(*threat.clip), y)
        assert threat.clip is None, "no closed form"
        return self.margin(rows, y) - eps * np.sqrt((self.w**2).sum())


def linear_of(shape: tuple[int, ...]) -> Linear:
    layer = nn.Linear(int(np.prod(shape)), 2)
    with torch.no_grad():
        for p in layer.parameters():
            p.normal_(generator=seeded(1))
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return Linear(nn.Sequential(nn.Flatten(), layer), weight[1] - weight[0], bias[1] - bias[0])


WORST_CASES = {
    "linf, images": ("linf", (0.0, 1.0), (3, 4, 4)),
    "linf, free images": ("linf", None, (3, 4, 4)),
    "linf, points": ("linf", None, (2,)),
    "l2, free images": ("l2", None, (3, 4, 4)),
    "l2, points": ("l2", None, (2,)),
}


@pytest.mark.parametrize("norm, clip, shape", WORST_CASES.values(), ids=WORST_CASES)
@pytest.mark.parametrize("random_start", [False, True], ids=["from x", "random start"])
@pytest.mark.parametrize("objective", ["ce", "margin"])
@pytest.mark.parametrize("eps", [0.2, torch.linspace(0.01, 0.4, 30)], ids=["one eps", "eps per example"])
def test_reaches_the_worst_case_of_a_linear_model(norm, clip, shape, random_start, objective, eps):
    model, x = linear_of(shape), torch.rand(30, *shape, generator=seeded())
    y = torch.arange(30) % 2
    threat = ThreatModel(norm, eps, clip)
    # steps of ε halve what is left of a random start's error: 2^-20 after 20
    x_adv = pgd(
        model.net,
        x,
        y,
        threat=threat,
        steps=20,
        step_size=eps,
        objective=objective,
        random_start=random_start,
        generator=seeded(),
    )
    assert_inside(threat, x_adv, x)
    reached = model.margin(x_adv.double().numpy(), y.numpy())
    np.testing.assert_allclose(reached, model.worst(threat, x, y.numpy()), rtol=0, atol=1e-5)  # 48 roundings of w·x


def test_l2_within_a_range_comes_near_the_worst_case():
    """No closed form, but the optimum is clip(x − t·w) for the t that makes the perturbation as long as ε."""
    model, x = linear_of((3, 4, 4)), torch.rand(30, 3, 4, 4, generator=seeded())
    y = torch.arange(30) % 2
    threat = ThreatModel("l2", 1.5)
    x_adv = pgd(model.net, x, y, threat=threat, steps=100, step_size=0.05, random_start=False)
    assert_inside(threat, x_adv, x)
    rows, direction = x.double().numpy().reshape(30, -1), (2.0 * y.numpy() - 1)[:, None] * model.w
    low, high = np.zeros(30), np.full(30, 100.0)
    for _ in range(60):
        t = (low + high) / 2
        long = np.sqrt((((rows - t[:, None] * direction).clip(0, 1) - rows) ** 2).sum(1)) > 1.5
        low, high = np.where(long, low, t), np.where(long, t, high)
    best = model.margin((rows - low[:, None] * direction).clip(0, 1), y.numpy())
    clean, reached = model.margin(rows, y.numpy()), model.margin(x_adv.double().numpy(), y.numpy())
    assert (reached >= best - 1e-4).all()
    assert ((clean - reached) / (clean - best)).min() > 0.95  # projecting and then cutting falls a little short


@norms
def test_fgsm_is_one_step_of_eps(conv_model, images, norm):
    x, y = images
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(ce(conv_model(leaf), y).sum(), leaf)
    for eps in (0.1, torch.linspace(0.01, 0.4, len(x))):
        unit = gradient.sign() if norm == "linf" else gradient / per_example(gradient.flatten(1).norm(dim=1), gradient)
        radius = eps if isinstance(eps, float) else per_example(eps, x)
        threat = ThreatModel(norm, eps)
        x_adv = fgsm(conv_model, x, y, threat=threat)
        torch.testing.assert_close(x_adv, (x + radius * unit).clamp(0, 1), rtol=0, atol=ROUNDING)
        assert_inside(threat, x_adv, x)


def test_fgsm_of_another_objective(linear_model, images):
    x, y = images
    for objective in ("ce", "margin"):
        expected = pgd(
            linear_model,
            x,
            y,
            threat=ThreatModel("linf", 0.1),
            steps=1,
            step_size=0.1,
            objective=objective,
            random_start=False,
        )
        assert torch.equal(fgsm(linear_model, x, y, threat=ThreatModel("linf", 0.1), objective=objective), expected)


# Cost

K = 6
COSTS: dict[str, tuple[dict[str, Any], int, int]] = {  # options -> forwards, backwards where no example is fooled
    "plain": ({}, K, K),
    "from x": ({"random_start": False}, K, K),
    "kl": ({"objective": "kl", "random_start": "gaussian"}, K + 1, K),
    "early exit": ({"early_exit": True}, K + 1, K),
    "best": ({"track_best": True}, K + 1, K),
    "early exit and best": ({"early_exit": True, "track_best": True}, K + 1, K),
    "kl, best": ({"objective": "kl", "track_best": True}, K + 2, K),
    "restarts": ({"restarts": 3}, 3 * (K + 1), 3 * K),
    "restarts, early exit": ({"restarts": 3, "early_exit": True}, 3 * (K + 1), 3 * K),
    "kl, restarts": ({"objective": "kl", "restarts": 2}, 2 * (K + 1) + 1, 2 * K),
    "eot": ({"eot": 4}, 4 * K, 4 * K),
    "eot, best": ({"eot": 4, "track_best": True}, 4 * K + 1, 4 * K),
    "eot, restarts": ({"eot": 2, "restarts": 2}, 2 * (2 * K + 1), 2 * 2 * K),
}


@pytest.mark.parametrize("options, forwards, backwards", COSTS.values(), ids=COSTS)
def test_forwards_and_backwards(contested, options, forwards, backwards):
    network, x, y = contested
    model = Watch(network)
    pgd(model, x, y, threat=ThreatModel("linf", 1e-5), steps=K, **options)
    assert (model.forwards, model.backwards) == (forwards, backwards)
    assert {len(batch) for batch in model.inputs} == {len(x)}


def test_early_exit_spends_nothing_on_fooled_examples(contested):
    network, x, y = contested
    y[::2] = (y[::2] + 1) % 4  # misclassified from the start
    model = Watch(network)
    x_adv = pgd(model, x, y, threat=ThreatModel("linf", 1e-5), steps=K, random_start=False, early_exit=True)
    assert [len(batch) for batch in model.inputs] == [16] + K * [8]
    assert torch.equal(x_adv[::2], x[::2])


def test_early_exit_stops_when_all_are_fooled(contested):
    network, x, y = contested
    model = Watch(network)
    options = {"threat": ThreatModel("linf", 0.1), "steps": K, "restarts": 5, "early_exit": True}
    x_adv = pgd(model, x, (y + 1) % 4, random_start=False, **options)
    assert model.forwards == 1
    assert torch.equal(x_adv, x)


# What it leaves alone


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_model_is_left_as_it_was(conv_model, images, training):
    x, y = images
    model = Watch(conv_model.train(training))
    model.body[0].weight.requires_grad_(False)
    model.body[1].eval()
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    modes, flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    kept = x.clone(), y.clone()
    pgd(model, x, y, threat=ThreatModel("linf", 0.1), steps=3, objective="kl", restarts=2)
    assert (model.modes, model.trainable) == ({False}, {False}), "attacks run in eval mode with frozen parameters"
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert torch.equal(x, kept[0])
    assert torch.equal(y, kept[1])


def test_gradients_that_a_training_step_has_accumulated_survive(conv_model, images):
    x, y = images
    ce(conv_model(x), y).sum().backward()
    before = [p.grad.clone() for p in conv_model.parameters()]
    pgd(conv_model, x, y, threat=ThreatModel("linf", 0.1), steps=2)
    assert all(torch.equal(p.grad, g) for p, g in zip(conv_model.parameters(), before, strict=True))


class Stop(BaseException):
    """Not an Exception, so that nobody catches it by accident (as an interrupt from the keyboard)."""


def test_the_model_is_restored_after_an_error(conv_model, images):
    x, y = images
    calls = []

    def interrupt(*_: object) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    conv_model.train()
    conv_model[3].eval()
    modes = [m.training for m in conv_model.modules()]
    conv_model.register_forward_hook(interrupt)
    with pytest.raises(Stop):
        pgd(conv_model, x, y, threat=ThreatModel("linf", 0.1), steps=5)
    assert [m.training for m in conv_model.modules()] == modes
    assert all(p.requires_grad and p.grad is None for p in conv_model.parameters())


RANDOM_STARTS = [True, "uniform", "gaussian"]


@pytest.mark.parametrize("random_start", RANDOM_STARTS)
@norms
def test_a_generator_makes_it_reproducible_and_spares_the_global_one(conv_model, images, norm, random_start):
    x, y = images
    state = torch.get_rng_state()
    options = {"threat": ThreatModel(norm, 0.1), "steps": 2, "random_start": random_start, "restarts": 2}
    first, second, other = (pgd(conv_model, x, y, generator=seeded(seed), **options) for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("random_start", RANDOM_STARTS)
def test_the_global_generator_is_the_default(conv_model, images, random_start):
    x, y = images
    results = []
    with torch.random.fork_rng(devices=[]):
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            threat = ThreatModel("linf", 0.1)
            results.append(pgd(conv_model, x, y, threat=threat, steps=1, random_start=random_start))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


# Starts


def first_input(norm: str, eps: float, x: Tensor, random_start: bool | str) -> Tensor:
    model = Watch(Indifferent())
    y = torch.zeros(len(x), dtype=torch.int64)
    pgd(model, x, y, threat=ThreatModel(norm, eps), steps=1, random_start=random_start, generator=seeded())
    return model.inputs[0]


@norms
def test_uniform_start(norm):
    x = torch.rand(50, 3, 4, 4, generator=seeded(1))
    expected = ThreatModel(norm, 0.1).random_start(x, seeded())
    for random_start in (True, "uniform"):
        assert torch.equal(first_input(norm, 0.1, x, random_start), expected)


@norms
def test_gaussian_start(norm):
    x = torch.full((200, 3, 4, 4), 0.5)
    delta = first_input(norm, 0.5, x, "gaussian") - x
    n = delta.numel()
    assert GAUSSIAN_START == 0.001  # TRADES' code
    assert delta.std().item() == pytest.approx(0.001, rel=5 / sqrt(2 * n))  # five standard errors
    assert delta.mean().item() == pytest.approx(0, abs=5 * 0.001 / sqrt(n))
    assert delta.abs().max() > 3 * 0.001, "not cut, not uniform"


@norms
def test_gaussian_start_stays_in_a_small_ball_and_in_the_range(norm):
    x = torch.ones(50, 3, 4, 4)
    start = first_input(norm, 0.0005, x, "gaussian")
    assert_inside(ThreatModel(norm, 0.0005), start, x)
    assert not torch.equal(start, x)


def test_no_start():
    x = torch.rand(4, 3, generator=seeded())
    assert torch.equal(first_input("linf", 0.1, x, False), x)


# Steps


@norms
def test_default_step_size(linear_model, images, norm):
    x, y = images
    for eps in (0.01, torch.linspace(0.001, 0.01, len(x))):
        threat, model = ThreatModel(norm, eps, clip=None), Watch(linear_model)
        pgd(model, x, y, threat=threat, steps=10, random_start=False)
        moved = threat.distance(model.inputs[1], model.inputs[0])
        expected = torch.as_tensor(2.5 * eps / 10).expand(len(x))  # Madry et al.
        torch.testing.assert_close(moved, expected, rtol=1e-3, atol=0)  # the difference of numbers 100 times as large


@norms
def test_a_step_size_per_example(linear_model, images, norm):
    x, y = images
    sizes = torch.linspace(0.01, 0.1, len(x))
    threat, model = ThreatModel(norm, 1.0, clip=None), Watch(linear_model)
    pgd(model, x, y, threat=threat, steps=2, step_size=sizes, random_start=False)
    torch.testing.assert_close(threat.distance(model.inputs[1], x), sizes, rtol=1e-4, atol=0)


@pytest.mark.parametrize("early_exit", [False, True], ids=["all", "early exit"])
@norms
def test_each_example_is_attacked_as_if_alone(contested, norm, early_exit):
    """ε, step size, label and reference follow their examples, also when some have left the batch."""
    model, x, y = contested
    scale = 0.016 if norm == "linf" else 0.16
    eps, sizes = scale * torch.linspace(0.1, 2, 16), 0.3 * scale * torch.linspace(2, 0.1, 16)
    options = {"steps": 5, "random_start": False, "early_exit": early_exit}
    together = pgd(model, x, y, threat=ThreatModel(norm, eps), step_size=sizes, **options)
    assert_inside(ThreatModel(norm, eps), together, x)
    exits = fooled(model, together, y)
    assert exits.any()
    assert not exits.all()
    for i in range(16):
        one = slice(i, i + 1)
        threat, size = ThreatModel(norm, eps[i].item()), sizes[i].item()
        alone = pgd(model, x[one], y[one], threat=threat, step_size=size, **options)
        # early exit returns the best iterate, and on the surface of the ball several are equal up to rounding
        torch.testing.assert_close(together[one], alone, rtol=0, atol=1e-4 if early_exit else ROUNDING)


# The best of what was seen

BEST = {
    "track best": {"track_best": True},
    "early exit": {"early_exit": True},
    "both": {"track_best": True, "early_exit": True},
}


@pytest.mark.parametrize("options", BEST.values(), ids=BEST)
@pytest.mark.parametrize("objective", ["ce", "kl", "margin", "dlr"])
@norms
def test_never_weaker_than_the_plain_run(contested, norm, objective, options):
    model, x, y = contested
    threat = ThreatModel(norm, 0.016 if norm == "linf" else 0.16)
    run = {"threat": threat, "steps": 6, "step_size": threat.eps, "objective": objective}
    plain, best = (pgd(model, x, y, generator=seeded(), **run, **more) for more in ({}, options))
    assert_inside(threat, best, x)
    was, now = fooled(model, plain, y), fooled(model, best, y)
    assert now[was].all()
    assert now.any()
    assert not now.all()


def test_track_best_is_the_best_of_all_iterates(contested):
    model, x, y = contested
    run = {"threat": ThreatModel("linf", 0.012), "step_size": 0.02, "objective": "margin"}  # so wide that it overshoots
    iterates = [run["threat"].random_start(x, seeded())]
    iterates += [pgd(model, x, y, steps=k, generator=seeded(), **run) for k in range(1, 7)]
    values = torch.stack([margins(model, iterate, y) for iterate in iterates])
    best = margins(model, pgd(model, x, y, steps=6, track_best=True, generator=seeded(), **run), y)
    torch.testing.assert_close(best, values.amax(0), rtol=0, atol=ROUNDING)
    assert (best > values[-1] + ROUNDING).any(), "the last iterate is the best everywhere: nothing was tested"


def test_a_fooled_iterate_is_better_than_a_higher_objective():
    """Class 1 wins near x = 1/4 only, and the objective goes on rising where class 0 wins again."""

    def objective(logits: Tensor, y: Tensor) -> Tensor:
        return logits[:, 2]

    class Window(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wrong = 1 - (x - 0.25).abs() * 8
            return torch.cat((torch.zeros_like(x), wrong, x - 10), dim=1)

    x, y = torch.zeros(1, 1), torch.tensor([0])
    run = {"threat": ThreatModel("linf", 0.5), "steps": 4, "step_size": 0.125, "objective": objective}
    last = pgd(Window(), x, y, random_start=False, **run)
    assert last.item() == pytest.approx(0.5)
    assert not fooled(Window(), last, y).any()
    best = pgd(Window(), x, y, random_start=False, track_best=True, **run)
    assert fooled(Window(), best, y).all()
    assert best.item() == pytest.approx(0.25)


def test_restarts_return_the_best_of_their_runs(contested):
    model, x, y = contested
    run = {"threat": ThreatModel("linf", 0.012), "steps": 2, "step_size": 0.002, "objective": "margin"}
    generator = seeded()
    singles = torch.stack(
        [margins(model, pgd(model, x, y, track_best=True, generator=generator, **run), y) for _ in range(4)]
    )
    assert len(set(singles.argmax(0).tolist())) > 1, "one start is the best for all: nothing was tested"
    for restarts in (2, 3, 4):
        result = pgd(model, x, y, restarts=restarts, generator=seeded(), **run)
        torch.testing.assert_close(margins(model, result, y), singles[:restarts].amax(0), rtol=0, atol=ROUNDING)


def test_restarts_with_early_exit_lose_no_example(mlp_model, points):
    x, _ = points
    with torch.no_grad():
        y = mlp_model(x).argmax(1)
    run = {"threat": ThreatModel("l2", 2.0, clip=None), "steps": 1, "step_size": 0.01, "early_exit": True}
    successes = [fooled(mlp_model, pgd(mlp_model, x, y, restarts=r, generator=seeded(), **run), y) for r in (1, 2, 9)]
    for fewer, more in pairwise(successes):
        assert more[fewer].all()
        assert more.sum() > fewer.sum()


# Objectives


def test_a_function_of_ones_own_is_climbed(linear_model, images):
    x, y = images

    def own(logits: Tensor, y: Tensor) -> Tensor:
        return -logits[:, 0]

    x_adv = pgd(linear_model, x, y, threat=ThreatModel("linf", 0.1, clip=None), objective=own, random_start=False)
    expected = x - 0.1 * linear_model[1].weight[0].sign().view(3, 8, 8)
    torch.testing.assert_close(x_adv, expected.detach(), rtol=0, atol=ROUNDING)


def test_kl_is_taken_from_the_prediction_on_the_clean_inputs(conv_model, images):
    x, y = images
    kl = get_objective("kl")
    with torch.no_grad():
        clean = conv_model(x)
    run = {"threat": ThreatModel("l2", 0.5), "steps": 5, "random_start": "gaussian"}
    x_adv = pgd(conv_model, x, y, objective="kl", generator=seeded(), **run)
    expected = pgd(conv_model, x, y, objective=lambda logits, _: kl(logits, clean), generator=seeded(), **run)
    assert torch.equal(x_adv, expected)
    with torch.no_grad():
        near = conv_model(x + GAUSSIAN_START * torch.randn(x.shape, generator=seeded()))
        assert (kl(conv_model(x_adv), clean) > 10 * kl(near, clean)).all()


def test_dlr_of_two_classes_says_what_to_use_and_restores_the_model(mlp_model, points):
    x, y = points
    mlp_model.train()
    with pytest.raises(ValueError, match="'dlr' needs at least 3 classes; the model has 2; use 'margin'"):
        pgd(mlp_model, x, y, threat=ThreatModel("l2", 0.1, clip=None), objective="dlr")
    assert all(m.training for m in mlp_model.modules())
    assert all(p.requires_grad for p in mlp_model.parameters())


# Expectation over transformation


def test_eot_averages_gradient_value_and_logits(conv_model, images):
    x, y = images
    model, goal, eot = Noisy(conv_model), get_objective("ce"), 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        averaged = input_gradient(model, x, y, goal, eot)
        torch.manual_seed(0)
        parts = [input_gradient(model, x, y, goal) for _ in range(eot)]
    for got, each in zip(averaged, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(got, torch.stack(each).mean(0))
    assert not torch.equal(parts[0][0], parts[1][0])


def test_input_gradient_is_autograd(conv_model, images):
    x, y = images
    leaf = x.clone().requires_grad_(True)
    logits = conv_model(leaf)
    (expected,) = torch.autograd.grad(ce(logits, y).sum(), leaf)
    with torch.no_grad():
        gradient, value, same = input_gradient(conv_model, x, y, get_objective("ce"))
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(value, ce(logits, y).detach())
    torch.testing.assert_close(same, logits.detach())
    assert not x.requires_grad


# All that may come in


@pytest.mark.parametrize("options", [{}, {"track_best": True}, {"early_exit": True, "restarts": 2}], ids=str)
@norms
def test_no_gradient_no_harm(norm, options):
    x = torch.rand(4, 3, generator=seeded())
    x_adv = pgd(Indifferent(), x, torch.zeros(4, dtype=torch.int64), threat=ThreatModel(norm, 0.1), **options)
    assert_inside(ThreatModel(norm, 0.1), x_adv, x)
    still = pgd(Indifferent(), x, torch.zeros(4, dtype=torch.int64), threat=ThreatModel(norm, 0.1), random_start=False)
    torch.testing.assert_close(still, x, rtol=0, atol=ROUNDING)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.sampled_from([(1,), (2,), (5, 3), (3, 4, 4)]),
    n=st.integers(0, 5),
    norm=st.sampled_from(NORMS),
    eps=st.floats(1e-3, 2),
    clip=st.sampled_from([(0.0, 1.0), None]),
    options=st.fixed_dictionaries(
        {
            "objective": st.sampled_from(["ce", "kl", "margin", "dlr"]),
            "random_start": st.sampled_from([True, "uniform", "gaussian", False]),
            "restarts": st.integers(1, 2),
            "eot": st.integers(1, 2),
            "early_exit": st.booleans(),
            "track_best": st.booleans(),
            "steps": st.integers(1, 3),
        }
    ),
)
def test_the_result_is_in_the_threat_model_whatever_the_options(shape, n, norm, eps, clip, options):
    x = torch.rand(n, *shape, generator=seeded())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))
    threat = ThreatModel(norm, eps, clip)
    assert_inside(threat, pgd(model, x, torch.arange(n) % 3, threat=threat, generator=seeded(), **options), x)


@norms
def test_channels_last(conv_model, images, norm):
    x, y = images
    run = {"threat": ThreatModel(norm, 0.1), "steps": 4, "random_start": False}
    last = pgd(conv_model, x.to(memory_format=torch.channels_last), y, **run)
    assert last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, pgd(conv_model, x, y, **run), rtol=0, atol=ROUNDING)


def test_float64(conv_model, images):
    x, y = images
    assert pgd(conv_model.double(), x.double(), y, threat=ThreatModel("l2", 0.1), restarts=2).dtype == torch.float64


def test_within_no_grad_and_with_inputs_that_require_it(conv_model, images):
    x, y = images
    run = {"threat": ThreatModel("l2", 0.1), "steps": 3}
    expected = pgd(conv_model, x, y, generator=seeded(), **run)
    with torch.no_grad():
        assert torch.equal(pgd(conv_model, x, y, generator=seeded(), **run), expected)
    x_adv = pgd(conv_model, x.clone().requires_grad_(True), y, generator=seeded(), **run)
    assert not x_adv.requires_grad
    assert torch.equal(x_adv, expected)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no steps": ({"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    "half a step": ({"steps": 2.5}, "steps must be a whole number of at least 1; got 2.5"),
    "no restarts": ({"restarts": 0}, "restarts must be a whole number of at least 1; got 0"),
    "no eot": ({"eot": -1}, "eot must be a whole number of at least 1; got -1"),
    "step size zero": ({"step_size": 0.0}, r"step_size must be > 0 and finite .*e.g. 2/255\); got 0.0"),
    "step size negative": ({"step_size": -0.1}, "step_size must be > 0"),
    "step size NaN": ({"step_size": nan}, "step_size must be > 0"),
    "step size infinite": ({"step_size": inf}, "step_size must be > 0 and finite"),
    "one step size zero": ({"step_size": torch.tensor([0.1] * 15 + [0.0])}, "step_size must be > 0"),
    "start": ({"random_start": "gauss"}, "random_start must be True, False or one of uniform, gaussian; got 'gauss'"),
    "objective": ({"objective": "margn"}, r"unknown objective 'margn'; did you mean 'margin'\?"),
    "eps of another batch": ({"threat": ThreatModel("linf", [0.1, 0.2])}, "eps has 2 values for 16 examples"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments(conv_model, images, options, message):
    x, y = images
    with pytest.raises(ValueError, match=message):
        pgd(conv_model, x, y, **{"threat": ThreatModel("linf", 0.1)} | options)
