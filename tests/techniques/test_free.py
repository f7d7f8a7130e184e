"""Free adversarial training: its arithmetic, its cost, and what it goes with."""

import copy
from collections import Counter

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from art_ext.attacks import FGSMRS, InnerPGD, MixedAdversaries
from art_ext.losses import get_loss
from art_ext.technique import Technique
from art_ext.techniques import Free
from art_ext.techniques.free import Standing
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

EPS = 0.05
QUIET = {"threat": ThreatModel("linf", EPS), "precision": "fp32", "progress": False}


@pytest.fixture
def data(images):
    """20 images in the middle of the range: with 8 in a batch, the last has 4."""
    x = torch.cat((images[0], images[0][:4].flip(0))) * 0.5 + 0.25
    return x.numpy(), np.arange(20) % 4


def train(trainable, net, data, techniques=(), nb_epochs=1, replays=3, **options):
    made = RobustTrainer(trainable(net), techniques=[Free(replays=replays), *techniques], **QUIET | options)
    made.fit(*data, nb_epochs=nb_epochs, batch_size=8, shuffle=False)
    return made


# ---- arithmetic -----------------------------------------------------------------------------------------------------


def authors_way(net, x, y, *, replays, step, batch_size, epochs, norm):
    """The authors' loop on a noise tensor, where no image touches the ends of the range; returns the noise."""
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    noise = torch.zeros(batch_size, *x.shape[1:])
    for _ in range(epochs):
        for x_batch, y_batch in zip(x.split(batch_size), y.split(batch_size), strict=True):
            n = len(x_batch)
            for _ in range(replays):
                delta = noise[:n].clone().requires_grad_()
                sgd.zero_grad()
                F.cross_entropy(net(x_batch + delta), y_batch).backward()
                if norm == "linf":
                    noise[:n] = (delta.detach() + step * EPS * delta.grad.sign()).clamp(-EPS, EPS)
                else:
                    unit = delta.grad / delta.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                    moved = delta.detach() + step * EPS * unit
                    length = moved.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
                    noise[:n] = moved * (EPS / length).clamp(max=1)
                sgd.step()
    return noise


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_it_is_the_authors_loop(trainable, conv_model, data, norm, step):
    expected = copy.deepcopy(conv_model).train()
    noise = authors_way(expected, *map(torch.from_numpy, data), replays=3, step=step, batch_size=8, epochs=2, norm=norm)
    technique = Free(replays=3, step=step)
    trainer = RobustTrainer(trainable(conv_model), techniques=technique, **QUIET | {"threat": ThreatModel(norm, EPS)})
    trainer.fit(*data, nb_epochs=2, batch_size=8, shuffle=False)
    torch.testing.assert_close(conv_model.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(technique.state_dict()["deltas"][0], noise, rtol=0, atol=EPS / 50)


def test_parts_of_a_batch_have_the_perturbations_of_their_rows(trainable, linear_model, data):
    deltas = []
    for accumulate in (1, 2):
        trainer = train(trainable, copy.deepcopy(linear_model), data, accumulate=accumulate)
        deltas.append(trainer.technique.state_dict()["deltas"][0])
    torch.testing.assert_close(*deltas)


def test_the_perturbation_moves_where_an_image_is_black():
    """Where the authors' code, which differentiates through the cut, has no gradient."""
    technique, x = Free(), torch.zeros(1, 2)
    technique.start(nn.Linear(1, 2), 2, 0)
    for slope in (-1.0, 1.0, 1.0):
        technique.batch(x, x)
        x_adv = technique.attack_for(InnerPGD(ThreatModel("linf", EPS)), x, x)(nn.Identity(), x, x)
        (slope * x_adv).sum().backward()
        technique.after_loss(x, x_adv, None, x)
    assert torch.equal(technique.state_dict()["deltas"][0], torch.full((1, 2), EPS))


@pytest.mark.parametrize("clip", [(0.0, 1.0), None])
def test_inputs_stay_within_the_threat_model(trainable, linear_model, images, clip):
    seen = []

    class Seen(Technique):
        name = "seen"

        def after_loss(self, x, x_adv, logits_adv, y):
            seen.append((x.clone(), x_adv.detach().clone()))

    classifier = trainable(linear_model, clip_values=clip)
    threat = ThreatModel("linf", EPS, clip)
    trainer = RobustTrainer(classifier, techniques=[Free(), Seen()], **QUIET | {"threat": threat})
    trainer.fit(images[0].numpy(), np.arange(16) % 4, nb_epochs=2, batch_size=8)
    sizes = [(x_adv - x).abs().max().item() for x, x_adv in seen]
    assert sizes[0] == 0
    assert all(size == pytest.approx(EPS, abs=1e-6) for size in sizes[1:])
    values = torch.stack([x_adv for _, x_adv in seen[1:]])
    assert bool(((values >= 0) & (values <= 1)).all()) is (clip is not None)


# ---- cost -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_replay_is_one_forward_and_one_backward(trainable, conv_model, data, averaging, precision):
    """Of the network in train mode, for the weights and the perturbation together; no attack, no twin."""
    forwards, backwards = Counter(), Counter()

    def count(net, args, out):
        if out.requires_grad:  # all but the one that looks at the network before the training
            forwards[(net.training, len(out))] += 1
            out.register_hook(lambda _: backwards.update([len(out)]))

    conv_model.register_forward_hook(count)
    steps = Counter()
    for name, p in conv_model.named_parameters():
        p.register_post_accumulate_grad_hook(lambda _, name=name: steps.update([name]))
    trainer = train(trainable, conv_model, data, nb_epochs=2, replays=4, averaging=averaging, precision=precision)
    assert forwards == {(True, 8): 2 * 2 * 4, (True, 4): 2 * 4}
    assert backwards == {8: 2 * 2 * 4, 4: 2 * 4}
    assert set(steps.values()) == {2 * 3 * 4}
    assert trainer._run.twin is None


def test_an_epoch_has_the_figures_of_the_last_replay(trainable, conv_model, data):
    trainer = train(trainable, conv_model, data, nb_epochs=2, replays=8)
    assert len(trainer.history) == 2
    assert all(0 <= share <= 1 for share in trainer.history.column("train_robust"))


# ---- with others ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaging", [None, "piat", "ema"])
@pytest.mark.parametrize(
    "loss, techniques",
    [
        ("pgd-at", ["awp"]),
        ("cfa-at", []),
        ("nmse", []),
        ("mart", ["natural"]),
        ("pgd-at", ["eps-warm-up", "overfitting-alarm"]),
        ("pgd-at", ["mixup"]),
    ],
    ids=["AWP", "CFA", "NMSE", "MART, natural", "warm-up, alarm", "mixup"],
)
def test_composition(trainable, conv_model, data, averaging, loss, techniques):
    trainer = train(trainable, conv_model, data, techniques, loss=loss, averaging=averaging, nb_epochs=2)
    assert all(np.isfinite(trainer.history.column("loss")))


@pytest.mark.parametrize("free_first", [True, False])
def test_radii_of_other_techniques_count(images, free_first):
    """A technique of per-class radii before it, and one after it."""
    x, y = images
    radii = torch.where(y < 2, 0.01, 0.03)
    technique = Free()
    technique.start(nn.Linear(1, 2), 2, 0)
    attack = InnerPGD(ThreatModel("linf", EPS))
    for _ in range(2):
        technique.batch(x, y)
        if free_first:
            made = technique.attack_for(attack, x, y).within(radii)
        else:
            made = technique.attack_for(attack.within(radii), x, y)
        x_adv = made(nn.Identity(), x, y)
        (x_adv * torch.randn_like(x_adv)).sum().backward()
        technique.after_loss(x, x_adv, None, y)
    delta = technique.state_dict()["deltas"][0]
    torch.testing.assert_close(delta.abs().amax((1, 2, 3)), radii)


@pytest.mark.parametrize(
    "loss, attack, message",
    [
        ("pgd-at", FGSMRS(ThreatModel("linf", EPS)), r"in the place of the inner attack; leave attack \(FGSMRS\) out"),
        ("pgd-at", MixedAdversaries([ThreatModel(n, 0.1) for n in ("linf", "l2")]), r"attack \(MixedAdversaries\) out"),
        ("pgd-at", lambda model, x, y: x, "leave attack .* out"),
        ("trades", InnerPGD(ThreatModel("linf", EPS)), "gradient of loss 'trades'.* is zero: choose pgd-at"),
        ("cfa", InnerPGD(ThreatModel("linf", EPS)), "gradient of loss 'cfa'"),
    ],
    ids=["FGSM-RS", "mixed adversaries", "a function", "TRADES", "CFA"],
)
def test_what_does_not_go_with_it(loss, attack, message):
    with pytest.raises(ValueError, match=message):
        Free().check(get_loss(loss), attack)


@pytest.mark.parametrize("other", ["warm-start", "a&p", "prm"])
def test_techniques_that_do_not_go_with_it(trainable, conv_model, data, other):
    with pytest.raises(ValueError, match=f"does not go with .*{other}|{other}.* does not go with 'free'"):
        train(trainable, conv_model, data, [other])


@pytest.mark.parametrize(
    "options, message",
    [({"replays": 1}, "replays must be"), ({"replays": 2.0}, "replays must be"), ({"step": 0.0}, "step must be > 0")],
    ids=str,
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Free(**options)


def test_what_stands_in_the_place_of_the_attack_is_a_leaf(images):
    technique = Free()
    technique.start(nn.Linear(1, 2), 2, 0)
    technique.batch(*images)
    standing = technique.attack_for(InnerPGD(ThreatModel("linf", EPS)), *images)
    x_adv = standing(nn.Identity(), *images)
    assert isinstance(standing, Standing)
    assert x_adv.is_leaf
    assert x_adv.requires_grad
    assert torch.equal(x_adv, images[0])
