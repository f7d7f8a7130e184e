"""Every indicator on a model made to show it, none on honest models; and what an escalation finds."""

import copy
import json
from dataclasses import asdict

import pytest
import torch
from torch import Tensor, nn

from art_ext.evaluation import PGDAttack, RobustnessReport, evaluate
from art_ext.evaluation.case import Case
from art_ext.evaluation.indicators import CHECKS, measure, not_monotone, single_step
from art_ext.evaluation.probes import autograd_calls, smoothed_pgd
from art_ext.evaluation.twins import undefended
from art_ext.evaluation.verdict import Indicator, verdict
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.05)


class Around(nn.Module):
    """A linear network behind something that is meant to protect it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
        with torch.no_grad():
            self.inner[1].weight.copy_(torch.randn(4, 48, generator=torch.Generator().manual_seed(0)))
            self.inner[1].bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


class Rounded(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner((x * 64).round() / 64)


class Detached(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.detach())


class Hot(Around):
    def forward(self, x: Tensor) -> Tensor:
        return 1e4 * self.inner(x)


class Noisy(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.02 * torch.randn_like(x))


class Softmax(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).softmax(1)


class Rough(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x + 0.008 * torch.sin(4000 * x))


class Saturated(Around):
    """Sigmoids that are flat in float32 and not quite so in float64."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(2 * self.inner(x) + 20)


class Improving(Around):
    """Moves its input towards its own prediction before it predicts."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.inner(leaf).logsumexp(1).sum(), leaf)
        return self.inner(x + 0.01 * grad.sign())


class Keyhole(Around):
    """Looks at two pixels only."""

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.zeros(3, 4, 4)
        mask[0, 0, :2] = 1
        return 20 * self.inner(x * mask)


MASKED = {  # model -> an indicator that must be flagged
    "rounded": (Rounded, "zero gradients"),
    "rounded, black box": (Rounded, "black box beats white box"),
    "rounded, unlimited": (Rounded, "survivors at unlimited ε"),
    "detached": (Detached, "zero gradients"),
    "hot": (Hot, "vanishing cross entropy"),
    "noisy": (Noisy, "randomised output"),
    "softmax": (Softmax, "probabilities for logits"),
    "rough": (Rough, "survivors at unlimited ε"),
    "saturated": (Saturated, "float32 against float64"),
    "improving": (Improving, "optimisation at test time"),
    "keyhole": (Keyhole, "dead pixels"),
}


def data(model: nn.Module, n: int = 60) -> tuple:
    x = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return x.numpy(), copy.deepcopy(model).eval()(x).argmax(1).numpy()


def report_of(model: nn.Module, *, threat: ThreatModel = THREAT, **options) -> RobustnessReport:
    options = {"suite": "fast", "progress": False} | options
    return evaluate(model, *data(getattr(model, "inner", model)), threat=threat, **options)


def flagged(report: RobustnessReport) -> set[str]:
    return {i.name for i in report.indicators if i.flagged}


@pytest.mark.parametrize("model, name", MASKED.values(), ids=MASKED)
@pytest.mark.filterwarnings("ignore:.*probabilities.*")
def test_each_sign_on_a_model_that_shows_it(model, name):
    report = report_of(model().eval())
    assert name in flagged(report)
    assert report.verdict == verdict(report.indicators) != "trusted"
    sign = next(i for i in report.indicators if i.name == name)
    assert sign.explanation
    assert sign.proposal
    assert sign.explanation in str(report)


HONEST = {
    "linear": lambda conv, mlp: Around(),
    "convolutional": lambda conv, mlp: conv,
    "pooled": lambda conv, mlp: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4)),
}


@pytest.mark.parametrize("build", HONEST.values(), ids=HONEST)
@pytest.mark.parametrize("eps", [1e-4, 4 / 255, 16 / 255], ids=lambda eps: f"eps={eps:.4f}")
@pytest.mark.parametrize("suite", ["fast", ["apgd-ce", "apgd-t"]], ids=["fast", "apgd"])
def test_no_false_alarm(conv_model, mlp_model, build, eps, suite):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(conv_model, mlp_model).eval()
    report = report_of(model, threat=ThreatModel("linf", eps), suite=suite)
    assert flagged(report) == set()
    assert report.verdict == "trusted"
    assert len(report.indicators) == len(CHECKS) + 2  # two checks make two


def case_of(model: nn.Module, **changes) -> Case:
    x, y = (torch.from_numpy(a) for a in data(getattr(model, "inner", model), 16))
    fields = {
        "model": model,
        "attacked": model,
        "x": x,
        "y": y,
        "threat": THREAT,
        "left": torch.ones(16, dtype=torch.bool),
        "broken": {},
        "single": frozenset(),
        "n": 100,
        "randomised": False,
        "averaged": True,
        "seed": 0,
    }
    return Case(**(fields | changes))


STEPS = {  # what each attack broke -> value, flagged
    "one step broke more": ({"FGSM": {1, 2, 3, 4, 5}, "PGD": {5}}, 0.04, True),
    "two alone prove nothing": ({"FGSM": {1, 2, 3}, "PGD": {3}}, 0.02, False),
    "the iterative one found them all": ({"FGSM": {1}, "PGD": {1, 2}}, 0.0, False),
    "nothing to compare with": ({"FGSM": {1}}, None, False),
}


@pytest.mark.parametrize("broken, value, expected", STEPS.values(), ids=STEPS)
def test_single_step_against_iterative(broken, value, expected):
    sign = single_step(case_of(Around(), broken=broken, single=frozenset({"FGSM"})))
    assert (sign.value, sign.flagged) == (value, expected)


def test_accuracy_that_grows_with_the_radius_is_noticed(monkeypatch):
    """Attacks that work in small balls only."""

    def only_small(model, x, y, *, threat, **options):
        return 1 - x if threat.eps < THREAT.eps else x

    monkeypatch.setattr("art_ext.evaluation.indicators.pgd", only_small)
    assert not_monotone(case_of(Around())).flagged


def test_nothing_to_look_at(linear):
    empty = case_of(Around(), x=torch.zeros(0, 3, 4, 4), y=torch.zeros(0, dtype=torch.long), left=torch.zeros(0) > 0)
    assert measure(empty) == ()


def test_indicators_travel_through_json():
    report = report_of(Rounded().eval())
    again = RobustnessReport.from_json(report.to_json())
    assert again.indicators == report.indicators
    assert (again.verdict, json.loads(report.to_json())["verdict"]) == (report.verdict, report.verdict)


def test_same_seed_same_indicators_and_global_random_state_left_alone():
    model = Rough().eval()
    state = torch.get_rng_state()
    one, two = (report_of(model).indicators for _ in range(2))
    assert one == two
    assert torch.equal(state, torch.get_rng_state())


def test_they_can_be_left_out():
    report = report_of(Rounded().eval(), indicators=False)
    assert (report.indicators, report.verdict) == ((), "unchecked")


def test_severity_must_be_a_verdict():
    sign = report_of(Rounded().eval()).indicators[0]
    with pytest.raises(ValueError, match="severity must be one of suspect, broken evaluation; got 'bad'"):
        Indicator(**(asdict(sign) | {"severity": "bad"}))


# ---- escalation -----------------------------------------------------------------------------------------------------

BREAKABLE = {"rounded": Rounded, "detached": Detached, "hot": Hot, "rough": Rough, "improving": Improving}


@pytest.mark.parametrize("model", BREAKABLE.values(), ids=BREAKABLE)
def test_escalation_finds_the_robustness_of_the_undefended_network(model):
    masked = model().eval()
    truth = report_of(masked.inner, suite=["apgd-t"]).robust_accuracy
    before = report_of(masked).robust_accuracy
    report = report_of(masked, escalate=True)
    assert report.robust_accuracy <= before
    assert report.robust_accuracy <= truth + 0.03
    assert any(label.startswith("escalated: ") for label in report.attacks)
    assert report.verdict != "trusted"


def test_nothing_is_escalated_where_nothing_is_flagged():
    report = report_of(Around().eval(), escalate=True)
    assert not any(label.startswith("escalated") for label in report.attacks)


def test_an_escalation_attacks_through_a_given_source():
    class Sealed(nn.Module):
        """The network is no submodule that could be found."""

        def __init__(self) -> None:
            super().__init__()
            self.hidden = [Around().inner.eval()]

        def forward(self, x: Tensor) -> Tensor:
            return self.hidden[0]((x * 64).round() / 64)

    masked, x_y = Sealed(), data(Around().inner)
    options = {"threat": THREAT, "suite": [PGDAttack(name="PGD")], "progress": False, "escalate": True}
    report = evaluate(masked, *x_y, sources=[masked.hidden[0]], **options)
    assert "escalated: APGD-T through Sequential" in report.attacks
    assert report.robust_accuracy < evaluate(masked, *x_y, **(options | {"escalate": False})).robust_accuracy


def test_the_undefended_twin_is_the_outermost_part_that_agrees(trainable):
    whole = DefendedModel(trainable(Rounded(), (3, 4, 4))).eval()
    x = torch.rand(16, 3, 4, 4)
    assert undefended(whole, x) is whole.network.inner
    assert undefended(DefendedModel(trainable(Around().inner, (3, 4, 4))).eval(), x) is None


def test_autograd_is_watched_and_put_back():
    functions = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)
    assert autograd_calls(Improving(), torch.rand(1, 3, 4, 4)) == 1
    assert autograd_calls(Around(), torch.rand(1, 3, 4, 4)) == 0
    assert functions == (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


def test_smoothed_pgd_stays_inside(images, linear_model):
    x, y = images
    threat = ThreatModel("l2", torch.linspace(0.1, 1, len(x)))
    x_adv = smoothed_pgd(linear_model, x, y, threat=threat, generator=torch.Generator().manual_seed(0))
    assert (threat.distance(x_adv, x) <= threat.eps + 1e-5).all()
