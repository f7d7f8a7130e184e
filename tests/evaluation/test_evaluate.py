"""Semantics of `evaluate`: against the closed form of a linear model, and between its own runs."""

import random
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from art.attacks.evasion import CarliniL2Method, FastGradientMethod, ProjectedGradientDescent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from art_ext.evaluation import ATTACKS, PGDAttack, evaluate
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.02)
TRUTH = {
    "linf-clipped": THREAT,
    "linf-unbounded": ThreatModel("linf", 0.02, clip=None),
    "l2-unbounded": ThreatModel("l2", 0.15, clip=None),
    "linf-eps-per-example": ThreatModel("linf", torch.linspace(0.001, 0.05, 60)),
    "l2-eps-per-example": ThreatModel("l2", torch.linspace(0.01, 0.4, 60), clip=None),
}


@pytest.mark.parametrize("threat", TRUTH.values(), ids=TRUTH)
@pytest.mark.parametrize("attack", [name for name in ATTACKS if name != "square"])  # random search comes only near
def test_survivors_are_those_of_the_closed_form(linear, threat, attack):
    report = evaluate(
        linear.classifier, linear.x, linear.y, threat=threat, suite=attack, progress=False, indicators=False
    )
    margins = linear.worst_margins(threat)
    clear = np.abs(margins) > 1e-3
    assert 0.1 < report.robust_accuracy < report.clean_accuracy < 1  # the case says something
    np.testing.assert_array_equal(report.survivors.numpy()[clear], margins[clear] > 0)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 9), batch_size=st.integers(1, 12), eps=st.floats(1e-3, 0.1))
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_batching_gives_the_exact_answer(make, seed, n, batch_size, eps):
    model, threat = make(seed, n), ThreatModel("linf", eps)
    report = evaluate(
        model.classifier,
        model.x,
        model.y,
        threat=threat,
        suite="fgsm",
        batch_size=batch_size,
        progress=False,
        indicators=False,
    )
    margins = model.worst_margins(threat)
    clear = np.abs(margins) > 1e-3
    np.testing.assert_array_equal(report.survivors.numpy()[clear], margins[clear] > 0)


def _pgd_of_art(linear, **options):
    options = {"eps": 0.02, "eps_step": 0.005, "max_iter": 5, "verbose": False} | options
    return ProjectedGradientDescent(linear.classifier, **options)


def test_worst_case_is_the_conjunction_over_attacks(linear):
    attacks = [PGDAttack(name="one step", steps=1), "fgsm", _pgd_of_art(linear, max_iter=1)]

    def run(suite):
        return evaluate(
            linear.classifier, linear.x, linear.y, threat=THREAT, suite=suite, progress=False, indicators=False
        )

    together, alone = run(attacks), [run([attack]) for attack in attacks]
    expected = torch.stack([report.survivors for report in alone]).all(0)
    assert torch.equal(together.survivors, expected)
    assert together.robust_accuracy == expected.sum().item() / 60
    assert [r.accuracy for r in together.attacks.values()] == [r.robust_accuracy for r in alone]


def test_misclassified_examples_are_broken_and_not_attacked(linear):
    seen = []

    class Spy(PGDAttack):
        def run(self, model, x, y, **kwargs):
            seen.append(len(x))
            return x

    report = evaluate(
        linear.classifier, linear.x, linear.y, threat=THREAT, suite=[Spy(name="spy")], progress=False, indicators=False
    )
    wrong = DefendedModel(linear.classifier)(torch.from_numpy(linear.x)).argmax(1).numpy() != linear.y
    assert sum(seen) == len(linear.x) - wrong.sum() == 55
    assert not report.survivors[wrong].any()
    assert report.attacks["spy"].accuracy == report.clean_accuracy == 55 / 60


def test_nothing_classified_correctly(linear):
    report = evaluate(
        linear.classifier,
        linear.x[:5],
        linear.y[:5],
        threat=THREAT,
        suite=["fast", _pgd_of_art(linear)],
        progress=False,
        indicators=False,
    )
    assert report.clean_accuracy == report.robust_accuracy == 0
    assert all(r.accuracy == 0 and r.error is None for r in report.attacks.values())


def test_module_sequential_custom_and_defended_give_one_report(linear, as_classifier, wrapped):
    forms = (
        linear.classifier,
        as_classifier(wrapped(linear.net)),
        as_classifier(linear.net, preprocessing=None),
        linear.net,
        wrapped(linear.net),
        DefendedModel(linear.classifier),
    )
    reports = [evaluate(form, linear.x, linear.y, threat=THREAT, progress=False, indicators=False) for form in forms]
    assert all(torch.equal(r.survivors, reports[0].survivors) for r in reports)
    assert len({(a.forwards, a.backwards) for r in reports for a in [r.attacks["PGD-20"]]}) == 1


def test_preprocessors_are_attacked_and_judged(linear, as_classifier):
    mean, std = 0.25, 0.5
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():  # the same function of the image, through a normalisation
        net[1].weight.copy_(linear.net[1].weight * std)
        net[1].bias.copy_(linear.net[1].bias + linear.net[1].weight.sum(1) * mean)
    plain = evaluate(linear.classifier, linear.x, linear.y, threat=THREAT, progress=False, indicators=False)
    normalised = evaluate(
        as_classifier(net, preprocessing=(mean, std)),
        linear.x,
        linear.y,
        threat=THREAT,
        progress=False,
        indicators=False,
    )
    assert torch.equal(plain.survivors, normalised.survivors)


LABELS = {
    "one-hot": lambda y: np.eye(2, dtype=np.float32)[y],
    "int32": lambda y: y.astype(np.int32),
    "column": lambda y: y[:, None],
}


@pytest.mark.parametrize("form", LABELS.values(), ids=LABELS)
def test_label_formats(linear, form):
    expected = evaluate(
        linear.classifier, linear.x, linear.y, threat=THREAT, suite="fgsm", progress=False, indicators=False
    )
    report = evaluate(
        linear.classifier, linear.x, form(linear.y), threat=THREAT, suite="fgsm", progress=False, indicators=False
    )
    assert torch.equal(report.survivors, expected.survivors)


def _without_time(report):
    return {k: replace(v, seconds=0.0) for k, v in report.attacks.items()}, report.survivors.tolist()


def test_same_seed_same_report(linear):
    def run(seed):
        return evaluate(
            linear.classifier,
            linear.x,
            linear.y,
            threat=THREAT,
            suite=[PGDAttack(name="weak", steps=1, relative_step=0.1), _pgd_of_art(linear, num_random_init=2)],
            seed=seed,
            progress=False,
            indicators=False,
        )

    torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002  (the process's state must not matter)
    assert _without_time(run(0)) == _without_time(run(0))
    accuracies = {run(seed).attacks["weak"].accuracy for seed in range(4)}
    assert len(accuracies) > 1  # and the seed is really used


def test_an_attack_does_not_depend_on_its_company(linear):
    weak = PGDAttack(name="weak", steps=1, relative_step=0.1)

    def run(suite):
        return evaluate(
            linear.classifier, linear.x, linear.y, threat=THREAT, suite=suite, progress=False, indicators=False
        )

    first, last = run([weak, "pgd-20"]), run(["pgd-20", _pgd_of_art(linear), weak])
    assert first.attacks["weak"].accuracy == last.attacks["weak"].accuracy


@pytest.mark.parametrize("suite", ["exhaustive", ["fgsm", "pgd-20"]], ids=["cascade", "list"])
def test_a_single_step_before_the_others_in_a_cascade_is_no_sign(linear, suite):
    report = evaluate(linear.net, linear.x, linear.y, threat=THREAT, suite=suite, n_examples=12, progress=False)
    assert report.verdict == "trusted", str(report)


def test_everything_is_left_as_it_was(linear, as_classifier):
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Dropout(0.5), nn.Linear(4, 2))
    net[1].eval()
    net[3].bias.requires_grad_(False)
    net(torch.from_numpy(linear.x)).sum().backward()
    classifier, x, y = as_classifier(net), linear.x.copy(), linear.y.copy()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    modes, flags = [m.training for m in net.modules()], [p.requires_grad for p in net.parameters()]
    torch_state, numpy_state, python_state = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002

    suite = ["fast", FastGradientMethod(classifier, eps=0.02), _pgd_of_art(linear, num_random_init=1)]
    evaluate(classifier, x, y, threat=THREAT, suite=suite, progress=False, indicators=False)

    assert [m.training for m in net.modules()] == modes
    assert [p.requires_grad for p in net.parameters()] == flags
    for p, grad in zip(net.parameters(), gradients, strict=True):
        assert p.grad is grad is None or torch.equal(p.grad, grad)
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())
    np.testing.assert_array_equal(x, linear.x)
    np.testing.assert_array_equal(y, linear.y)
    assert torch.equal(torch.get_rng_state(), torch_state)
    np.testing.assert_equal(np.random.get_state(), numpy_state)  # noqa: NPY002
    assert random.getstate() == python_state


@pytest.mark.parametrize("scale, eot, expected", [(0.0, "auto", 1), (0.5, "auto", 20), (0.5, 3, 3), (0.0, 2, 2)])
def test_randomised_output_is_detected_and_averaged(linear, scale, eot, expected):
    class Noisy(nn.Module):
        def forward(self, x):
            return linear.net(x + scale * torch.randn_like(x))

    suite = [PGDAttack(name="PGD", steps=2, early_exit=False)]
    report = evaluate(
        Noisy(), linear.x, linear.y, threat=THREAT, suite=suite, eot=eot, progress=False, indicators=False
    )
    assert report.randomised == (scale > 0)
    assert report.eot == expected
    assert report.attacks["PGD"].forwards == report.attacks["PGD"].backwards == 2 * expected
    assert ("randomised output" in str(report)) == (scale > 0)


def test_minimum_norm_attacks_get_credit_for_what_fits_into_the_ball(linear):
    cw = CarliniL2Method(linear.classifier, max_iter=5, binary_search_steps=2, batch_size=64, verbose=False)
    reports = [
        evaluate(
            linear.classifier,
            linear.x,
            linear.y,
            threat=ThreatModel("l2", eps),
            suite=[cw],
            progress=False,
            indicators=False,
        )
        for eps in (0.05, 10.0)
    ]
    small, large = (r.attacks["ART CW-L2-5"] for r in reports)
    assert small.n_projected > 0 == large.n_projected
    assert large.accuracy < small.accuracy < reports[0].clean_accuracy


def test_progress_is_shown_or_silent(linear, capsys):
    for progress in (False, True):
        evaluate(linear.classifier, linear.x, linear.y, threat=THREAT, suite="pgd-20", progress=progress)
        shown = capsys.readouterr()
        assert shown.out == ""
        assert ("PGD-20" in shown.err and "accuracy" in shown.err) == progress


def test_no_warning_in_plain_use(linear):
    linear.x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(linear.classifier, linear.x, linear.y, threat=THREAT, progress=False, indicators=False)
