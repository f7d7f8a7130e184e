"""Inner attacks by name: each takes what it uses, and refuses the rest."""

import inspect

import pytest
from torch import nn

from art_ext.attacks import FGSMRS, INNER_ATTACKS, InnerPGD, MixedAdversaries, make_inner_attack
from art_ext.attacks.registry import GIVEN
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.1, clip=(-1, 1))
TWO = [{"norm": "linf", "eps": 0.1}, {"norm": "l2", "eps": 0.5, "step_size": 0.05}]
OPTIONS = {"mat-max": {"threats": TWO}, "mat-rand": {"threats": TWO}}


def make(name, steps=None, step_size=None, **options):
    given = {"threat": THREAT, "objective": "kl", "start": "gaussian"}
    return make_inner_attack(name, steps=steps, step_size=step_size, **given, **options)


@pytest.mark.parametrize("name", INNER_ATTACKS)
def test_every_one_is_made_and_attacks(name, points):
    attack = make(name, **OPTIONS.get(name, {}))
    x, y = points
    x = x.clamp(-0.9, 0.9)
    x_adv = attack(nn.Linear(2, 2), x, y)
    assert x_adv.shape == x.shape
    assert (x_adv - x).abs().max() > 1e-3
    assert attack.forward_only


@pytest.mark.parametrize("name", INNER_ATTACKS)
def test_what_it_uses_and_its_options_are_all_its_arguments(name):
    info = INNER_ATTACKS[name]
    assert info.uses | info.options.keys() == inspect.signature(info.make).parameters.keys()
    assert info.uses <= set(GIVEN)
    assert info.paper.startswith("https://")


@pytest.mark.parametrize(
    "name, kind, steps", [("pgd", InnerPGD, 3), ("mat-max", MixedAdversaries, 3), ("mat-rand", MixedAdversaries, 3)]
)
def test_what_loss_and_trainer_say_arrives(name, kind, steps):
    attack = make(name, steps=steps, **OPTIONS.get(name, {}))
    assert isinstance(attack, kind)
    assert (attack.steps, attack.objective, attack.start) == (steps, "kl", "gaussian")


def test_threats_of_a_recipe():
    attack = make("mat-rand", threats=TWO)
    assert attack.choose == "rand"
    assert [str(threat) for threat in attack.threats] == ["ℓ∞ ε=0.1", "ℓ2 ε=0.5"]
    assert attack.step_size == [None, 0.05]
    assert attack.clip == THREAT.clip


def test_threats_as_objects():
    both = [THREAT, ThreatModel("l2", 1.0, clip=(-1, 1))]
    assert make("mat-max", threats=both).threats == tuple(both)


def test_options_of_fgsm_rs():
    attack = make("fgsm-rs", step_size=0.1, random_start=False, alarm=False)
    assert isinstance(attack, FGSMRS)
    assert (attack.step_size, attack.start, attack.brings) == (0.1, False, ())


BAD = {
    "name": ("fgsm_rs", {}, ValueError, "unknown inner attack 'fgsm_rs'; did you mean 'fgsm-rs'"),
    "steps": ("fgsm-rs", {"steps": 1}, ValueError, "steps is 1, but attack 'fgsm-rs' does not use it; leave it out"),
    "step size": ("mat-max", {"step_size": 0.1, "threats": TWO}, ValueError, "step_size is 0.1, but attack 'mat-max'"),
    "option": ("pgd", {"alarm": True}, TypeError, "attack 'pgd' takes no options; got alarm"),
    "another option": ("fgsm-rs", {"alram": True}, TypeError, "attack 'fgsm-rs' takes random_start, alarm; got alram"),
    "no threats": ("mat-max", {}, ValueError, "attack 'mat-max' needs threats"),
    "one threat": ("mat-max", {"threats": TWO[:1]}, ValueError, "at least two threat models"),
    "threats in a mapping": ("mat-max", {"threats": {"eps": 0.1}}, ValueError, "threats must be a list"),
    "no eps": ("mat-max", {"threats": [{"norm": "l2"}, *TWO]}, ValueError, "each of threats must have eps"),
    "unknown key": ("mat-max", {"threats": [{"eps": 1, "clip": 1}, *TWO]}, ValueError, "may have norm and step_size"),
    "norm": ("mat-max", {"threats": [{"eps": 1.0, "norm": "l1"}, *TWO]}, ValueError, "norm must be one of linf, l2"),
}


@pytest.mark.parametrize("name, options, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(name, options, error, message):
    with pytest.raises(error, match=message):
        make(name, **options)
