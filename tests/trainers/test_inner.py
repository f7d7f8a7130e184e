"""The inner attack: native, a user's function, an ART attack; always within the threat model, never on the weights."""

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescentPyTorch
from torch import nn

from art_ext.attacks import MixedAdversaries, pgd
from art_ext.losses import LOSSES, get_loss
from art_ext.model import DefendedModel, evaluating
from art_ext.threat import ThreatModel
from art_ext.trainers.inner import inner_attack

EPS, STEP, STEPS = 8 / 255, 2 / 255, 3
THREAT = ThreatModel("linf", EPS)


def build(classifier, attack=None, loss="pgd-at", **changes):
    arguments = {"threat": THREAT, "steps": STEPS, "step_size": STEP} | changes
    return inner_attack(attack, classifier, get_loss(loss), **arguments)


def art_pgd(classifier, **changes):
    options = {"norm": np.inf, "eps": EPS, "eps_step": STEP, "max_iter": STEPS, "batch_size": 16, "verbose": False}
    return ProjectedGradientDescentPyTorch(classifier, **(options | changes))


def without_start(model, x, y):
    return pgd(model, x, y, threat=THREAT, steps=STEPS, step_size=STEP, random_start=False)


@pytest.fixture
def classifier(trainable, conv_model):
    return trainable(conv_model)


@pytest.fixture
def model(classifier) -> DefendedModel:
    """The whole defense, in train mode as in the training loop."""
    return DefendedModel(classifier).train()


@pytest.mark.parametrize("loss", LOSSES)
def test_the_native_attack_maximises_what_the_loss_says_from_where_it_says(classifier, model, images, loss):
    x, y = images
    cls = LOSSES[loss]
    x_adv = build(classifier, loss=loss)(model, x, y, torch.Generator().manual_seed(5))
    expected = pgd(
        model,
        x,
        y,
        threat=THREAT,
        steps=STEPS,
        step_size=STEP,
        objective=cls.objective,
        random_start=cls.start,
        generator=torch.Generator().manual_seed(5),
    )
    assert torch.equal(x_adv, expected)
    assert (x_adv - x).abs().max() > EPS / 2


@pytest.mark.parametrize("name", [None, "pgd"], ids=["default", "by name"])
def test_ten_steps_by_default(classifier, model, images, name):
    attack = build(classifier, name, steps=None, step_size=None)
    assert (attack.steps, attack.step_size) == (10, None)


def test_losses_differ_in_objective_and_start(classifier, model, images):
    advs = [
        build(classifier, loss=loss)(model, *images, torch.Generator().manual_seed(5)) for loss in ("mart", "trades")
    ]
    assert not torch.equal(*advs)


ATTACKS = {
    "native": lambda classifier: None,
    "function": lambda classifier: without_start,
    "ART": art_pgd,
    "ART, smaller batches": lambda classifier: art_pgd(classifier, batch_size=5),
    "ART, FGSM": lambda classifier: FastGradientMethod(classifier, norm=np.inf, eps=EPS, batch_size=16),
}


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_every_attack_climbs_and_leaves_no_trace(classifier, model, images, attack, channels_last):
    x, y = images
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    before = x.clone()
    model.network[1].eval()
    model.network[0].bias.requires_grad_(False)
    modes = [m.training for m in model.modules()]
    flags = [p.requires_grad for p in model.parameters()]
    weights = [t.clone() for t in model.state_dict().values()]

    x_adv = build(classifier, attack(classifier))(model, x, y, torch.Generator())

    assert (x_adv.shape, x_adv.dtype, x_adv.device) == (x.shape, x.dtype, x.device)
    assert not x_adv.requires_grad
    assert (x_adv - x).abs().max() <= EPS + 1e-6
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1
    assert torch.equal(x, before)
    assert [m.training for m in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == flags
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(t, w) for t, w in zip(model.state_dict().values(), weights, strict=True))
    clean, attacked = (nn.functional.cross_entropy(model.eval()(z), y) for z in (x, x_adv))
    assert attacked > clean + 1e-3


def test_art_s_pgd_is_our_pgd(classifier, model, images):
    """Without a random start; ART projects in float64, hence the tolerance."""
    art = build(classifier, art_pgd(classifier))(model, *images, torch.Generator())
    with evaluating(model):
        torch.testing.assert_close(art, without_start(model, *images), rtol=0, atol=2e-7)


def test_art_gets_the_labels(classifier, model, images):
    """Without them it would attack its own predictions."""
    x, y = images
    other = (y + 1) % 4
    attack = build(classifier, art_pgd(classifier))
    assert not torch.equal(attack(model, x, y, torch.Generator()), attack(model, x, other, torch.Generator()))


def test_art_may_attack_another_classifier(trainable, linear_model, classifier, model, images):
    other = art_pgd(trainable(linear_model))
    x_adv = build(classifier, other)(model, *images, torch.Generator())
    expected = pgd(linear_model, *images, threat=THREAT, steps=STEPS, step_size=STEP, random_start=False)
    torch.testing.assert_close(x_adv, expected, rtol=0, atol=2e-7)


def test_a_function_sees_the_model_in_eval_mode_with_its_weights_frozen(classifier, model, images):
    def attack(net, x, y):
        assert net is model
        assert torch.equal(x, images[0])
        assert torch.equal(y, images[1])
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        return (x * torch.ones(1, requires_grad=True)).clamp(0.1, 0.9)

    x_adv = build(classifier, attack)(model, *images, torch.Generator())
    assert torch.equal(x_adv, images[0].clamp(0.1, 0.9))
    assert not x_adv.requires_grad
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["function", "ART"])
def test_an_error_in_the_attack_leaves_no_trace(classifier, model, images, monkeypatch, kind):
    def fail(*args, **kwargs):
        raise RuntimeError("out of ideas")

    art = art_pgd(classifier)
    monkeypatch.setattr(art, "generate", fail)
    with pytest.raises(RuntimeError, match="out of ideas"):
        build(classifier, fail if kind == "function" else art)(model, *images, torch.Generator())
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())


BAD = {
    "targeted": (
        lambda c: {"attack": art_pgd(c, targeted=True)},
        ValueError,
        "ProjectedGradient.* is targeted; .*untargeted",
    ),
    "unknown name": (lambda c: {"attack": "fgsm-sr"}, ValueError, "unknown inner attack .* did you mean 'fgsm-rs'"),
    "no attack": (
        lambda c: {"attack": 3},
        TypeError,
        "attack must be None, a name, a function or an ART EvasionAttack; got int",
    ),
    "steps of FGSM-RS": (
        lambda c: {"attack": "fgsm-rs", "steps": 7},
        ValueError,
        "steps is 7, but attack 'fgsm-rs' does not use it; leave it out",
    ),
    "threats by name": (
        lambda c: {"attack": "mat-max", "step_size": None},
        ValueError,
        "attack 'mat-max' needs threats: give an object of art_ext.attacks, or in a recipe attack_options",
    ),
    "one step size for several threats": (
        lambda c: {"attack": "mat-max"},
        ValueError,
        "step_size is 0.0.*, but attack 'mat-max' does not use it",
    ),
    "adversaries of another range": (
        lambda c: {"attack": MixedAdversaries([ThreatModel(norm, 0.1, (0, 255)) for norm in ("linf", "l2")])},
        ValueError,
        r"trainer's threat are in \(0.0, 1.0\), those of its attack in \(0.0, 255.0\)",
    ),
    "steps": (lambda c: {"steps": 0}, ValueError, "steps must be a whole number of at least 1; got 0"),
    "half steps": (lambda c: {"steps": 2.0}, ValueError, "steps must be a whole number of at least 1; got 2.0"),
    "step size": (lambda c: {"step_size": 0.0}, ValueError, r"step_size must be > 0 .*2/255\); got 0.0"),
    "NaN step size": (lambda c: {"step_size": float("nan")}, ValueError, "step_size must be > 0 .* got nan"),
}


@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(classifier, change, error, message):
    with pytest.raises(error, match=message):
        build(classifier, **change(classifier))
