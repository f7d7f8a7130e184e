"""Families: sizes of their perturbations, what enters a training set, and what stays as it was."""

import random
from math import e, pi, sqrt

import numpy as np
import pytest
import torch
from art.attacks.evasion import FastGradientMethod

from art_ext.detectors.families import FAMILIES, attack_families, attacked, crafted, in_norm, to_levels
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.1)


@pytest.fixture
def grey(images):
    """Images whose pixels cannot leave the range, in whole levels, and labels."""
    return to_levels(0.3 + 0.4 * images[0]), images[1]


def moved(name, linear_model, grey, **options):
    craft = attack_families([name], threat=THREAT, **options)[name]
    x_adv = attacked(linear_model, *grey, craft, eight_bit=False, name=name)
    return (x_adv - grey[0]).flatten(1)


def test_fgsm_is_one_step_of_a_radius_that_differs(linear_model, grey):
    size = moved("fgsm", linear_model, grey).abs()
    torch.testing.assert_close(size.amin(1), size.amax(1), atol=1e-6, rtol=0)
    assert 0.025 - 1e-6 <= float(size.min()) < 0.05
    assert 0.08 < float(size.max()) <= 0.1 + 1e-6


def test_weakest_of_one_is_epsilon_alone(linear_model, grey):
    size = moved("fgsm", linear_model, grey, weakest=1.0).abs()
    torch.testing.assert_close(size, torch.full_like(size, 0.1))


def test_pgd_keeps_the_balls(linear_model, grey):
    assert float(moved("pgd-linf", linear_model, grey).abs().max()) <= 0.1 + 1e-6
    radius = 0.1 * sqrt(2 * 192 / (pi * e))
    norms = moved("pgd-l2", linear_model, grey, weakest=1.0).norm(dim=1)
    torch.testing.assert_close(norms, torch.full_like(norms, radius))  # on a linear network PGD ends on the sphere


def test_cw_is_at_the_boundary(linear_model, grey):
    x, y = grey[0], linear_model(grey[0]).argmax(1)
    x_adv = attacked(linear_model, x, y, attack_families(["cw"], threat=THREAT)["cw"], eight_bit=False)
    assert bool((linear_model(x_adv).argmax(1) != y).all())


@pytest.mark.parametrize("eps", [0.0314, 0.1])
def test_balls_of_one_volume(eps):
    """Volumes of the two balls against each other, by the logarithm of the Gamma function."""
    x, d = torch.zeros(1, 3, 32, 32), 3072
    other = in_norm("l2", ThreatModel("linf", eps), x)
    log_cube = d * np.log(2 * eps)
    log_sphere = d / 2 * np.log(pi) - torch.lgamma(torch.tensor(d / 2 + 1, dtype=torch.float64)).item()
    log_sphere += d * np.log(other.eps)
    assert log_sphere / d == pytest.approx(log_cube / d, abs=2e-3)
    assert in_norm("linf", other, x).eps == pytest.approx(eps)


def test_unchanged_images_are_left_out(linear_model, grey):
    def every_second(model, x, y, *, generator):
        x = x.clone()
        x[::2] += 0.1
        return x

    made = crafted(linear_model, *grey, {"mine": every_second})
    assert made.family.tolist() == [0] * 16 + [1] * 8
    assert made.source.tolist() == [*range(16), *range(0, 16, 2)]
    torch.testing.assert_close(made.x[16:], grey[0][::2] + 0.1, atol=0.5 / 255 + 1e-6, rtol=0)


@pytest.mark.parametrize("eight_bit", [True, False])
def test_levels(linear_model, grey, eight_bit):
    x_adv = attacked(linear_model, *grey, attack_families(threat=THREAT)["pgd-l2"], eight_bit=eight_bit)
    whole = bool(torch.equal(to_levels(x_adv), x_adv))
    assert whole == eight_bit


def test_images_do_not_depend_on_the_other_families(linear_model, grey):
    crafts = attack_families(threat=THREAT)
    alone = crafted(linear_model, *grey, {"pgd-linf": crafts["pgd-linf"]}, seed=3)
    among = crafted(linear_model, *grey, {n: crafts[n] for n in ("fgsm", "pgd-linf")}, seed=3)
    assert torch.equal(alone.x[alone.family == 1], among.x[among.family == 2])
    other = crafted(linear_model, *grey, {"pgd-linf": crafts["pgd-linf"]}, seed=4)
    assert not torch.equal(alone.x, other.x)


def test_attacks_of_art(trainable, linear_model, grey):
    attack = FastGradientMethod(trainable(linear_model), eps=0.1)
    x_adv = attacked(linear_model, *grey, attack, eight_bit=False)
    ours = attacked(linear_model, *grey, attack_families(["fgsm"], threat=THREAT, weakest=1.0)["fgsm"], eight_bit=False)
    torch.testing.assert_close(x_adv, ours)


def test_leaves_no_trace(trainable, conv_model, grey):
    classifier = trainable(conv_model)
    conv_model.train()
    given = grey[0].clone()
    before = [p.clone() for p in conv_model.state_dict().values()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    crafts = attack_families(["fgsm", "pgd-linf"], threat=THREAT) | {"art": FastGradientMethod(classifier, eps=0.1)}
    crafted(conv_model, *grey, crafts)
    assert conv_model.training
    assert all(p.grad is None and p.requires_grad for p in conv_model.parameters())
    assert all(map(torch.equal, before, conv_model.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # noqa: NPY002
    assert torch.equal(grey[0], given)


def test_what_is_no_set_of_images_is_refused(linear_model, grey):
    with pytest.raises(ValueError, match=r"'half' must return finite images \(16, 3, 8, 8\); got \(8, 3, 8, 8\)"):
        attacked(linear_model, *grey, lambda model, x, y, generator: x[:8], name="half")
    with pytest.raises(ValueError, match="'nan' must return finite"):
        attacked(linear_model, *grey, lambda model, x, y, generator: x * torch.nan, name="nan")


BAD = {
    "unknown": ({"names": ["pgd"]}, "unknown family 'pgd'; did you mean"),
    "weakest 0": ({"weakest": 0.0}, r"weakest must be in \(0, 1\].*; got 0.0"),
    "weakest 2": ({"weakest": 2.0}, "weakest must be"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        attack_families(**({"threat": THREAT} | options))


def test_names_are_those_of_the_table():
    assert list(attack_families(threat=THREAT)) == list(FAMILIES) == [f.name for f in FAMILIES.values()]
