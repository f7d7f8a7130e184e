"""The threat model against closed forms in numpy."""

from math import inf, nan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from art_ext.threat import NORMS, ThreatModel, per_example

SHAPES = {"numbers": (6,), "points": (6, 2), "sequences": (6, 5, 3), "images": (6, 3, 4, 4)}
CLIPS = {"clipped": (0.0, 1.0), "free": None}
EPS_PER_EXAMPLE = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8)
EPS = {"one": 0.2, "per example": torch.tensor(EPS_PER_EXAMPLE)}
ROUNDING = 1e-6  # float32 near 1: some units in the last place

norms = pytest.mark.parametrize("norm", NORMS)
clips = pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
radii = pytest.mark.parametrize("eps", EPS.values(), ids=EPS)
shapes = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=seeded(seed))


def column(eps: object, shape: tuple[int, ...]) -> np.ndarray:
    """ε in float64, broadcast over inputs of that shape."""
    values = np.broadcast_to(np.asarray(eps, dtype=np.float64), shape[:1])
    return values.reshape(-1, *(1,) * (len(shape) - 1))


def sizes(norm: str, delta: np.ndarray) -> np.ndarray:
    rows = delta.reshape(len(delta), -1)
    return np.abs(rows).max(axis=1) if norm == "linf" else np.sqrt((rows**2).sum(axis=1))


def projected(norm: str, eps: object, clip: tuple[float, float] | None, x_adv: Tensor, x: Tensor) -> np.ndarray:
    """The closed form in float64: clamp (ℓ∞) or rescale (ℓ2) the perturbation, then cut to the range."""
    origin, radius = x.double().numpy(), column(eps, tuple(x.shape))
    delta = x_adv.double().numpy() - origin
    if norm == "linf":
        delta = np.clip(delta, -radius, radius)
    else:
        norms_ = sizes("l2", delta).reshape(radius.shape)
        delta = delta * np.minimum(1, radius / np.maximum(norms_, 1e-300))
    return origin + delta if clip is None else np.clip(origin + delta, *clip)


def assert_inside(threat: ThreatModel, x_adv: Tensor, x: Tensor) -> None:
    assert x_adv.isfinite().all()
    radius = torch.as_tensor(threat.eps).expand(len(x))
    assert (threat.distance(x_adv, x) <= radius + ROUNDING).all()
    if threat.clip is not None:
        assert torch.equal(x_adv, x_adv.clamp(*threat.clip))


# Projection


@shapes
@norms
@clips
@radii
def test_projection_is_the_closed_form(shape, norm, clip, eps):
    threat, x = ThreatModel(norm, eps, clip), uniform(shape)
    x_adv = x + torch.randn(shape, generator=seeded(1))
    kept = x_adv.clone(), x.clone()
    result = threat.project(x_adv, x)
    np.testing.assert_allclose(result.numpy(), projected(norm, eps, clip, x_adv, x), atol=ROUNDING)
    assert torch.equal(x_adv, kept[0])
    assert torch.equal(x, kept[1])
    assert_inside(threat, result, x)
    torch.testing.assert_close(threat.project(result, x), result, rtol=0, atol=ROUNDING)


@norms
@clips
def test_a_point_inside_stays(norm, clip):
    threat, x = ThreatModel(norm, 1.0, clip), uniform((4, 3)) / 2
    inside = x + 0.1
    torch.testing.assert_close(threat.project(inside, x), inside, rtol=0, atol=ROUNDING)
    torch.testing.assert_close(threat.project(x, x), x, rtol=0, atol=0)


@norms
def test_projection_in_place_writes_into_its_argument(norm):
    threat, x = ThreatModel(norm, 0.1), uniform((4, 3))
    x_adv = x + 1
    expected = threat.project(x_adv, x)
    assert threat.project_(x_adv, x, threat.bounds(x)) is x_adv
    assert torch.equal(x_adv, expected)


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(np.float32, hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), elements=st.floats(0, 1, width=32)),
    norm=st.sampled_from(NORMS),
    clip=st.sampled_from(list(CLIPS.values())),
    eps=st.floats(1e-3, 2),
    scale=st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e6]),
)
def test_projection_of_anything(x, norm, clip, eps, scale):
    threat, origin = ThreatModel(norm, eps, clip), torch.from_numpy(x)
    x_adv = origin + scale * torch.randn(origin.shape, generator=seeded())
    result = threat.project(x_adv, origin)
    assert result.shape == origin.shape
    # the projected perturbation is a difference of float32 numbers as large as ε, whatever the size before
    np.testing.assert_allclose(result.numpy(), projected(norm, eps, clip, x_adv, origin), atol=3 * ROUNDING)
    assert (threat.distance(result, origin) <= eps + 3 * ROUNDING).all()


@shapes
@clips
def test_bounds(shape, clip):
    x = uniform(shape)
    low, high = ThreatModel("linf", 0.2, clip).bounds(x)
    floor, ceiling = clip or (-inf, inf)
    assert torch.equal(low, (x - 0.2).clamp(min=floor))
    assert torch.equal(high, (x + 0.2).clamp(max=ceiling))
    if clip is None:
        assert ThreatModel("l2", 0.2, clip).bounds(x) is None
    else:  # the range alone: an ℓ2 ball bounds no single element more tightly than its norm does
        low, high = ThreatModel("l2", 0.2, clip).bounds(x)
        assert (low == clip[0]).all()
        assert (high == clip[1]).all()


# Random start


@shapes
@norms
@clips
@radii
def test_random_start_is_inside_fresh_and_reproducible(shape, norm, clip, eps):
    threat, x = ThreatModel(norm, eps, clip), uniform(shape)
    kept, state, generator = x.clone(), torch.get_rng_state(), seeded(3)
    first, second = threat.random_start(x, generator), threat.random_start(x, generator)
    assert first.shape == x.shape
    for start in (first, second):
        assert_inside(threat, start, x)
    assert not torch.equal(first, second)
    assert torch.equal(first, threat.random_start(x, seeded(3)))
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


@norms
def test_random_start_without_a_generator_draws_from_the_global_one(norm):
    threat, x = ThreatModel(norm, 0.1), uniform((4, 3))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        first, second = threat.random_start(x), threat.random_start(x)
        torch.manual_seed(5)
        again = threat.random_start(x)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dimensions", [1, 2, 12])
@norms
def test_random_start_is_uniform_in_volume(norm, dimensions):
    """The share within radius r of a d-dimensional ball of radius ε is (r/ε)^d, and no direction is preferred."""
    n, eps = 20_000, 0.5
    x = torch.zeros(n, dimensions)
    threat = ThreatModel(norm, eps, clip=None)
    delta = threat.random_start(x, seeded())
    five_sigma = 5 * sqrt(0.25 / n)  # of a share, at its widest
    for r in (0.5, 0.8, 0.95):
        share = (threat.distance(delta, x) <= r * eps).double().mean().item()
        assert share == pytest.approx(r**dimensions, abs=five_sigma)
    assert (delta > 0).double().mean(0).numpy() == pytest.approx(0.5, abs=five_sigma)


@norms
def test_channels_last_is_kept(norm):
    threat, x = ThreatModel(norm, 0.1), uniform((4, 3, 8, 8)).to(memory_format=torch.channels_last)
    for result in (threat.random_start(x, seeded()), threat.project(x + 1, x), threat.steepest(x)):
        assert result.is_contiguous(memory_format=torch.channels_last)


@norms
def test_float64_stays(norm):
    threat, x = ThreatModel(norm, 0.1), uniform((4, 3)).double()
    for result in (threat.random_start(x, seeded()), threat.project(x + 1, x), threat.steepest(x)):
        assert result.dtype == torch.float64


@pytest.mark.parametrize("call", ["project", "random_start", "distance", "steepest", "bounds"])
@norms
def test_no_examples(norm, call):
    threat, x = ThreatModel(norm, 0.1), torch.zeros(0, 3, 4, 4)
    arguments = {"project": (x, x), "distance": (x, x)}.get(call, (x,))
    result = getattr(threat, call)(*arguments)
    assert all(len(part) == 0 for part in result)


# Steps and distances


@shapes
def test_steepest_step_raises_a_linear_function_most(shape):
    grad = torch.randn(shape, generator=seeded())
    rows = grad.double().numpy().reshape(len(grad), -1)
    dual = {"linf": np.abs(rows).sum(1), "l2": np.sqrt((rows**2).sum(1))}  # Hölder: the most a unit step can raise it
    for norm in NORMS:
        threat = ThreatModel(norm, 0.1)
        step = threat.steepest(grad)
        raised = (step * grad).double().reshape(len(grad), -1).sum(1).numpy()
        np.testing.assert_allclose(raised, dual[norm], rtol=1e-5)
        np.testing.assert_allclose(threat.distance(step, torch.zeros(shape)), 1, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
@norms
def test_the_step_has_length_one_however_small_the_gradient(norm, scale):
    """A confident model's gradients are tiny; an attack that then takes smaller steps is weaker for no reason."""
    step = ThreatModel(norm, 0.1).steepest(scale * torch.randn(4, 3, generator=seeded()))
    np.testing.assert_allclose(ThreatModel(norm, 0.1).distance(step, torch.zeros(4, 3)), 1, rtol=1e-5)


@norms
def test_no_gradient_no_step(norm):
    assert torch.equal(ThreatModel(norm, 0.1).steepest(torch.zeros(2, 3)), torch.zeros(2, 3))


@shapes
@norms
def test_distance(shape, norm):
    x, x_adv = uniform(shape), uniform(shape, seed=1)
    expected = sizes(norm, (x_adv.double() - x.double()).numpy())
    distance = ThreatModel(norm, 0.1).distance(x_adv, x)
    assert distance.shape == shape[:1]
    np.testing.assert_allclose(distance, expected, rtol=1e-6)


# Construction


SPELLINGS = {
    "linf": ("linf", "Linf", "inf", "l_inf", "ℓ∞", "l∞", inf, np.inf),
    "l2": ("l2", "L2", "l_2", "ℓ2", "2", 2, 2.0),
}


@pytest.mark.parametrize("norm, spelling", [(n, s) for n, spellings in SPELLINGS.items() for s in spellings], ids=repr)
def test_spellings_of_a_norm(norm, spelling):
    assert ThreatModel(spelling, 0.1).norm == norm


SAME_EPS = {
    "float": 0.25,
    "numpy number": np.float32(0.25),
    "numpy scalar": np.array(0.25),
    "tensor scalar": torch.tensor(0.25),
}


@pytest.mark.parametrize("eps", SAME_EPS.values(), ids=SAME_EPS)
def test_one_radius_is_a_float(eps):
    threat = ThreatModel("linf", eps)
    assert isinstance(threat.eps, float)
    assert threat.eps == 0.25
    assert str(threat) == "ℓ∞ ε=0.25"


VECTORS = {
    "list": list(EPS_PER_EXAMPLE),
    "tuple": EPS_PER_EXAMPLE,
    "array": np.array(EPS_PER_EXAMPLE),
    "tensor": torch.tensor(EPS_PER_EXAMPLE),
}


@pytest.mark.parametrize("eps", VECTORS.values(), ids=VECTORS)
def test_radii_per_example_are_a_float32_vector(eps):
    threat = ThreatModel("l2", eps)
    assert torch.equal(threat.eps, torch.tensor(EPS_PER_EXAMPLE))
    assert threat.radius(uniform((6, 3, 4, 4))).shape == (6, 1, 1, 1)
    assert str(threat) == "ℓ2 ε per example"


def test_select_and_with_eps():
    threat = ThreatModel("l2", EPS_PER_EXAMPLE, clip=(-1, 2))
    mask = torch.tensor([True, False, False, True, False, True])
    for index in (mask, mask.nonzero().squeeze(1)):
        chosen = threat.select(index)
        assert (chosen.norm, chosen.clip) == ("l2", (-1.0, 2.0))
        assert torch.equal(chosen.eps, torch.tensor(EPS_PER_EXAMPLE)[mask])
    wider = threat.with_eps(0.5)
    assert (wider.norm, wider.eps, wider.clip) == ("l2", 0.5, (-1.0, 2.0))
    assert wider.select(mask) is wider


@shapes
def test_per_example_gives_each_example_its_own_value(shape):
    values = torch.arange(6.0)
    expected = torch.stack([torch.full(shape[1:], v) for v in values.tolist()])
    assert torch.equal(per_example(values, torch.zeros(shape)).expand(shape), expected)


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        ThreatModel("linf", 0.1).eps = 0.2  # type: ignore[misc]


BAD = {
    "unknown norm": (("l1", 0.1), "norm must be one of linf, l2; got 'l1'"),
    "norm of a number": ((1, 0.1), "norm must be one of linf, l2; got 1"),
    "eps zero": (("linf", 0.0), r"eps must be > 0 and finite \(on the scale of the inputs, e.g. 8/255\); got 0.0"),
    "eps negative": (("l2", -1.0), "eps must be > 0"),
    "eps NaN": (("linf", nan), "eps must be > 0"),
    "eps infinite": (("linf", inf), "eps must be > 0 and finite"),
    "eps scalar tensor": (("linf", torch.tensor(-1.0)), "eps must be > 0"),
    "one eps zero": (("linf", [0.1, 0.0]), "eps per example must be a vector of positive, finite numbers"),
    "one eps NaN": (("linf", [0.1, nan]), "eps per example must be a vector of positive, finite numbers"),
    "one eps infinite": (("linf", [0.1, inf]), "eps per example must be a vector of positive, finite numbers"),
    "eps a matrix": (("linf", torch.ones(2, 2)), "eps per example must be a vector"),
    "clip empty": (("linf", 0.1, (1, 1)), r"clip must be \(low, high\) with low < high, or None; got \(1, 1\)"),
    "clip reversed": (("linf", 0.1, (1, 0)), "clip must be"),
    "clip NaN": (("linf", 0.1, (0, nan)), "clip must be"),
}


@pytest.mark.parametrize("arguments, message", BAD.values(), ids=BAD)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        ThreatModel(*arguments)


@pytest.mark.parametrize("call", ["project", "random_start", "bounds", "radius"])
def test_radii_for_another_number_of_examples(call):
    threat, x = ThreatModel("linf", [0.1, 0.2]), uniform((3, 2))
    with pytest.raises(ValueError, match="eps has 2 values for 3 examples; give one number or one per example"):
        getattr(threat, call)(*((x, x) if call == "project" else (x,)))
