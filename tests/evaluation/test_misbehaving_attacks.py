"""What an attack returns is not taken on trust."""

import numpy as np
import pytest
import torch
from art.attacks.attack import EvasionAttack

from art_ext.evaluation import AttackFailedWarning, evaluate
from art_ext.evaluation.runner import inspect
from art_ext.threat import ThreatModel

EPS = 0.02
LINF, L2 = ThreatModel("linf", EPS), ThreatModel("l2", 0.1)


class ArtAttack(EvasionAttack):
    """An ART attack that applies a function to the batch."""

    _estimator_requirements = ()

    def __init__(self, function, **attributes):
        super().__init__(estimator=None)
        self.function = function
        vars(self).update(attributes)

    def generate(self, x, y=None, **kwargs):
        return self.function(x)


class Native:
    name = "native"

    def __init__(self, function):
        self.function = function

    def run(self, model, x, y, *, threat, eot, generator):
        result = self.function(x.numpy())
        return torch.from_numpy(result) if isinstance(result, np.ndarray) else result


KINDS = {"ART": ArtAttack, "native": Native}


def run(linear, attack, threat=LINF):
    return evaluate(
        linear.classifier, linear.x, linear.y, threat=threat, suite=[("bad", attack)], progress=False, indicators=False
    )


def _nan_in_two(x):
    x = x.copy()
    x[:2, 0, 0, 0] = np.nan, np.inf
    return x


def _write_into_input(x):
    x += 0.9
    return x


REPAIRED = {  # function, threat model -> (n_failed, n_projected)
    "not finite": (_nan_in_two, LINF, (2, 0)),
    "outside the linf ball": (lambda x: np.where(x < 0.5, x + 0.4, x - 0.4), LINF, (0, 55)),
    "outside the l2 ball": (lambda x: (x + 0.05).clip(0, 1), L2, (0, 55)),
    "outside the clip range": (lambda x: x - 0.4, ThreatModel("linf", 0.5), (0, 55)),
    "in place on its input": (_write_into_input, LINF, (0, 55)),
    "rounding is tolerated": (lambda x: np.clip(x + EPS + 5e-6, 0, 1), LINF, (0, 0)),
    "within the ball": (lambda x: x, LINF, (0, 0)),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("function, threat, counts", REPAIRED.values(), ids=REPAIRED)
def test_bad_examples_are_repaired_and_counted(linear, kind, function, threat, counts):
    result = run(linear, kind(function), threat).attacks["bad"]
    assert (result.n_failed, result.n_projected) == counts
    assert result.error is None


def test_a_non_finite_example_is_no_success(linear):
    report = run(linear, ArtAttack(lambda x: np.full_like(x, np.nan)))
    assert report.attacks["bad"].n_failed == 55
    assert report.robust_accuracy == report.clean_accuracy


def test_leaving_the_ball_is_worth_no_more_than_its_projection(linear):
    weight = linear.net[1].weight.detach().diff(dim=0).reshape(1, 3, 4, 4).numpy()
    towards_0 = lambda x: x - 5 * np.sign(weight)  # noqa: E731
    report = run(linear, ArtAttack(towards_0))
    exact = linear.worst_margins(LINF)
    of_class_1 = linear.y == 1
    np.testing.assert_array_equal(report.survivors.numpy()[of_class_1], exact[of_class_1] > 0)


def test_counts_of_an_adapter_are_added(linear):
    result = run(linear, ArtAttack(_nan_in_two, n_failed=3, n_projected=4)).attacks["bad"]
    assert (result.n_failed, result.n_projected) == (5, 4)


def _raise(x):
    raise RuntimeError("boom")


FAILURES = {
    "raises": (_raise, "RuntimeError: boom"),
    "wrong shape": (lambda x: x[:, :1], "ValueError: the attack returned shape"),
    "too few": (lambda x: x[1:], "ValueError: the attack returned shape"),
    "uint8": (lambda x: (255 * x).astype(np.uint8), "TypeError: the attack returned torch.uint8"),
    "nothing": (lambda x: None, "TypeError: the attack returned NoneType"),
    "a tuple": (lambda x: (x, x), "TypeError: the attack returned tuple"),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("function, message", FAILURES.values(), ids=FAILURES)
def test_a_failed_attack_is_named_and_the_run_goes_on(linear, kind, function, message):
    with pytest.warns(AttackFailedWarning, match="'bad' failed") as caught:
        report = evaluate(
            linear.classifier,
            linear.x,
            linear.y,
            threat=LINF,
            suite=[("bad", kind(function)), "fgsm"],
            progress=False,
            indicators=False,
        )
    assert caught[0].filename == __file__
    bad = report.attacks["bad"]
    assert bad.error.startswith(message)
    assert bad.accuracy is None
    assert report.robust_accuracy == report.attacks["FGSM"].accuracy
    assert f"failed: {message}" in str(report)
    assert "without bad" in str(report)


def test_without_any_attack_that_ran_robustness_is_not_known(linear):
    with pytest.warns(AttackFailedWarning):
        report = run(linear, ArtAttack(_raise))
    assert np.isnan(report.robust_accuracy)
    assert str(report).splitlines()[3].split() == ["worst", "case", "–", "without", "bad"]


def test_an_interruption_is_not_swallowed_and_leaves_no_trace(linear):
    def interrupt(x):
        raise KeyboardInterrupt

    linear.net.train()
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        run(linear, Native(interrupt))
    assert linear.net.training
    assert all(p.requires_grad for p in linear.net.parameters())
    assert not any(m._forward_hooks for m in linear.net.modules())
    assert torch.equal(state, torch.get_rng_state())


def test_double_precision_examples_are_accepted(linear):
    assert run(linear, ArtAttack(lambda x: x.astype(np.float64))).attacks["bad"].error is None


def test_inspect_projects_each_example_into_its_own_ball():
    threat, x = ThreatModel("linf", torch.tensor([0.1, 0.2, 0.3])), torch.full((3, 2), 0.5)
    checked, failed, projected = inspect(x + 0.25, x, threat)
    torch.testing.assert_close(checked[:, 0], torch.tensor([0.6, 0.7, 0.75]))
    assert (failed, projected) == (0, 2)
