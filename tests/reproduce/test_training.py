"""Trainings on the toy problem: what is kept of them, and that they are the existing trainers'."""

import numpy as np
import pytest
import torch

from art_ext.averaging import interpolation_weight
from art_ext.reproduce.piat_toy import Method, Settings
from art_ext.reproduce.piat_toy.settings import METHODS, MOST_SEEDS, MU
from art_ext.reproduce.piat_toy.training import Weights, points, train, with_weights


def same(a: Weights, b: Weights) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("weight", [0.0, 0.5, None], ids=["none", "fixed", "dynamic"])
def test_kept_weights_are_the_interpolation(weight: float | None, small: Settings) -> None:
    album = train(Method(0.0, weight), 0, small).album
    assert len(album.kept) == len(album.trained) == small.epochs + 1
    for epoch in range(small.epochs):
        share = interpolation_weight(epoch) if weight is None else weight
        for name, kept in album.kept[epoch + 1].items():
            wanted = share * album.kept[epoch][name] + (1 - share) * album.trained[epoch + 1][name]
            torch.testing.assert_close(kept, wanted)
    assert same(album.kept[-1], album.trained[-1]) == (weight == 0)


def test_training_ends_with_what_is_kept_and_repeats(small: Settings) -> None:
    before = torch.get_rng_state()
    first, again = (train(METHODS["PIAT+NMSE"], 1, small) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert same(dict(first.network.state_dict()), first.album.kept[-1])
    assert same(first.album.kept[-1], again.album.kept[-1])
    assert not first.network.training
    assert first.seconds > 0


def test_methods_share_what_a_seed_draws_and_nothing_else(small: Settings) -> None:
    found = {name: train(method, 0, small).album for name, method in METHODS.items()}
    first = found["PGD-AT"]
    assert all(same(album.kept[0], first.kept[0]) for album in found.values())
    assert same(found["PIAT"].trained[1], first.trained[1])  # the first epoch is the same training
    ends = [album.kept[-1] for album in found.values()]
    assert not any(same(a, b) for i, a in enumerate(ends) for b in ends[:i])
    assert not same(train(METHODS["PGD-AT"], 1, small).album.kept[0], first.kept[0])


def test_splits_and_seeds_have_points_of_their_own(small: Settings) -> None:
    train_0, test_0, train_1 = (
        points(small, seed, split)[0] for seed, split in ((0, "train"), (0, "test"), (1, "train"))
    )
    assert (len(train_0), len(test_0)) == (small.train, small.test)
    assert not np.intersect1d(train_0, test_0).size
    assert not np.intersect1d(train_0, train_1).size


def test_other_weights_are_put_into_a_copy(small: Settings) -> None:
    trained = train(METHODS["PGD-AT"], 0, small)
    other = with_weights(trained.network, trained.album.kept[0])
    assert same(dict(other.state_dict()), trained.album.kept[0])
    assert same(dict(trained.network.state_dict()), trained.album.kept[-1])


def test_the_plan_has_every_training_once() -> None:
    settings = Settings(seeds=4)
    plan = settings.plan()
    assert len(set(plan)) == len(plan)
    assert {seed for method, seed in plan if method in METHODS.values()} == {0, 1, 2, 3}
    assert {seed for method, seed in plan if method == Method(MU, 0.9)} == {0, 1}
    assert {m for m, _ in plan} == {*METHODS.values(), *settings.swept_weights.values(), *settings.swept_mus.values()}


@pytest.mark.parametrize(
    "method, name",
    [(METHODS["NMSE"], "NMSE"), (Method(MU, 0.25), "μ=4, λ = 0.25"), (Method(1.0, None), "μ=1, λ dynamic")],
)
def test_methods_have_names(method: Method, name: str) -> None:
    assert str(method) == name


@pytest.mark.parametrize("seeds", [0, 1, MOST_SEEDS + 1])
def test_seeds_that_nothing_can_be_said_of(seeds: int) -> None:
    with pytest.raises(ValueError, match=f"seeds must be a whole number from 2 to {MOST_SEEDS}; got {seeds}"):
        Settings(seeds=seeds)
