"""The threshold and its guarantee, what is held out, and what training changes."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from art_ext.detectors.training import conformal_threshold, held_out, images_needed, score, train, verdict
from art_ext.nn.forensics import ForensicNet


def test_score_is_the_log_odds_of_an_attack():
    logits = torch.randn(5, 4, dtype=torch.float64)
    p = logits.softmax(1)
    torch.testing.assert_close(score(logits), (p[:, 1:].sum(1) / p[:, 0]).log())
    np.testing.assert_allclose(score(logits), logsumexp(logits[:, 1:], axis=1) - logits[:, 0].numpy())


def test_verdict_is_none_up_to_the_threshold():
    logits = torch.tensor([[0.0, 3.0, 1.0], [0.0, 1.0, 3.0], [9.0, 1.0, 3.0]])
    limit = float(score(logits)[0])
    assert verdict(logits, limit).tolist() == [0, 0, 0]
    assert verdict(logits, limit - 0.01).tolist() == [1, 2, 0]


@pytest.mark.parametrize("n, rate", [(19, 0.05), (99, 0.05), (20, 0.05), (37, 0.2), (9, 0.1)])
def test_threshold_is_the_rank_of_split_conformal_prediction(n, rate):
    scores = torch.randperm(n).double()
    assert conformal_threshold(scores, rate) == int(np.ceil(np.round((n + 1) * (1 - rate), 9))) - 1


def test_false_alarms_stay_below_the_rate_on_average():
    """Over many draws of 49 calibration scores and one new score from the same law: exactly 5 of 50 above it."""
    scores = torch.randn(20000, 50, generator=torch.Generator().manual_seed(0))
    alarms = [float(row[49]) > conformal_threshold(row[:49], 0.1) for row in scores]
    assert np.mean(alarms) == pytest.approx(0.1, abs=0.007)  # three standard deviations


@pytest.mark.parametrize("rate, needed", [(0.05, 19), (0.1, 9), (0.01, 99), (0.5, 1), (0.3, 3)])
def test_too_few_scores_are_refused(rate, needed):
    assert images_needed(rate) == needed
    conformal_threshold(torch.zeros(needed), rate)
    with pytest.raises(ValueError, match=f"takes at least {needed} clean images .* there are {needed - 1}"):
        conformal_threshold(torch.zeros(needed - 1), rate)


def test_all_that_comes_from_one_image_is_held_out_together():
    source = torch.tensor([5, 3, 9, 1, 5, 3, 9, 1, 7])
    clean = torch.tensor([True] * 4 + [False] * 5)  # nothing clean is known of image 7
    held = held_out(source, 0.5, among=clean, seed=1)
    assert int(held[:4].sum()) == 2
    assert torch.equal(held[:4], held[4:8])
    assert not held[8]
    assert torch.equal(held, held_out(source, 0.5, among=clean, seed=1))
    assert len({tuple(held_out(source, 0.5, seed=s).tolist()) for s in range(10)}) > 1


def test_families_weigh_the_same_however_many_there_are():
    """Where nothing can be told apart, the best answer is the prior: even, although one family is nine times as big."""
    torch.manual_seed(0)
    net = ForensicNet(channels=1, evidence=1, families=2, width=1)
    x, evidence = torch.zeros(100, 1, 4, 4), torch.zeros(100, 1)
    family = (torch.arange(100) >= 90).long()
    generator = torch.Generator().manual_seed(0)
    train(net, x, evidence, family, epochs=60, batch_size=100, learning_rate=0.05, generator=generator)
    p = net(x[:1], evidence[:1]).softmax(1)
    torch.testing.assert_close(p, torch.full_like(p, 0.5), atol=0.05, rtol=0)


def test_loss_falls_and_nothing_is_left_over():
    torch.manual_seed(0)
    net = ForensicNet(channels=1, evidence=2, families=2, width=2)
    family = torch.arange(41) % 2  # the last batch of 8 would hold a single image
    evidence = torch.randn(41, 2) + 3.0 * family[:, None]
    generator = torch.Generator().manual_seed(0)
    options = {"epochs": 8, "batch_size": 8, "learning_rate": 0.02, "generator": generator}
    rows = train(net, torch.rand(41, 1, 8, 8), evidence, family, **options)
    assert len(rows) == 8
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert rows[-1]["accuracy"] > 0.9
    assert not any(m.training for m in net.modules())
    assert all(p.grad is None for p in net.parameters())
