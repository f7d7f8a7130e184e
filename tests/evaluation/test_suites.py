"""What a suite may be made of, and how its attacks are called."""

import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from art.attacks.evasion import (
    AutoAttack,
    AutoProjectedGradientDescent,
    BoundaryAttack,
    CarliniL2Method,
    FastGradientMethod,
    ProjectedGradientDescent,
)

from art_ext.evaluation import ATTACKS, SUITES, NativeAttack, PGDAttack, evaluate
from art_ext.evaluation.art_attacks import art_label
from art_ext.evaluation.suites import Setting, build_suite
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.02)


@pytest.fixture
def setting(linear):
    return Setting(linear.classifier, THREAT, 64, 3)


def _pgd(setting, **options):
    options = {"eps": 0.02, "max_iter": 20, "verbose": False} | options
    return ProjectedGradientDescent(setting.classifier, **options)


def test_every_suite_and_attack_is_described():
    assert {"fast", "standard", "autoattack"} <= set(SUITES)
    assert all(suite.description for suite in SUITES.values())
    assert all(isinstance(attack, NativeAttack) for attack in ATTACKS.values())
    assert not set(SUITES) & set(ATTACKS)


def test_fast(setting):
    assert list(build_suite("fast", setting)) == ["FGSM", "PGD-20", "APGD-DLR", "APGD-T fast"]


def test_items_of_all_kinds_and_equal_labels(setting):
    pgd = PGDAttack(name="PGD-20")
    suite = build_suite(["fgsm", pgd, _pgd(setting), ("mine", pgd), "pgd-20", ("mine", _pgd(setting))], setting)
    assert list(suite) == ["FGSM", "PGD-20", "ART PGD-20", "mine", "PGD-20 (2)", "mine (2)"]


LABELS = {
    "ART PGD-20": lambda c: ProjectedGradientDescent(c, max_iter=20),
    "ART FGSM": FastGradientMethod,
    "ART APGD-100": AutoProjectedGradientDescent,
    "ART CW-L2-10": CarliniL2Method,
    "ART BoundaryAttack-5": lambda c: BoundaryAttack(c, targeted=False, max_iter=5),
    "ART AutoAttack": lambda c: AutoAttack(c, attacks=[FastGradientMethod(c)]),
}


@pytest.mark.parametrize("label", LABELS)
def test_labels_of_arts_attacks(linear, label):
    assert art_label(LABELS[label](linear.classifier)) == label


def test_own_labels(linear):
    class Mine(FastGradientMethod):
        max_iter = 4

    attack = Mine(linear.classifier)
    assert art_label(attack) == "Mine-4"
    attack.label = "torchattacks CW"
    assert art_label(attack) == "torchattacks CW"


REFUSED = {
    "unknown suite": ("fats", ValueError, "unknown suite or attack 'fats'; did you mean 'fast'"),
    "unknown attack": (["pgd20"], ValueError, "did you mean 'pgd-20'"),
    "empty list": ([], ValueError, "at least one attack"),
    "empty name": ("", ValueError, "at least one attack"),
    "not a suite": (3, TypeError, "a name or a list of attacks; got int"),
    "not an attack": ([3], TypeError, "an ART EvasionAttack or a .* got 3"),
    "a class": ([PGDAttack], TypeError, "got <class"),
    "a pair of a number": ([(1, "fgsm")], TypeError, "got \\(1, 'fgsm'\\)"),
}


@pytest.mark.parametrize("suite, error, message", REFUSED.values(), ids=REFUSED)
def test_refused_before_any_work(linear, suite, error, message):
    with pytest.raises(error, match=message):
        evaluate(linear.classifier, linear.x, linear.y, threat=THREAT, suite=suite, progress=False, indicators=False)


def test_a_targeted_attack_is_refused(setting):
    with pytest.raises(ValueError, match="ART PGD-20 is targeted"):
        build_suite([_pgd(setting, targeted=True)], setting)


@pytest.mark.parametrize("options, said", [({"eps": 8}, "eps=8"), ({"norm": 2}, "norm=2"), ({"norm": 1}, "norm=1")])
def test_another_ball_than_the_threat_models_is_told(linear, setting, options, said):
    with pytest.warns(UserWarning, match=f"ART PGD-20 has {said}") as caught:
        evaluate(
            linear.classifier,
            linear.x,
            linear.y,
            threat=THREAT,
            suite=[_pgd(setting, **options)],
            progress=False,
            indicators=False,
        )
    assert caught[0].filename == __file__


def test_unknown_objective_is_refused_at_once():
    with pytest.raises(ValueError, match="did you mean 'margin'"):
        PGDAttack(name="x", objective="margn")


def test_native_attacks_get_the_evaluations_options(linear):
    class Spy:
        name = "spy"

        def run(self, model, x, y, *, threat, eot, generator):
            assert not model.training
            assert not any(p.requires_grad for p in model.parameters())
            calls.append((len(x), y.dtype, threat, eot, torch.rand(1, generator=generator).item()))
            return x

    calls = []
    evaluate(
        linear.classifier,
        linear.x,
        linear.y,
        threat=THREAT,
        suite=[Spy()],
        batch_size=25,
        eot=3,
        progress=False,
        indicators=False,
    )
    assert [call[0] for call in calls] == [25, 25, 5]
    assert {call[1:4] for call in calls} == {(torch.int64, THREAT, 3)}
    assert len({call[4] for call in calls}) == 3


def test_an_art_attack_is_called_once_with_one_hot_labels(linear, monkeypatch):
    calls = []
    attack = FastGradientMethod(linear.classifier, eps=0.02, batch_size=7)
    generate = FastGradientMethod.generate

    def spy(self, x, y=None, **kwargs):
        calls.append((x.shape, x.dtype, y))
        return generate(self, x, y, **kwargs)

    monkeypatch.setattr(FastGradientMethod, "generate", spy)
    evaluate(
        linear.classifier,
        linear.x,
        linear.y,
        threat=THREAT,
        suite=[attack],
        batch_size=8,
        progress=False,
        indicators=False,
    )
    ((shape, dtype, labels),) = calls
    assert (shape, dtype, labels.shape) == ((55, 3, 4, 4), np.float32, (55, 2))
    np.testing.assert_array_equal(labels.argmax(1), linear.y[5:])


def test_autoattack_is_built_lazily_with_the_evaluations_options(linear, monkeypatch):
    class AutoAttackStandard(FastGradientMethod):
        label = "AutoAttack"

        def __init__(self, estimator, *, threat, version, batch_size, seed):
            super().__init__(estimator, eps=threat.eps)
            built.append((threat, version, batch_size, seed))

    built, module = [], ModuleType("art_ext.adapters.autoattack")
    module.AutoAttackStandard = AutoAttackStandard
    monkeypatch.setitem(sys.modules, "art_ext.adapters", ModuleType("art_ext.adapters"))
    monkeypatch.setitem(sys.modules, "art_ext.adapters.autoattack", module)
    report = evaluate(
        linear.classifier,
        linear.x,
        linear.y,
        threat=THREAT,
        suite="autoattack",
        batch_size=9,
        seed=4,
        progress=False,
        indicators=False,
    )
    assert built == [(THREAT, "standard", 9, 4)]
    assert list(report.attacks) == ["AutoAttack"]
    assert report.suite == "autoattack"


def test_default_step_is_a_quarter_of_eps(monkeypatch):
    seen = {}
    monkeypatch.setattr("art_ext.evaluation.native.pgd", lambda *args, **options: seen.update(options))
    run = lambda attack, threat: attack.run(None, None, None, threat=threat, eot=1, generator=None)  # noqa: E731
    run(ATTACKS["pgd-20"], ThreatModel("linf", 8 / 255))
    assert seen["step_size"] == 2 / 255
    assert seen["steps"] == 20
    run(ATTACKS["fgsm"], ThreatModel("linf", 8 / 255))
    assert (seen["step_size"], seen["steps"], seen["random_start"]) == (8 / 255, 1, False)
    run(PGDAttack(name="x", step_size=0.003), ThreatModel("linf", 8 / 255))
    assert seen["step_size"] == 0.003
    run(ATTACKS["pgd-20"], ThreatModel("linf", torch.tensor([0.4, 0.8])))
    torch.testing.assert_close(seen["step_size"], torch.tensor([0.1, 0.2]))
