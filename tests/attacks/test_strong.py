"""The parts of AutoAttack: against exact worst cases, their own rules, and what they must leave alone."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from art_ext.attacks import apgd, fab, square
from art_ext.attacks.fab import to_hyperplane
from art_ext.attacks.hunt import likely_targets
from art_ext.attacks.square import side
from art_ext.model import Surrogate
from art_ext.threat import NORMS, ThreatModel

ATTACKS: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "apgd-ce": (apgd, {"steps": 20}),
    "apgd-dlr": (apgd, {"steps": 20, "objective": "dlr"}),
    "apgd-margin": (apgd, {"steps": 20, "objective": "margin", "restarts": 2}),
    "apgd-t": (apgd, {"steps": 20, "targets": 3}),
    "fab-t": (fab, {"steps": 20, "targets": 3}),
    "square": (square, {"queries": 100}),
}
attacks = pytest.mark.parametrize("attack, options", ATTACKS.values(), ids=ATTACKS)
norms = pytest.mark.parametrize("norm", NORMS)
EPS = {"linf": 0.01, "l2": 0.2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def wrong(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).argmax(1) != y


@pytest.fixture
def case(linear_model, images) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear model of four classes with images that it classifies correctly."""
    x = images[0]
    return linear_model, x, linear_model(x).argmax(1)


def exact_margin(model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel) -> np.ndarray:
    """Lowest margin of a linear model over the unclipped ball, in float64: the least of those towards each class."""
    weight, bias = (p.detach().double().numpy() for p in (model[1].weight, model[1].bias))
    flat, labels = x.flatten(1).double().numpy(), y.numpy()
    margins = np.full((len(flat), len(bias)), np.inf)
    for k in range(len(bias)):
        w = weight[labels] - weight[k]
        size = np.abs(w).sum(1) if threat.norm == "linf" else np.linalg.norm(w, axis=1)
        value = (flat * w).sum(1) + bias[labels] - bias[k] - threat.eps * size
        margins[labels != k, k] = value[labels != k]
    return margins.min(1)


@attacks
@norms
def test_on_a_linear_model_the_exact_worst_case(case, norm, attack, options):
    model, x, y = case
    threat = ThreatModel(norm, EPS[norm], clip=None)
    margins = exact_margin(model, x, y, threat)
    fooled = wrong(model, attack(model, x, y, threat=threat, generator=generator(), **options), y).numpy()
    assert 0 < (margins < 0).sum() < len(x)  # the case says something
    assert not fooled[margins > 1e-5].any()
    if attack is not square:  # random search comes only near; the highest cross entropy is not the lowest margin
        assert fooled[margins < (-0.05 if options.get("objective", "ce") == "ce" and attack is apgd else -1e-5)].all()


@attacks
@norms
@pytest.mark.parametrize("clip", [(0.0, 1.0), None], ids=["clipped", "unbounded"])
def test_inside_the_threat_model_whatever_comes_out(conv_model, images, norm, attack, options, clip):
    x, y = images
    threat = ThreatModel(norm, torch.linspace(0.01, 0.5, len(x)), clip)
    kept = x.clone()
    x_adv = attack(conv_model, x, y, threat=threat, generator=generator(), **options)
    assert torch.equal(x, kept)
    assert x_adv.shape == x.shape
    assert (threat.distance(x_adv, x) <= threat.eps + 1e-5).all()
    if clip:
        assert 0 <= x_adv.min() <= x_adv.max() <= 1


@attacks
def test_points_and_two_classes(mlp_model, points, attack, options):
    x, y = points[0], mlp_model(points[0]).argmax(1)
    threat = ThreatModel("linf", 1.5, clip=None)
    x_adv = attack(mlp_model, x, y, threat=threat, generator=generator(), **options)
    assert 0 < wrong(mlp_model, x_adv, y).float().mean() <= 1


@attacks
def test_same_seed_same_examples_and_nothing_else_touched(conv_model, images, attack, options):
    x, y = images
    threat = ThreatModel("linf", 0.03)
    before, state = copy.deepcopy(conv_model.state_dict()), torch.get_rng_state()
    conv_model.train()
    runs = [attack(conv_model, x, y, threat=threat, generator=generator(3), **options) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(state, torch.get_rng_state())
    assert conv_model.training
    assert all(p.requires_grad and p.grad is None for p in conv_model.parameters())
    for name, value in conv_model.state_dict().items():
        assert torch.equal(value, before[name]), name


class Counting(nn.Module):
    """How many examples each forward gets."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.rows = body, []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return self.body(x)


@attacks
def test_fooled_examples_cost_nothing_more(case, attack, options):
    model, x, y = case
    counting = Counting(model)
    x_adv = attack(counting, x, y, threat=ThreatModel("linf", 0.03), generator=generator(), **options)
    standing = len(x) - int(wrong(model, x_adv, y).sum())
    assert standing < len(x)
    assert counting.rows[1:] == sorted(counting.rows[1:], reverse=True) or attack is fab  # asks about those near
    assert sum(counting.rows) < len(x) * len(counting.rows)
    assert counting.rows[-1] <= max(standing, 1) or standing == 0


HOPELESS = {  # attack, options, when it gives up, passes of a survivor until then and to the end
    "fab-t": (fab, {"steps": 20, "targets": 3}, 1.5, 31, 121),
    "square": (square, {"queries": 400}, 5.0, 101, 400),
    "apgd-t": (apgd, {"targets": 2}, 10.0, 85, 203),
}


@pytest.mark.parametrize("attack, options, give_up, few, all_", HOPELESS.values(), ids=HOPELESS)
def test_what_is_given_up_would_hardly_have_been_broken(case, attack, options, give_up, few, all_):
    model, x, y = case
    for eps in (0.003, 0.01, 0.03):
        threat = ThreatModel("linf", eps)
        whole, short = (
            attack(model, x, y, threat=threat, generator=generator(), give_up=limit, **options)
            for limit in (None, give_up)
        )
        assert abs(int(wrong(model, whole, y).sum()) - int(wrong(model, short, y).sum())) <= (attack is square)
    for limit, expected in ((None, all_), (give_up, few)):
        counting = Counting(model)
        attack(counting, x, y, threat=ThreatModel("linf", 1e-5), generator=generator(), give_up=limit, **options)
        assert sum(counting.rows) / len(x) == pytest.approx(expected, abs=1)


@attacks
def test_only_what_the_exact_model_confirms_counts(conv_model, images, attack, options):
    """A fast model that is wrong about everything must not end the search, nor be believed."""
    x, y = images[0], conv_model(images[0]).argmax(1)
    liar = Liar(conv_model)
    threat = ThreatModel("linf", 0.1)
    x_adv = attack(Surrogate(liar, conv_model), x, y, threat=threat, generator=generator(), **options)
    plain = attack(conv_model, x, y, threat=threat, generator=generator(), **options)
    assert wrong(conv_model, plain, y).any()
    assert wrong(conv_model, x_adv, y).sum() >= 0.5 * wrong(conv_model, plain, y).sum()


class Liar(nn.Module):
    """The model's logits, but class 3 always wins by a constant: gradients are right, predictions are not."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + torch.tensor([0.0, 0.0, 0.0, 100.0])


DRAWN = {"apgd": (apgd, {"steps": 3}), "square": (square, {"queries": 4, "give_up": 1e-6})}


@pytest.mark.parametrize("attack, options", DRAWN.values(), ids=DRAWN)
def test_more_draws_stop_nothing_early(conv_model, images, attack, options):
    x, y = images
    counting = Counting(conv_model)
    attack(counting, x, y, threat=ThreatModel("linf", 0.5), eot=2, generator=generator(), **options)
    assert counting.rows == [len(x)] * 8  # the start and three steps, or four queries, two draws each
    counting.rows.clear()
    shared = Surrogate(counting, conv_model, rows=2 * len(x))
    attack(shared, x, y, threat=ThreatModel("linf", 0.5), eot=2, generator=generator(), **options)
    assert counting.rows == [2 * len(x)] * 4


class Lucky(nn.Module):
    """Wrong about everything in its first pass, and right from then on until the perturbation is large."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        value = x.flatten(1).mean(1) - 0.6 if self.passes > 1 else torch.full((len(x),), 0.1)
        return torch.stack((-value, value), 1)


def test_square_averages_draws_and_ends_at_the_lowest_mean_margin():
    x, y = torch.full((3, 1, 4, 4), 0.5), torch.zeros(3, dtype=torch.long)
    options = {"threat": ThreatModel("linf", 0.2), "queries": 60}
    stopped = square(Lucky(), x, y, generator=generator(), **options)
    averaged = square(Lucky(), x, y, eot=8, generator=generator(), **options)
    assert (averaged.mean((1, 2, 3)) > 0.6).all()  # fooled whatever is drawn
    assert (stopped.mean((1, 2, 3)) < 0.6).any()


@given(seed=st.integers(0, 10**6), norm=st.sampled_from(NORMS))
@settings(max_examples=30, deadline=None)
def test_the_step_to_a_hyperplane_is_the_smallest(seed, norm):
    """Against a bisection over the size of the step, in float64."""
    g = generator(seed)
    x, normal = (torch.rand(5, 7, generator=g, dtype=torch.float64) for _ in range(2))
    normal -= 0.5
    value = torch.randn(5, generator=g, dtype=torch.float64)
    step = to_hyperplane(x, normal, value, norm=norm, clip=(0.0, 1.0))
    assert ((x + step >= -1e-9) & (x + step <= 1 + 1e-9)).all()
    reached = value + (normal * step).sum(1)
    corner = torch.where(normal * value.sign()[:, None] > 0, -x, 1 - x)
    reachable = (value + (normal * corner).sum(1)) * value.sign() <= 0
    torch.testing.assert_close(reached[reachable], torch.zeros_like(reached[reachable]), atol=1e-8, rtol=0)
    torch.testing.assert_close(step[~reachable], corner[~reachable])
    for i in reachable.nonzero().flatten():
        assert _size(step[i], norm) <= _smallest(x[i], normal[i], value[i], norm) + 1e-6


def _size(step: Tensor, norm: str) -> float:
    return float(step.abs().max() if norm == "linf" else step.norm())


def _smallest(x: Tensor, normal: Tensor, value: Tensor, norm: str) -> float:
    """Size of the smallest step, found by bisection over the multiplier of the constraint."""
    low, high = 0.0, 1e6
    direction = -value.sign() * (normal.sign() if norm == "linf" else normal)
    for _ in range(200):
        middle = (low + high) / 2
        step = (x + middle * direction).clamp(0, 1) - x
        low, high = (middle, high) if (value + normal @ step) * value.sign() > 0 else (low, middle)
    return _size((x + high * direction).clamp(0, 1) - x, norm)


def test_targets_are_the_likeliest_wrong_classes():
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 9.0, 3.0, 2.0]])
    assert likely_targets(logits, torch.tensor([0, 2]), 2).tolist() == [[1, 2], [1, 3]]
    assert likely_targets(logits, torch.tensor([0, 2]), 9).shape == (2, 3)


def test_the_square_shrinks_by_the_published_schedule():
    images = torch.zeros(1, 3, 32, 32)
    sides = [side(0.8, query, images) for query in range(1, 5000)]
    assert sides == sorted(sides, reverse=True)
    assert (sides[0], sides[-1]) == (29, 3)


BAD = {
    "no steps": (apgd, {"steps": 0}, "steps must be a whole number of at least 1; got 0"),
    "no restart": (apgd, {"restarts": 0}, "restarts must be a whole number"),
    "targets": (apgd, {"targets": -1}, "targets must be a whole number of at least 0; got -1"),
    "objective": (apgd, {"objective": "crossentropy"}, "objective"),
    "no targets": (fab, {"targets": 0}, "targets must be a whole number of at least 1; got 0"),
    "no queries": (square, {"queries": 0}, "queries must be a whole number"),
    "no draws": (square, {"eot": 0}, "eot must be a whole number of at least 1; got 0"),
    "share": (square, {"share": 0.0}, r"share must be in \(0, 1\]; got 0.0"),
    "APGD without targets gives up": (apgd, {"give_up": 10.0}, "give_up must be None, or > 0 with targets; got 10.0"),
    "FAB gives up inside the ball": (fab, {"give_up": 0.9}, "give_up must be None or at least 1; got 0.9"),
    "Square gives up at once": (square, {"give_up": 0}, "give_up must be None or > 0; got 0"),
}


@pytest.mark.parametrize("attack, options, message", BAD.values(), ids=BAD)
def test_bad_input(conv_model, images, attack, options, message):
    with pytest.raises(ValueError, match=message):
        attack(conv_model, *images, threat=ThreatModel("linf", 0.1), **options)
