"""Landscapes against planes: around a linear model every value is known."""

from dataclasses import replace
from math import nan, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation.cost import counting
from art_ext.evaluation.figures import Landscape, figure_of, input_landscape, parameter_landscape
from art_ext.evaluation.figures.landscapes import filter_normalised
from art_ext.threat import NORMS, ThreatModel

EPS = 0.1
PLANE = Landscape(
    title="margin", x_label="a", y_label="b", z_label="$", x=(-1, 0, 1), y=(-1, 1), values=((-1, 0, 1), (0, 1, 2))
)


class Watch(nn.Module):
    """Keeps what comes in."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.body(x)


def margins(linear) -> np.ndarray:
    """Wrong logit minus the true one, in float64."""
    return -linear.worst_margins(ThreatModel("linf", 1e-12, clip=None))


def slope(linear, norm: str) -> float:
    """By what the margin grows over a length of ε in the steepest direction."""
    weight = linear.net[1].weight.detach().double().numpy()
    return EPS * np.linalg.norm(weight[1] - weight[0], ord=1 if norm == "linf" else 2)


# Around inputs


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("directions", ["steepest+random", "adversarial+random"])
def test_around_inputs_of_a_linear_model_is_a_plane(linear, norm, directions):
    threat = ThreatModel(norm, EPS, clip=None)
    plane = input_landscape(
        linear.net, linear.x, linear.y, threat=threat, steps=5, directions=directions, objective="margin", batch_size=25
    )
    values, near = np.array(plane.values), 1e-5 if directions.startswith("steepest") else 1e-3  # PGD is not quite there
    assert plane.x == plane.y == (-2, -1, 0, 1, 2)
    middle = margins(linear).mean() + slope(linear, norm) * np.array(plane.x)
    np.testing.assert_allclose(values[2], middle, rtol=0, atol=near)
    across = np.diff(values, axis=0)
    np.testing.assert_allclose(across, across[0, 0], rtol=0, atol=1e-5)
    if norm == "l2":
        np.testing.assert_allclose(across, 0, rtol=0, atol=3 * near)  # at right angles to the gradient
    else:
        assert abs(across[0, 0]) > 1e-3


@pytest.mark.parametrize("norm", NORMS)
def test_around_inputs_directions_have_the_length_of_eps(linear, norm):
    watch = Watch(linear.net)
    n, eps = len(linear.x), torch.linspace(0.01, 0.2, len(linear.x))
    threat = ThreatModel(norm, eps, clip=None)
    input_landscape(watch, linear.x, linear.y, threat=threat, steps=3, directions="random+random", seed=1)
    corners = torch.stack(watch.seen[-9:]).view(3, 3, n, -1) - torch.from_numpy(linear.x).view(n, -1)
    one, two = corners[1, 2] / 2, corners[2, 1] / 2
    for direction in (one, two):
        torch.testing.assert_close(threat.distance(direction, 0 * direction), eps, rtol=0, atol=1e-5)
    torch.testing.assert_close(corners[2, 0], 2 * two - 2 * one, rtol=0, atol=1e-5)
    cosine = nn.functional.cosine_similarity(one, two)
    if norm == "l2":
        assert cosine.abs().max() < 1e-3
    else:
        torch.testing.assert_close(one.abs(), eps[:, None].expand_as(one), rtol=0, atol=1e-5)
        assert 0.01 < cosine.abs().max() < 0.9
    assert (one[0] / eps[0] - one[1] / eps[1]).abs().max() > 0.1, "every image has directions of its own"


def test_around_inputs_stays_in_the_valid_range_and_counts(linear):
    watch = Watch(linear.net)
    with counting(watch) as cost:
        input_landscape(watch, linear.x, linear.y, threat=ThreatModel("linf", 0.3), steps=3, directions="random+random")
    assert min(float(x.min()) for x in watch.seen) == 0
    assert max(float(x.max()) for x in watch.seen) == 1
    assert (cost.forwards, cost.backwards) == (2 * 8 + 9 * 60, 0)


def test_around_inputs_the_middle_is_the_clean_loss(conv_model, images):
    x, y = images
    with torch.no_grad():
        expected = nn.functional.cross_entropy(conv_model(x).double(), y).item()
    plane = input_landscape(conv_model, x.numpy(), y.numpy(), threat=ThreatModel("linf", EPS), steps=3)
    assert plane.values[1][1] == pytest.approx(expected, abs=1e-5)
    assert plane.values[1][2] > expected > plane.values[1][0], "the first direction is adversarial"
    assert plane.note == "mean of 16 images; ℓ∞ ε=0.1; seed 0"


@pytest.mark.parametrize("norm", NORMS)
def test_around_inputs_the_outline_is_where_the_ball_ends(linear, norm):
    watch, threat = Watch(linear.net), ThreatModel(norm, EPS, clip=None)
    plane = input_landscape(watch, linear.x, linear.y, threat=threat, steps=3, directions="random+random")
    x = torch.from_numpy(linear.x)
    one, two = (watch.seen[-9:][i] - x for i in (5, 7))
    for p, q in plane.outline:
        distance = threat.distance((p * one + q * two) / 2, torch.zeros_like(x))
        torch.testing.assert_close(distance, torch.full_like(distance, EPS), rtol=0, atol=1e-5)


# Around weights


def test_around_weights_of_a_linear_model_is_a_plane(linear):
    plane = parameter_landscape(linear.net, linear.x, linear.y, span=0.5, steps=5, objective="margin", batch_size=25)
    values = np.array(plane.values)
    assert plane.x == (-0.5, -0.25, 0.0, 0.25, 0.5)
    assert values[2, 2] == pytest.approx(margins(linear).mean(), abs=1e-5)
    for axis in (0, 1):
        np.testing.assert_allclose(np.diff(values, n=2, axis=axis), 0, atol=1e-5)
        assert np.abs(np.diff(values, axis=axis)).min() > 1e-3


def test_around_weights_does_not_depend_on_their_scale(images):
    """Li et al.'s reason for filter normalisation: layers of a ReLU network may trade their scale."""
    x, y = (t.numpy() for t in images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16, bias=False), nn.ReLU(), nn.Linear(16, 4, bias=False))
    one = parameter_landscape(net, x, y, steps=3)
    with torch.no_grad():
        net[1].weight.mul_(8)
        net[3].weight.div_(8)
    two = parameter_landscape(net, x, y, steps=3)
    np.testing.assert_allclose(two.values, one.values, rtol=1e-5)
    assert np.ptp(one.values) > 0.01


@pytest.mark.parametrize("shape", [(5, 7), (4, 3, 2, 2)], ids=["linear", "convolution"])
def test_filters_of_a_direction_are_as_long_as_those_of_the_weight(shape):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(shape, generator=generator)
    weight[1] = 0
    direction = filter_normalised(weight, generator)
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1))
    assert nn.functional.cosine_similarity(direction.flatten(1), weight.flatten(1)).abs().max() < 0.95


class Failing(nn.Module):
    """Raises at the ``after``-th pass."""

    def __init__(self, body: nn.Module, after: float) -> None:
        super().__init__()
        self.body, self.left = body, after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError("no more")
        return self.body(x)


@pytest.mark.parametrize("after", [1000, 7], ids=["to its end", "after an exception"])
@pytest.mark.parametrize("function", [input_landscape, parameter_landscape])
def test_the_model_is_as_before(conv_model, images, function, after):
    model = Failing(conv_model, after).train()
    model.body[1].eval()
    model.body[0].bias.requires_grad_(False)
    parameters = {n: (p, p.clone(), p.data_ptr(), p.requires_grad) for n, p in model.named_parameters()}
    buffers = {n: b.clone() for n, b in model.named_buffers()}
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    more = {"threat": ThreatModel("l2", EPS)} if function is input_landscape else {}
    if after > 100:
        function(model, images[0].numpy(), images[1].numpy(), steps=3, **more)
    else:
        with pytest.raises(ArithmeticError):
            function(model, images[0].numpy(), images[1].numpy(), steps=3, **more)
    for n, p in model.named_parameters():
        same, value, place, trainable = parameters[n]
        assert p is same
        assert torch.equal(p, value)
        assert (p.data_ptr(), p.requires_grad, p.grad) == (place, trainable, None)
    assert all(torch.equal(b, buffers[n]) for n, b in model.named_buffers())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("function", [input_landscape, parameter_landscape])
def test_the_seed_decides(linear, function):
    more = {"threat": ThreatModel("linf", EPS)} if function is input_landscape else {}
    planes = [function(linear.net, linear.x, linear.y, steps=3, seed=s, **more) for s in (0, 0, 1)]
    assert planes[0] == planes[1]
    assert planes[0].values != planes[2].values


THREAT = {"threat": ThreatModel("linf", EPS)}
BAD = {
    "even": (input_landscape, {"steps": 4} | THREAT, "steps must be an odd whole number of at least 3; got 4"),
    "one step": (parameter_landscape, {"steps": 1}, "steps must be an odd whole number of at least 3; got 1"),
    "half a step": (parameter_landscape, {"steps": 3.0}, "steps must be an odd whole number"),
    "span": (parameter_landscape, {"span": 0.0}, "span must be > 0 and finite; got 0.0"),
    "directions": (input_landscape, {"directions": "random"} | THREAT, "unknown directions 'random'; did you mean"),
    "objective": (parameter_landscape, {"objective": "dlr"}, "unknown objective 'dlr'.* known: ce, margin"),
    "seed": (parameter_landscape, {"seed": -1}, "seed must be a whole number of at least 0"),
    "threat": (input_landscape, {"threat": 0.1}, "threat must be a ThreatModel"),
}


@pytest.mark.parametrize("function, options, message", BAD.values(), ids=BAD)
def test_bad_options_before_any_work(linear, function, options, message):
    with counting(linear.net) as cost, pytest.raises((TypeError, ValueError), match=message):
        function(linear.net, linear.x, linear.y, **options)
    assert cost.forwards == 0


def test_a_network_without_weights_has_no_landscape_of_them():
    with pytest.raises(ValueError, match="weights of at least two dimensions"):
        parameter_landscape(nn.Identity(), np.zeros((2, 3), np.float32), np.array([0, 1]))


# The value, and its picture


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y": (0,)}, r"values must be rows for each y of numbers for each x, \(1, 3\), ≥ 2; got rows of \[3, 3\]"),
        ({"values": ((0, 1), (2, 3))}, r"got rows of \[2, 2\]"),
        ({"y": (0,), "values": ((0, 1, 2),)}, "≥ 2"),
        ({"values": ((0, 1, nan), (2, 3, 4))}, "values must be finite"),
    ],
    ids=["rows", "columns", "a line", "NaN"],
)
def test_landscape_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(PLANE, **changes)


def test_contour_has_the_point_the_outline_and_the_zero():
    circle = ((sqrt(0.5), 0.0), (0.0, 0.5), (-0.5, 0.0))
    figure = replace(PLANE, outline=circle).figure()
    axes, bar = figure.axes
    outline, point = axes.lines
    assert outline.get_xydata().tolist() == [list(p) for p in (*circle, circle[0])]
    assert point.get_xydata().tolist() == [[0, 0]]
    filled, zero = axes.collections
    assert zero.levels.tolist() == [0]
    assert filled.get_array().min() < 0 < filled.get_array().max()
    assert bar.get_ylabel() == r"\$"


def test_contour_without_a_change_of_sign_has_no_zero():
    positive = replace(PLANE, values=((1, 2, 3), (2, 3, 4)))
    assert len(positive.figure().axes[0].collections) == 1


def test_surface():
    (axes,) = PLANE.figure("surface").axes
    assert axes.get_zlabel() == r"\$"
    (surface,) = axes.collections
    assert surface.get_array().size == 2


@pytest.mark.parametrize(
    "kind, message", [("surface", "axes must have projection='3d'"), ("heat", "kind must be 'contour' or 'surface'")]
)
def test_kinds_that_cannot_be_drawn(kind, message):
    with pytest.raises(ValueError, match=message):
        figure_of(lambda axes: PLANE.draw(axes, kind))
