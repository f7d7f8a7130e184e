"""When schedulers step, and what they are given."""

from itertools import pairwise

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from art_ext.engine import Schedule, WarmUp, piecewise_linear

EPOCHS, BATCHES = 4, 3


def optimizer(lr: float = 1.0) -> SGD:
    return SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates(make, unit: str = "auto", rows=None) -> list[float]:
    """The learning rate of each batch under a schedule, stepped as the training loop does."""
    sgd = optimizer()
    schedule, seen = Schedule(make(sgd), unit), []
    schedule.check(sgd)
    for epoch in range(EPOCHS):
        for batch in range(BATCHES):
            schedule.before_batch(epoch + (batch + 1) / BATCHES)
            seen.append(sgd.param_groups[0]["lr"])
            sgd.step()
            schedule.after_batch()
        schedule.after_epoch({"loss": 1.0} if rows is None else rows[epoch])
    return seen


def halving(sgd):
    return LambdaLR(sgd, lambda n: 0.5**n)


PER_BATCH = [0.5**n for n in range(EPOCHS * BATCHES)]
PER_EPOCH = [0.5**n for n in range(EPOCHS) for _ in range(BATCHES)]
UNITS = {
    "none": (lambda sgd: None, "auto", [1.0] * EPOCHS * BATCHES),
    "LambdaLR": (halving, "auto", PER_EPOCH),
    "LambdaLR per epoch": (halving, "epoch", PER_EPOCH),
    "LambdaLR per batch": (halving, "batch", PER_BATCH),
    "MultiStepLR": (lambda sgd: MultiStepLR(sgd, [1, 3], 0.1), "auto", [1.0] * 3 + [0.1] * 6 + [0.01] * 3),
    "StepLR per batch": (lambda sgd: StepLR(sgd, 3, 0.5), "batch", PER_EPOCH),
    "SequentialLR": (
        lambda sgd: SequentialLR(sgd, [StepLR(sgd, 1, 0.5), StepLR(sgd, 1, 0.5)], [9]),
        "auto",
        PER_EPOCH,
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in:UserWarning")  # SequentialLR's own
@pytest.mark.parametrize("make, unit, expected", UNITS.values(), ids=UNITS)
def test_steps_per_declared_unit(make, unit, expected):
    assert rates(make, unit) == pytest.approx(expected)


CYCLES = {
    "OneCycleLR": lambda sgd: OneCycleLR(sgd, 2.0, EPOCHS * BATCHES, pct_start=0.5, anneal_strategy="linear"),
    "CyclicLR": lambda sgd: CyclicLR(sgd, 0.5, 2.0, step_size_up=5),
}


@pytest.mark.parametrize("make", CYCLES.values(), ids=CYCLES)
def test_cycles_count_in_batches_by_themselves(make):
    seen = rates(make)
    assert seen.index(max(seen)) == 5
    assert max(seen) == pytest.approx(2.0)


def plateau(mode, **options):
    return lambda sgd: ReduceLROnPlateau(sgd, mode, factor=0.1, patience=0, **options)


RISING, FALLING = [0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]
PLATEAUS = {  # figures of each epoch -> number of reductions that the last epoch has seen
    "robust rises": ("robust", RISING, 0),
    "robust falls": ("robust", FALLING, 2),
    "robust stands still": ("robust", [0.3] * 4, 2),
    "loss falls": ("loss", FALLING, 0),
    "loss rises": ("loss", RISING, 2),
    "loss stands still": ("loss", [0.7] * 4, 2),
}


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("figure, values, reductions", PLATEAUS.values(), ids=PLATEAUS)
def test_a_plateau_in_either_mode(figure, values, reductions, mode):
    rows = [{"loss": 1.0, figure: value} for value in values]
    assert rates(plateau(mode), rows=rows)[-1] == pytest.approx(0.1**reductions)


def test_a_plateau_of_the_loss_is_not_asked_for_where_robust_accuracy_is_known():
    rows = [{"loss": loss, "robust": 0.5} for loss in FALLING]
    assert rates(plateau("min"), rows=rows)[-1] == pytest.approx(0.01)


WARM = [(n + 1) / 6 for n in range(6)] + [1.0] * 6  # two epochs of three batches
WARMED = {
    "no scheduler": (lambda sgd: None, [1.0] * 12, None),
    "MultiStepLR": (lambda sgd: MultiStepLR(sgd, [1, 3], 0.1), [1.0] * 3 + [0.1] * 6 + [0.01] * 3, None),
    "LambdaLR": (halving, PER_EPOCH, None),
    "cosine": (
        lambda sgd: CosineAnnealingLR(sgd, 4),
        [c for c in (1, 0.853553, 0.5, 0.146447) for _ in range(3)],
        None,
    ),
    "OneCycleLR": (CYCLES["OneCycleLR"], rates(CYCLES["OneCycleLR"]), None),
    "plateau": (plateau("max"), [1.0] * 6 + [0.1] * 3 + [0.01] * 3, [{"robust": v} for v in FALLING]),
}


@pytest.mark.parametrize("make, scheduled, rows", WARMED.values(), ids=WARMED)
def test_a_warm_up_is_a_share_of_what_the_scheduler_says(make, scheduled, rows):
    found = rates(lambda sgd: WarmUp(sgd, epochs=2, scheduler=make(sgd)), rows=rows)
    assert found == pytest.approx([a * b for a, b in zip(WARM, scheduled, strict=True)], rel=1e-5)


def test_a_warm_up_of_groups_keeps_their_proportions():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (1.0, 0.1)]
    sgd = SGD(groups)
    warm = WarmUp(sgd, epochs=2, scheduler=MultiStepLR(sgd, [1]))
    warm.begin(1.0)
    assert [group["lr"] for group in sgd.param_groups] == pytest.approx([0.5, 0.05])
    sgd.step()
    warm.step()
    warm.begin(1.5)
    assert [group["lr"] for group in sgd.param_groups] == pytest.approx([0.075, 0.0075])


@pytest.mark.parametrize("batches", [2, 3, 4, 7])
def test_a_warm_up_goes_on_from_its_state(batches):
    def steps(sgd, schedule, first, last):
        for batch in range(first, last):
            schedule.before_batch((batch + 1) / BATCHES)
            yield sgd.param_groups[0]["lr"]
            sgd.step()
            schedule.after_batch()
            if (batch + 1) % BATCHES == 0:
                schedule.after_epoch({"loss": 1.0})

    def made():
        sgd = optimizer()
        return sgd, Schedule(WarmUp(sgd, epochs=2, scheduler=StepLR(sgd, 1, 0.5)))

    whole, first = list(steps(*made(), 0, 12)), made()
    seen = list(steps(*first, 0, batches))
    second = made()
    second[0].load_state_dict(first[0].state_dict())
    second[1].load_state_dict(first[1].state_dict())
    assert seen + list(steps(*second, batches, 12)) == whole


@pytest.mark.parametrize("epochs", [0, -1, float("inf"), float("nan"), True])
def test_a_warm_up_of_no_epochs(epochs):
    with pytest.raises(ValueError, match="epochs of a warm-up must be > 0"):
        WarmUp(optimizer(), epochs=epochs)


BAD = {
    "warm-up of another": (
        lambda sgd: Schedule(WarmUp(sgd, epochs=1, scheduler=halving(optimizer()))),
        ValueError,
        "scheduler of a warm-up belongs to another optimizer",
    ),
    "another's warm-up": (
        lambda sgd: Schedule(WarmUp(optimizer(), epochs=1)),
        ValueError,
        "belongs to another optimizer",
    ),
    "unit": (
        lambda sgd: Schedule(halving(sgd), "step"),
        ValueError,
        "scheduler_step must be one of auto, epoch, batch",
    ),
    "unit without scheduler": (lambda sgd: Schedule(None, "step"), ValueError, "scheduler_step must be .* got 'step'"),
    "no scheduler": (lambda sgd: Schedule(0.1), TypeError, "scheduler must be an object of torch.* got 0.1"),
    "a class": (lambda sgd: Schedule(StepLR), TypeError, "scheduler must be an object of torch.* got <class .*StepLR"),
    "another optimizer's": (lambda sgd: Schedule(halving(optimizer())), ValueError, "belongs to another optimizer"),
}


@pytest.mark.parametrize("make, error, message", BAD.values(), ids=BAD)
def test_bad_schedules(make, error, message):
    sgd = optimizer()
    with pytest.raises(error, match=message):
        make(sgd).check(sgd)


def test_the_paper_s_schedule():
    """PIAT, ResNet-18: 0.01 until epoch 60, linear to 0.001 at 90, linear to 0.0001 at 120."""
    sgd = optimizer(0.01)
    schedule, seen = piecewise_linear(sgd, epochs=120), []
    for _ in range(130):
        seen.append(sgd.param_groups[0]["lr"])
        sgd.step()
        schedule.step()
    assert seen[:61] == [0.01] * 61
    assert seen[75] == pytest.approx((0.01 + 0.001) / 2)
    assert seen[90] == pytest.approx(0.001)
    assert seen[105] == pytest.approx((0.001 + 0.0001) / 2)
    assert seen[120:] == pytest.approx([0.0001] * 10)
    assert all(later <= earlier for earlier, later in pairwise(seen))
