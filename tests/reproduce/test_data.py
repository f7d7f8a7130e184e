"""The circles: where the points lie, and what an ideal classifier can do with them."""

from itertools import product
from math import sqrt

import numpy as np
import pytest
import torch

from art_ext.reproduce.piat_toy import Circles

CIRCLES = Circles(radii=(1.0, 2.5), jitter=0.2, height=0.7)


def test_points_lie_in_their_rings() -> None:
    x, y = CIRCLES.draw(4000, seed=0)
    radius = np.hypot(x[:, 0], x[:, 1])
    assert (x.dtype, y.dtype, x.shape) == (np.float32, np.int64, (4000, 3))
    assert np.abs(radius - np.array(CIRCLES.radii)[y]).max() <= 0.2 + 1e-6
    assert np.abs(x[:, 2]).max() <= 0.7
    assert np.bincount(y).tolist() == [2000, 2000]


def test_the_lift_has_rank_three_and_says_nothing_of_the_class() -> None:
    x, y = CIRCLES.draw(4000, seed=0)
    values = np.linalg.svd(np.cov(x.T.astype(np.float64)))[1]
    assert values.min() > 0.5 * 0.7**2 / 3  # the variance of the height, and no direction without any
    assert np.abs(np.corrcoef(np.column_stack([x, y]).T)[2, [0, 1, 3]]).max() < 0.05


def test_draws_belong_to_their_seed_and_leave_no_trace() -> None:
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    (x, _), (again, _), (other, _) = (CIRCLES.draw(10, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(x, again)
    assert not np.array_equal(x, other)
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("share, whole", [(0.999, True), (1.001, False)], ids=["below", "above"])
def test_the_margin_is_where_the_worst_points_meet(share: float, whole: bool) -> None:
    """The worst points are those of the rings' edges on a diagonal."""
    edges = np.array([1.2, 2.3]) / sqrt(2)
    x = np.stack([edges, edges, np.zeros(2)], axis=1)
    eps = share * CIRCLES.margin
    assert CIRCLES.ideal(x, np.array([0, 1]), eps=eps).tolist() == [whole, whole]
    assert (np.abs(x[0] - x[1]).max() > 2 * eps) == whole  # balls that meet leave no classifier a chance
    if whole:
        assert CIRCLES.ideal(*CIRCLES.draw(4000, seed=0), eps=eps).all()


@pytest.mark.parametrize("eps", [0.4, 0.45, 0.5])
def test_the_ideal_is_what_a_search_of_the_balls_finds(eps: float) -> None:
    x, y = CIRCLES.draw(500, seed=0)
    plane = x[:, :2].astype(np.float64)
    # the places of a box where the distance from the origin can be least or greatest: its ends, and 0 if it is inside
    each = [np.clip(place, plane - eps, plane + eps) for place in (-np.inf, 0.0, np.inf)]
    radii = np.stack([np.hypot(a[:, 0], b[:, 1]) for a, b in product(each, each)])
    searched = np.where(y == 0, radii.max(0) < CIRCLES.middle, radii.min(0) > CIRCLES.middle)
    found = CIRCLES.ideal(x, y, eps=eps)
    assert np.array_equal(found, searched)
    assert 0 < found.mean() < 1


@pytest.mark.parametrize(
    "given, told",
    [
        ({"radii": (2.0, 1.0)}, "radii"),
        ({"radii": (0.0, 1.0)}, "radii"),
        ({"radii": (1.0, np.inf)}, "radii"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": 0.5}, "jitter"),
        ({"height": 0.0}, "height"),
    ],
    ids=["descending", "zero", "infinite", "negative-jitter", "touching", "flat"],
)
def test_circles_that_are_none(given: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Circles(**given)


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="n must be at least 2"):
        Circles().draw(1, seed=0)
