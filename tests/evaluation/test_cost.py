"""Forwards and backwards are counted exactly, whoever attacks."""

import pytest
import torch
from art.attacks.evasion import FastGradientMethod, ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.evaluation import Cost, PGDAttack, counting, evaluate
from art_ext.nn.noise import Noise
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.02)


def _art_pgd(classifier):
    return ProjectedGradientDescent(classifier, eps=0.02, eps_step=0.005, max_iter=7, verbose=False)


def _art_fgsm(classifier):
    return FastGradientMethod(classifier, eps=0.02)


BUDGETS = {  # attack -> forwards, backwards per image on a model that no attack fools
    "FGSM": (lambda _: "fgsm", 1, 1),
    "PGD-20": (lambda _: "pgd-20", 21, 20),  # one more, to judge the last iterate
    "margin-PGD-20": (lambda _: "margin-pgd-20", 21, 20),
    "plain PGD-20": (lambda _: PGDAttack(name="plain", early_exit=False), 20, 20),
    "two restarts": (lambda _: PGDAttack(name="restarts", steps=5, restarts=2), 12, 10),
    "KL": (lambda _: PGDAttack(name="KL", steps=5, objective="kl", early_exit=False), 6, 5),
    "ART FGSM": (_art_fgsm, 1, 1),
    "ART PGD-7": (_art_pgd, 9, 7),  # and two predictions, before and after
}


@pytest.mark.parametrize("form", ["sequential", "custom"])
@pytest.mark.parametrize("attack, forwards, backwards", BUDGETS.values(), ids=BUDGETS)
def test_budget(constant, wrapped, as_classifier, form, attack, forwards, backwards):
    classifier = as_classifier(constant.net if form == "sequential" else wrapped(constant.net))
    report = evaluate(
        classifier,
        constant.x,
        constant.y,
        threat=THREAT,
        suite=[attack(classifier)],
        batch_size=15,
        progress=False,
        indicators=False,
    )
    (result,) = report.attacks.values()
    assert result.accuracy == 1
    assert (result.forwards, result.backwards) == (forwards, backwards)
    assert result.seconds > 0


def test_early_exit_saves_passes(linear):
    report = evaluate(
        linear.classifier, linear.x, linear.y, threat=ThreatModel("linf", 0.3), progress=False, indicators=False
    )
    assert report.robust_accuracy == 0
    assert report.attacks["PGD-20"].forwards < 10


@pytest.mark.parametrize("eot", [1, 3])
def test_nothing_stops_early_at_a_lucky_draw(linear, eot):
    """Every example of a randomised defense costs all steps, with gradients of one draw too."""
    net = nn.Sequential(Noise(0.2, clip=None), linear.net)
    suite = [PGDAttack(name=name, steps=5, early_exit=early) for name, early in (("stops", True), ("goes on", False))]
    options = {"threat": ThreatModel("linf", 0.3), "suite": suite, "eot": eot}
    report = evaluate(net, linear.x, linear.y, progress=False, indicators=False, **options)
    assert [result.forwards for result in report.attacks.values()] == [5 * eot] * 2


def test_results_are_untouched_and_writing_into_logits_works():
    net, x = nn.Linear(4, 3), torch.rand(5, 4)
    expected = net(x)
    with counting(net) as cost:
        logits = net(x)
        assert torch.equal(logits, expected)
        logits[:, 0] = -100.0
        logits.sum().backward()
    assert (cost.forwards, cost.backwards) == (5, 5)
    torch.testing.assert_close(net.weight.grad, x.sum(0).expand(3, 4) * torch.tensor([[0.0], [1.0], [1.0]]))


def test_no_gradient_counts_no_backward():
    net = nn.Linear(4, 3)
    with counting(net) as cost, torch.no_grad():
        net(torch.rand(5, 4))
    assert (cost.forwards, cost.backwards) == (5, 0)


def test_accumulates_and_removes_its_hook_after_an_error():
    net, total = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), Cost()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), counting(net, total):
            _ = net(torch.rand(2, 4)).shape[0] / 0
    net(torch.rand(2, 4))
    assert total.forwards == 4
    assert total.seconds > 0
    assert not any(m._forward_hooks for m in net.modules())


def test_children_that_art_calls_one_by_one_are_seen():
    net = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 3), nn.ReLU()))
    classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (4,), 3)
    with counting(net) as cost:
        classifier.predict(torch.rand(6, 4).numpy())
        net(torch.rand(2, 4))
    assert cost.forwards == 8
