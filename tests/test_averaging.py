"""Averagings against closed forms in numpy and float64, over several epochs of weights that move."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.averaging import (
    AVERAGINGS,
    BUFFER_MODES,
    EMA,
    FAWA,
    SWA,
    Averaging,
    ParameterInterpolation,
    copy_weights,
    cumulative_batchnorm,
    get_averaging,
    interpolation_weight,
    snapshot,
)

EPOCHS = 6
State = dict[str, np.ndarray]


def nothing(_: nn.Module) -> None:
    """A recalibration for those who must not need one."""


@pytest.fixture
def network() -> nn.Module:
    """In float64: parameters, one of them shared, one frozen; floating-point and whole-number buffers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        net[2].weight = net[0].weight
        net[2].bias.requires_grad_(False)
        return net.double()


def state_of(network: nn.Module) -> State:
    """Independent copies as numpy arrays: float64, and whole numbers."""
    return {k: v.clone().numpy() for k, v in network.state_dict().items()}


def train(network: nn.Module, epoch: int) -> None:
    """An epoch of training: every tensor moves, counters count."""
    generator = torch.Generator().manual_seed(epoch)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator))
            else:
                tensor.add_(10)


def assert_state(network: nn.Module, expected: State) -> None:
    for key, value in state_of(network).items():
        np.testing.assert_allclose(value, expected[key], rtol=1e-9, err_msg=key)


def mix(old: State, new: State, weight: float) -> State:
    """weight · old + (1 − weight) · new; whole numbers are the new ones."""
    return {k: v if v.dtype == np.int64 else weight * old[k] + (1 - weight) * v for k, v in new.items()}


# λ

LAMBDAS = {0: 0.10, 1: 0.18, 5: 0.40, 10: 0.55, 50: 0.85, 100: 0.918, 119: 0.930}  # the method's own table


@pytest.mark.parametrize("epoch, value", LAMBDAS.items())
def test_interpolation_weight(epoch, value):
    digits = 3 if epoch >= 100 else 2
    assert round(interpolation_weight(epoch), digits) == value


def test_interpolation_weight_grows_to_its_cap():
    weights = [interpolation_weight(n) for n in range(2000)]
    assert weights == sorted(weights)
    assert max(weights) == 0.99 == interpolation_weight(10**6)
    assert interpolation_weight(10**6, cap=0.5) == 0.5


def test_interpolation_weight_with_other_parameters():
    assert interpolation_weight(3, a=2, b=7, cap=1) == 5 / 10


# Parameter interpolation

SCHEDULES: dict[str, tuple[float | Callable[[int], float] | None, Callable[[int], float]]] = {
    "dynamic": (None, lambda n: min(0.99, (n + 1) / (n + 10))),
    "fixed": (0.7, lambda n: 0.7),
    "whole number": (1, lambda n: 1.0),
    "callable": (lambda n: n / 10, lambda n: n / 10),
}


@pytest.mark.parametrize("schedule, weight", SCHEDULES.values(), ids=SCHEDULES)
def test_interpolation_is_the_closed_form(network, schedule, weight):
    """θ'_n = λ_n·θ'_{n−1} + (1 − λ_n)·θ_n, and epoch n + 1 trains on from θ'_n."""
    piat, previous = ParameterInterpolation(schedule), state_of(network)
    piat.start(network)
    for n in range(EPOCHS):
        train(network, n)
        expected = mix(previous, state_of(network), weight(n))
        assert piat.after_epoch(n, EPOCHS, nothing) == {"interpolation": pytest.approx(weight(n), abs=1e-15)}
        assert_state(network, expected)
        previous = expected
    assert piat.averaged() is network
    assert piat.feeds_back


def test_all_epochs_at_once(network):
    """Unrolled: θ' is the initial network and the epochs' increments, each shrunk by what comes after it."""
    start, piat, lam = state_of(network)["0.bias"], ParameterInterpolation(), [0.1, 2 / 11, 3 / 12]
    piat.start(network)
    expected = start.copy()
    for n in range(3):
        train(network, n)
        increment = state_of(network)["0.bias"] - expected
        piat.after_epoch(n, 3, nothing)
        expected = expected + (1 - lam[n]) * increment
    np.testing.assert_allclose(state_of(network)["0.bias"], expected, rtol=1e-9)


@pytest.mark.parametrize("buffers", BUFFER_MODES)
def test_lambda_zero_is_exactly_plain_training(network, buffers):
    plain, piat = copy.deepcopy(network), ParameterInterpolation(0.0, buffers=buffers)
    piat.start(network)
    for n in range(EPOCHS):
        train(network, n)
        train(plain, n)
        piat.after_epoch(n, EPOCHS, nothing)
        assert all(torch.equal(v, plain.state_dict()[k]) for k, v in network.state_dict().items())


def test_lambda_one_keeps_the_given_weights_exactly(network):
    given, piat = snapshot(network), ParameterInterpolation(1.0)
    piat.start(network)
    for n in range(EPOCHS):
        train(network, n)
        piat.after_epoch(n, EPOCHS, nothing)
    for key, value in network.state_dict().items():
        if value.is_floating_point():
            assert torch.equal(value, given[key])
        else:
            assert value == given[key] + 10 * EPOCHS


def test_tensors_stay_the_same_objects(network):
    """Optimizers hold them."""
    piat, tensors = ParameterInterpolation(), [*network.parameters(), *network.buffers()]
    flags = [p.requires_grad for p in network.parameters()]
    piat.start(network)
    train(network, 0)
    piat.after_epoch(0, EPOCHS, nothing)
    assert all(a is b for a, b in zip(tensors, (*network.parameters(), *network.buffers()), strict=True))
    assert [p.requires_grad for p in network.parameters()] == flags
    assert network[2].weight is network[0].weight


def test_starting_again_forgets_the_first_network(network):
    piat, other = ParameterInterpolation(0.5), nn.Linear(1, 1)
    piat.start(other)
    before = state_of(network)
    piat.start(network)
    train(network, 0)
    expected = mix(before, state_of(network), 0.5)
    piat.after_epoch(0, EPOCHS, nothing)
    assert_state(network, expected)


def batchnorm_state(state: State) -> State:
    return {k: v for k, v in state.items() if "running" in k or "num_batches" in k}


@pytest.mark.parametrize("mode", BUFFER_MODES)
def test_modes_of_the_buffers(network, mode):
    before, calls = state_of(network), []

    def recalibrate(net: nn.Module) -> None:
        assert_parameters(state_of(net))
        calls.append(net)
        net[1].running_mean.fill_(42.0)

    def assert_parameters(state: State) -> None:
        """They are interpolated whatever becomes of the buffers, and before statistics are taken with them."""
        for key in state.keys() - batchnorm_state(state).keys():
            np.testing.assert_allclose(state[key], mix(before, trained, 0.25)[key], rtol=1e-9)

    piat = ParameterInterpolation(0.25, buffers=mode)
    piat.start(network)
    train(network, 0)
    trained = state_of(network)
    piat.after_epoch(0, 1, recalibrate)
    state = state_of(network)
    assert_parameters(state)
    expected = batchnorm_state(mix(before, trained, 0.25) if mode == "interpolate" else trained)
    if mode == "recalibrate":
        expected["1.running_mean"] = np.full(3, 42.0)
    assert calls == ([network] if mode == "recalibrate" else [])
    for key, value in expected.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-9, err_msg=key)
    assert state["1.num_batches_tracked"] == 10


def test_a_bad_lambda_changes_nothing(network):
    piat = ParameterInterpolation(lambda n: 1.5)
    piat.start(network)
    train(network, 0)
    before = state_of(network)
    with pytest.raises(ValueError, match=r"the interpolation weight λ must be in \[0, 1\]; got 1.5"):
        piat.after_epoch(0, EPOCHS, nothing)
    assert_state(network, before)


# EMA


@pytest.mark.parametrize("warm_up", [True, False], ids=["warm-up", "no warm-up"])
@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_ema_is_the_closed_form(network, decay, warm_up):
    """a_t = d_t·a_{t−1} + (1 − d_t)·θ_t with a_0 the given weights; d_t = min(d, (1 + t)/(10 + t)) while warming up."""
    ema, average = EMA(decay, warm_up=warm_up), state_of(network)
    ema.start(network)
    assert_state(ema.averaged(), average)
    for t in range(1, 20):
        train(network, t)
        trained = state_of(network)
        ema.after_step()
        average = mix(average, trained, min(decay, (1 + t) / (10 + t)) if warm_up else decay)
        assert_state(ema.averaged(), average)
        assert_state(network, trained)
    assert not ema.feeds_back


def test_ema_by_default_follows_a_short_run():
    """Twenty steps with a decay of 0.999 would leave 98 % of the initial weights in the average."""
    network, ema = nn.Linear(1, 1, bias=False), EMA()
    assert ema.decay == 0.999
    with torch.no_grad():
        network.weight.fill_(0.0)
        ema.start(network)
        network.weight.fill_(1.0)
    for _ in range(20):
        ema.after_step()
    assert ema.averaged().weight.item() > 0.99


def test_ema_starting_again_forgets(network):
    ema, other = EMA(0.5), copy.deepcopy(network)
    ema.start(other)
    for t in range(5):
        train(other, t)
        ema.after_step()
    ema.start(network)
    before = state_of(network)
    assert_state(ema.averaged(), before)
    train(network, 0)
    ema.after_step()
    assert_state(ema.averaged(), mix(before, state_of(network), 2 / 11))


def test_shadows_are_not_aliased(network):
    """A network's buffers and parameters must not be those of its average."""
    for averaging in (EMA(), SWA(start_at=0.0)):
        averaging.start(network)
        averaging.after_epoch(0, 1, nothing)
        mine = {t.data_ptr() for t in (*network.parameters(), *network.buffers())}
        theirs = {t.data_ptr() for t in (*averaging.averaged().parameters(), *averaging.averaged().buffers())}
        assert not mine & theirs


# SWA


@pytest.mark.parametrize("start_at", [0.0, 0.5, 0.9])
def test_swa_is_the_mean_of_the_last_epochs(network, start_at):
    swa, epochs, seen = SWA(start_at), 10, []
    swa.start(network)
    first = int(start_at * epochs)
    for n in range(epochs):
        train(network, n)
        trained = state_of(network)
        row = swa.after_epoch(n, epochs, nothing)
        if n < first:
            assert row == {"averaged_epochs": 0.0}
            assert swa.averaged() is network
            continue
        seen.append(trained)
        assert row == {"averaged_epochs": float(len(seen))}
        mean = {k: np.mean([s[k] for s in seen], axis=0) for k, v in trained.items() if "running" not in k}
        averaged = state_of(swa.averaged())
        for key in mean.keys() - {"1.num_batches_tracked"}:
            # torch divides by the number of epochs in float32
            np.testing.assert_allclose(averaged[key], mean[key], rtol=1e-7, err_msg=key)
        assert_state(network, trained)
    assert not swa.feeds_back


def test_swa_starts_at_half_by_default(network):
    swa = SWA()
    swa.start(network)
    rows = [swa.after_epoch(n, 10, nothing)["averaged_epochs"] for n in range(10)]
    assert rows == [0, 0, 0, 0, 0, 1, 2, 3, 4, 5]


def test_swa_starting_again_forgets(network):
    swa = SWA(start_at=0.0)
    for _ in range(2):
        swa.start(network)
        assert swa.averaged() is network
        assert swa.after_epoch(0, 1, nothing) == {"averaged_epochs": 1.0}


def batches(count: int = 4) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [5 + 3 * torch.rand(16, 3, generator=generator, dtype=torch.float64) for _ in range(count)]


def recalibrate(network: nn.Module) -> None:
    with cumulative_batchnorm(network), torch.no_grad():
        for batch in batches():
            network(batch)


def test_swa_takes_the_statistics_of_the_mean_network(network):
    """Not the mean of the statistics: BatchNorm is estimated anew on what the averaged layers before it produce."""
    swa = SWA(start_at=0.0)
    swa.start(network)
    for n in range(3):
        train(network, n)
        swa.after_epoch(n, 3, recalibrate)
    averaged = swa.averaged()
    with torch.no_grad():
        features = torch.stack([averaged[0](batch) for batch in batches()])
    np.testing.assert_allclose(averaged[1].running_mean, features.mean((0, 1)), rtol=1e-9)
    np.testing.assert_allclose(averaged[1].running_var, features.var(1).mean(0), rtol=1e-9)
    assert not np.allclose(averaged[1].running_mean, network[1].running_mean)


# Statistics of BatchNorm


def test_statistics_are_those_of_the_data():
    """The plain mean over batches of mean and unbiased variance, whatever was there before."""
    norm = nn.BatchNorm1d(3).double()
    norm.running_mean.fill_(-100.0)
    norm.running_var.fill_(1e6)
    recalibrate(norm)
    data = torch.stack(batches())
    np.testing.assert_allclose(norm.running_mean, data.mean((0, 1)), rtol=1e-9)
    np.testing.assert_allclose(norm.running_var, data.var(1).mean(0), rtol=1e-9)
    assert norm.num_batches_tracked == len(data)


@pytest.mark.parametrize("fails", [False, True], ids=["quietly", "with an error"])
def test_momenta_and_modes_come_back_and_only_batchnorm_trains(fails):
    network = nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3, momentum=0.3), nn.Dropout(), nn.BatchNorm1d(3, momentum=None)
    ).double()
    network[1].eval()
    network[3].weight.requires_grad_(False)
    modes = [m.training for m in network.modules()]
    parameters = [p.clone() for p in network.parameters()]
    try:
        with cumulative_batchnorm(network) as has_batchnorm:
            assert has_batchnorm is True
            assert [m.training for m in network] == [False, True, False, True]
            assert [m.momentum for m in (network[1], network[3])] == [None, None]
            network(batches()[0])
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert [m.training for m in network.modules()] == modes
    assert [m.momentum for m in (network[1], network[3])] == [0.3, None]
    assert [p.requires_grad for p in network.parameters()] == [True, True, True, True, False, True]
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), parameters, strict=True))
    assert network[1].num_batches_tracked == 1


WITHOUT = {"none": nn.Linear(3, 3), "one without running statistics": nn.BatchNorm1d(3, track_running_stats=False)}


@pytest.mark.parametrize("network", WITHOUT.values(), ids=WITHOUT)
def test_a_network_without_statistics_says_so(network):
    with cumulative_batchnorm(network) as has_batchnorm:
        assert has_batchnorm is False


# What all share


def test_no_averaging_is_plain_training(network):
    averaging = get_averaging(None)
    assert type(averaging) is Averaging
    averaging.start(network)
    train(network, 0)
    before = state_of(network)
    averaging.after_step()
    assert averaging.after_epoch(0, 1, nothing) == {}
    assert averaging.averaged() is network
    assert_state(network, before)
    assert not averaging.feeds_back


@pytest.mark.parametrize("name, cls", [("piat", ParameterInterpolation), ("ema", EMA), ("swa", SWA)])
def test_by_name(name, cls):
    averaging = get_averaging(name)
    assert type(averaging) is cls is AVERAGINGS[name]
    assert get_averaging(averaging) is averaging
    assert get_averaging(name) is not averaging


def test_copy_weights_and_snapshot(network):
    before, other = snapshot(network), copy.deepcopy(network)
    train(network, 0)
    assert not any(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    parameters = list(other.parameters())
    copy_weights(network, other)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())
    assert all(p is q for p, q in zip(parameters, other.parameters(), strict=True))
    train(network, 1)
    assert not any(torch.equal(v, other.state_dict()[k]) for k, v in network.state_dict().items())
    copy_weights(network, network)


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "misspelt": (lambda: get_averaging("emaa"), ValueError, r"unknown averaging 'emaa'; did you mean 'ema'\?"),
    "a class": (lambda: get_averaging(EMA), TypeError, "averaging must be None, a name or an Averaging; got type"),
    "a number": (lambda: get_averaging(0.9), TypeError, "averaging must be None, .* got float"),
    "buffers": (
        lambda: ParameterInterpolation(buffers="old"),
        ValueError,
        "buffers must be one of interpolate, current, recalibrate; got 'old'",
    ),
    "λ above one": (lambda: ParameterInterpolation(1.01), ValueError, r"λ must be in \[0, 1\]; got 1.01"),
    "λ negative": (lambda: ParameterInterpolation(-0.01), ValueError, r"λ must be in \[0, 1\]; got -0.01"),
    "λ NaN": (lambda: ParameterInterpolation(float("nan")), ValueError, r"λ must be in \[0, 1\]; got nan"),
    "decay one": (lambda: EMA(1.0), ValueError, r"decay must be in \[0, 1\); got 1.0"),
    "decay negative": (lambda: EMA(-0.1), ValueError, r"decay must be in \[0, 1\); got -0.1"),
    "start at the end": (lambda: SWA(1.0), ValueError, r"start_at must be a share of the epochs in \[0, 1\); got 1.0"),
    "start before": (lambda: SWA(-0.1), ValueError, r"start_at must be a share of the epochs in \[0, 1\); got -0.1"),
}


@pytest.mark.parametrize("call, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


# FAWA


def judged(worst: list[float]) -> Callable[[nn.Module], float]:
    """A judge of epochs who finds these, one after the other."""
    left = iter(worst)
    return lambda network: next(left)


@pytest.mark.parametrize(
    "worst",
    [
        pytest.param([0.3, 0.3, 0.3, 0.3, 0.3, 0.3], id="all fair"),
        pytest.param([0.1, 0.3, 0.1, 0.24, 0.2, 0.9], id="some unfair"),
        pytest.param([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], id="none fair"),
    ],
)
def test_fawa_leaves_unfair_epochs_out(network, worst):
    fawa = FAWA(0.88, threshold=0.24)
    fawa.start(network)
    fawa.judged_by(judged(worst))
    mean: State | None = None
    for epoch, found in enumerate(worst):
        train(network, epoch)
        row = fawa.after_epoch(epoch, EPOCHS, nothing)
        now = state_of(network)
        if found >= 0.24:
            mixed = (
                {k: v if v.dtype.kind == "i" else 0.88 * mean[k] + 0.12 * v for k, v in now.items()} if mean else now
            )
            mean = mixed
        assert row == {"worst_class": found, "averaged_epochs": float(sum(w >= 0.24 for w in worst[: epoch + 1]))}
        assert_state(fawa.averaged(), mean or now)


def test_fawa_resumes(network):
    fawa = FAWA(threshold=0.2)
    fawa.start(network)
    fawa.judged_by(lambda network: 0.5)
    for epoch in range(2):
        train(network, epoch)
        fawa.after_epoch(epoch, EPOCHS, nothing)
    other = FAWA(threshold=0.2)
    other.start(network)
    other.load_state_dict(fawa.state_dict())
    assert_state(other.averaged(), state_of(fawa.averaged()))


@pytest.mark.parametrize(
    "options, match",
    [({"decay": 1.0}, "decay must be in"), ({"threshold": 1.5}, "threshold must be a robust accuracy")],
    ids=["decay", "threshold"],
)
def test_values_that_fawa_refuses(options, match):
    with pytest.raises(ValueError, match=match):
        FAWA(**options)
