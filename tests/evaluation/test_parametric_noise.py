"""A network with parametric noise is found out to be random, and attacked and judged as one."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import PGDAttack, RobustnessReport, evaluate
from art_ext.evaluation.adaptive import default_suite
from art_ext.nn import SoftVote, add_parametric_noise
from art_ext.nn.normalize import Normalized
from art_ext.nn.parametric_noise import GRANULARITIES, noise_scales
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.03)


@pytest.fixture
def task() -> tuple[nn.Module, Tensor, Tensor]:
    """A linear network, and the 64 of 128 images that it tells apart best."""
    generator = torch.Generator().manual_seed(0)
    net = Normalized(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), (0.5,) * 3, (1.0,) * 3).eval()
    x = torch.rand(128, 3, 8, 8, generator=generator)
    with torch.no_grad():
        for p in net.parameters():
            p.uniform_(-0.07, 0.07, generator=generator)
        first, second = net(x).topk(2, 1)[0].T
        x = x[(first - second).topk(64)[1]]
        return net, x, net(x).argmax(1)


def report_of(task: tuple[nn.Module, Tensor, Tensor], **options: Any) -> RobustnessReport:
    net, x, y = task
    given = {"suite": [PGDAttack(name="PGD-5", steps=5)], "indicators": False, "precision": "fp32"} | options
    return evaluate(net, x.numpy(), y.numpy(), threat=THREAT, progress=False, **given)


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_evaluation_notices_the_noise_and_averages_over_it(task, granularity):
    add_parametric_noise(task[0], granularity, alpha=1.0)
    averaged, single = report_of(task), report_of(task, eot=1)
    for report in (averaged, single):
        assert report.randomised
        assert report.outcomes == 1
        draws = 20 * report.survival  # judged by so many fresh draws each
        np.testing.assert_allclose(draws, draws.round(), atol=1e-4)
        assert len(np.unique(draws.round())) > 4
    assert (averaged.eot, single.eot) == (20, 1)
    assert averaged.clean_accuracy == single.clean_accuracy
    assert averaged.robust_accuracy < single.robust_accuracy - 0.03


def test_without_a_suite_it_faces_what_noise_has_to_face(task):
    assert default_suite(task[0])[0] == "fast"
    add_parametric_noise(task[0])
    told, items = default_suite(task[0])
    assert told == "fast + adaptive"
    assert [getattr(item, "name", item) for item in items] == [
        "fast",
        "APGD-CE, 32 draws",
        "APGD-DLR, 32 draws",
        "APGD-CE on the vote of draws",
    ]
    assert default_suite(SoftVote(task[0], draws=4))[1][1:]


def test_gradients_of_single_draws_are_not_trusted(task):
    add_parametric_noise(task[0], alpha=1.0)
    task = task[0], task[1][:16], task[2][:16]
    flagged = {i.name for i in report_of(task, eot=1, indicators=True).indicators if i.flagged}
    assert "randomised output" in flagged


def test_noise_that_was_learnt_away_is_no_noise(task):
    add_parametric_noise(task[0])
    with torch.no_grad():
        for alpha in noise_scales(task[0]).values():
            alpha.zero_()
    report = report_of(task)
    assert not report.randomised
    assert report.eot == 1
