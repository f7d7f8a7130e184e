"""Mixup and CutMix: images, shares, draws, and who takes them."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from timm.data.mixup import mixup_target
from torch import nn

from art_ext.attacks import InnerPGD
from art_ext.engine import History
from art_ext.losses import LOSSES, FunctionLoss, get_loss
from art_ext.techniques import Mixup
from art_ext.techniques.mixup import cut_in, draw_box, mixed
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

THREAT = ThreatModel("linf", 8 / 255)
QUIET: dict[str, Any] = {"precision": "fp32", "progress": False, "steps": 1}
X = torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 3, 1])


def started(seed: int = 0, **options: Any) -> Mixup:
    technique = Mixup(**options)
    technique.start(nn.Identity(), 4, seed)
    return technique


def one_hot(y: torch.Tensor) -> torch.Tensor:
    return torch.eye(4)[y]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixed_images_and_labels_are_timms(share):
    expected = share * X + (1 - share) * X[[4, 3, 2, 1, 0]]
    torch.testing.assert_close(mixed(X, share), expected)
    torch.testing.assert_close(mixed(one_hot(Y), share), mixup_target(Y, 4, share))


def test_a_cut_is_the_other_image_inside_the_box_and_its_own_outside():
    out = cut_in(X, (slice(2, 5), slice(1, 6)))
    inside = torch.zeros(8, 6, dtype=torch.bool)
    inside[2:5, 1:6] = True
    assert torch.equal(out, torch.where(inside, X.flip(0), X))
    assert torch.equal(X, torch.rand(5, 3, 8, 6, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 0.99, 1.0])
def test_boxes_lie_in_the_image_and_are_as_large_as_their_share(share):
    rng, whole = np.random.default_rng(0), set()
    for _ in range(300):
        sides = draw_box(16, 12, share, rng)
        for side, length in zip(sides, (16, 12), strict=True):
            size = int(length * (1 - share) ** 0.5)
            assert 0 <= side.start <= side.stop <= length
            assert size // 2 <= side.stop - side.start <= size
            whole.add((side.stop - side.start, size))
    assert {(int(n * (1 - share) ** 0.5),) * 2 for n in (16, 12)} <= whole  # some are not cut off at the edge


def test_a_batch_by_mixup():
    x, shares = started(prob=1.0, cutmix_alpha=0).batch(X, Y)
    share = shares[0, 0].item()  # its partner is of another class
    assert 0 < share < 1
    torch.testing.assert_close(x, mixed(X, share))
    torch.testing.assert_close(shares, mixup_target(Y, 4, share))


def test_a_batch_by_cutmix_has_the_shares_of_its_areas():
    x, shares = started(prob=1.0, mixup_alpha=0, seed=3).batch(X, Y)
    kept = (x[0] == X[0]).all(0).float().mean().item()
    assert 0 < kept < 1
    torch.testing.assert_close(shares, mixup_target(Y, 4, kept))


def test_the_middle_of_an_odd_batch_stays_what_it_is():
    x, shares = started(prob=1.0).batch(X, Y)
    torch.testing.assert_close(x[2], X[2])
    torch.testing.assert_close(shares[2], one_hot(Y)[2])


@pytest.mark.parametrize("prob, switch_prob", [(0.3, 0.5), (1.0, 0.0), (1.0, 1.0), (0.5, 0.25)])
def test_how_often(prob, switch_prob):
    technique, kinds = started(prob=prob, switch_prob=switch_prob), []
    for _ in range(400):
        x, shares = technique.batch(X, Y)
        if x is X:
            assert torch.equal(shares, one_hot(Y))
        # CutMix takes whole pixels over, mixup changes all of them
        kinds.append("none" if x is X else "cut" if bool(((x == X) | (x == X.flip(0))).all()) else "mix")
    for kind, share in (("none", 1 - prob), ("cut", prob * switch_prob), ("mix", prob * (1 - switch_prob))):
        assert abs(kinds.count(kind) / 400 - share) <= 4 * (share * (1 - share) / 400) ** 0.5


def test_shares_follow_the_beta_distribution():
    technique = started(prob=1.0, mixup_alpha=0.4, cutmix_alpha=0)
    found = np.array([technique.batch(X, Y)[1][0, 0].item() for _ in range(2000)])
    variance = 0.4**2 / (0.8**2 * 1.8)
    assert abs(found.mean() - 0.5) < 4 * (variance / 2000) ** 0.5
    assert abs(found.var() - variance) < 0.01


def test_draws_are_the_techniques_own_and_those_of_its_seed():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    one, same, other = (started(seed, prob=1.0) for seed in (0, 0, 1))
    batches = [[t.batch(X, Y)[0] for _ in range(3)] for t in (one, same, other)]
    assert all(torch.equal(a, b) for a, b in zip(*batches[:2], strict=True))
    assert not torch.equal(batches[0][0], batches[2][0])
    assert np.array_equal(before[0], np.random.get_state()[1])  # noqa: NPY002
    assert torch.equal(before[1], torch.get_rng_state())


def test_points_can_be_mixed():
    technique = started(prob=1.0, cutmix_alpha=0)
    technique.check_network(nn.Identity(), (2,))
    points = torch.randn(6, 2)
    x, shares = technique.batch(points, torch.arange(6) % 4)
    torch.testing.assert_close(x.sum(0), points.sum(0))
    assert shares.shape == (6, 4)


def test_shares_of_another_technique_are_mixed_on():
    torch.testing.assert_close(started(prob=1.0).batch(X, one_hot(Y))[1], started(prob=1.0).batch(X, Y)[1])


# In training


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    return np.random.default_rng(0).random((16, 3, 8, 8), np.float32), np.arange(16) % 4


@pytest.mark.parametrize("loss", [name for name, known in LOSSES.items() if known.soft_labels])
def test_trains(trainable, conv_model, data, loss):
    trainer = RobustTrainer(trainable(conv_model), threat=THREAT, loss=loss, techniques=Mixup(prob=1.0), **QUIET)
    trainer.fit(*data, nb_epochs=2, batch_size=8)
    assert 0 <= trainer.history.rows[-1]["train_robust"] <= 1


def test_a_resumed_run_mixes_on(monkeypatch, trainable, conv_model, data, tmp_path):
    monkeypatch.setattr(History, "plot", lambda self, path: None)

    def trainer(folder):
        classifier = trainable(copy.deepcopy(conv_model))
        options = QUIET | {"checkpoint_dir": tmp_path / folder}
        return RobustTrainer(classifier, threat=THREAT, techniques=Mixup(prob=0.7), **options)

    whole, first, second = trainer("whole"), trainer("parts"), trainer("parts")
    whole.fit(*data, nb_epochs=2, batch_size=8)
    first.fit(*data, nb_epochs=1, batch_size=8)
    second.resume()
    second.fit(*data, nb_epochs=2, batch_size=8)
    assert second.history.column("loss") == whole.history.column("loss")


@pytest.mark.parametrize("loss", [name for name, known in LOSSES.items() if not known.soft_labels])
def test_losses_that_take_no_shares_are_refused(trainable, conv_model, loss):
    with pytest.raises(
        ValueError, match=rf"'mixup' .* loss '{loss}' does not take: leave mixup out, or choose one of .*pgd-at"
    ):
        RobustTrainer(trainable(conv_model), threat=THREAT, loss=loss, techniques="mixup", **QUIET)


@pytest.mark.parametrize(
    "loss, attack, message",
    [
        pytest.param(FunctionLoss(function=lambda z, z_adv, y: z.sum()), None, "loss 'custom'", id="function"),
        pytest.param(get_loss("pgd-at"), InnerPGD(THREAT, objective="margin"), "objective 'margin'", id="objective"),
    ],
)
def test_what_knows_no_shares_is_refused(loss, attack, message):
    with pytest.raises(ValueError, match=message):
        Mixup().check(loss, attack)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mixup_alpha": -1}, "mixup_alpha must be ≥ 0"),
        ({"cutmix_alpha": float("nan")}, "cutmix_alpha must be ≥ 0"),
        ({"mixup_alpha": 0, "cutmix_alpha": 0}, "leave mixup out"),
        ({"prob": 0}, r"prob must be in \(0, 1\]"),
        ({"prob": 1.5}, r"prob must be in \(0, 1\]"),
        ({"switch_prob": -0.1}, r"switch_prob must be in \[0, 1\]"),
    ],
    ids=str,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Mixup(**options)


def test_cutmix_needs_images(trainable, mlp_model):
    threat = ThreatModel("l2", 0.1)
    with pytest.raises(ValueError, match=r"CutMix needs images .* set cutmix_alpha to 0"):
        RobustTrainer(trainable(mlp_model, (2,), 2), threat=threat, techniques="mixup", **QUIET)
