"""Random choices: listed exactly where they are finite, several draws in one pass where they are independent."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import OBJECTIVES, apgd, input_gradient
from art_ext.evaluation import (
    ATTACKS,
    SUITES,
    FiniteRandomness,
    FunctionAttack,
    RobustnessReport,
    Suite,
    evaluate,
)
from art_ext.evaluation.draws import MOST_OUTCOMES, choosing, enumerating, independent, outcomes_of
from art_ext.model import Surrogate
from art_ext.nn.soft_vote import SoftVote
from art_ext.threat import ThreatModel

THREAT = ThreatModel("linf", 0.02)


class OneOf(nn.Module):
    """Adds one of some shifts, drawn for the whole batch."""

    def __init__(self, *shifts: float) -> None:
        super().__init__()
        self.shifts, self.outcomes, self.chosen = shifts, len(shifts), None

    def choose(self, outcome: int | None) -> None:
        self.chosen = outcome

    def forward(self, x: Tensor) -> Tensor:
        number = int(torch.randint(self.outcomes, ())) if self.chosen is None else self.chosen
        return x + self.shifts[number]


class Noise(nn.Module):
    def __init__(self, *, per_example: bool) -> None:
        super().__init__()
        self.per_example = per_example

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x if self.per_example else x[:1])


def run(net: nn.Module, linear, **options) -> RobustnessReport:
    options = {"suite": "randomized", "progress": False, "indicators": False} | options
    return evaluate(net, linear.x, linear.y, threat=THREAT, **options)


def test_passes_take_the_outcomes_in_turn_and_at_random_again_afterwards():
    model = nn.Sequential(OneOf(0.0, 1.0), OneOf(0.0, 10.0, 20.0))
    assert isinstance(model[0], FiniteRandomness)
    assert outcomes_of(model) == 6
    with enumerating(model):
        seen = [model(torch.zeros(())).item() for _ in range(12)]
    assert seen == [0, 1, 10, 11, 20, 21] * 2
    with choosing(model, 3):
        assert [model(torch.zeros(())).item() for _ in range(3)] == [11] * 3
    assert (model[0].chosen, model[1].chosen, len(model._forward_pre_hooks)) == (None, None, 0)


def test_finite_randomness_is_judged_by_all_of_its_outcomes(linear):
    """Exactly: the accuracy of the mixture is the mean over the networks that it mixes."""
    shifts = (0.0, 0.3, -0.3, 0.6)
    report = run(nn.Sequential(OneOf(*shifts), linear.net), linear)
    assert (report.randomised, report.outcomes, report.eot) == (True, 4, 4)
    x, y = torch.from_numpy(linear.x), torch.from_numpy(linear.y)
    right = torch.stack([linear.net(x + shift).argmax(1) == y for shift in shifts]).float()
    assert report.clean_accuracy == pytest.approx(right.mean().item())
    assert set((report.survival * 4).tolist()) <= {0.0, 1.0, 2.0, 3.0, 4.0}
    assert "all 4 outcomes judge" in str(report)
    assert RobustnessReport.from_json(report.to_json()).outcomes == 4
    again = run(nn.Sequential(OneOf(*shifts), linear.net), linear)
    assert torch.equal(again.survival, report.survival)


def test_gradients_are_exact_expectations(linear):
    model = nn.Sequential(OneOf(0.0, 0.5, 1.0), linear.net)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    with enumerating(model):
        grad, value, _ = input_gradient(model, x, y, OBJECTIVES["ce"], 3)
    each = [input_gradient(linear.net, x + shift, y, OBJECTIVES["ce"]) for shift in (0.0, 0.5, 1.0)]
    torch.testing.assert_close(grad, torch.stack([g for g, _, _ in each]).mean(0))
    torch.testing.assert_close(value, torch.stack([v for _, v, _ in each]).mean(0))


@pytest.mark.parametrize("seed", range(6))
def test_a_choice_for_the_whole_batch_is_never_taken_for_none(linear, seed):
    """Two passes agree by chance every other time."""
    report = run(nn.Sequential(OneOf(0.0, 0.3), linear.net), linear, n_examples=10, seed=seed)
    assert (report.randomised, report.outcomes) == (True, 2)


def voting(every_outcome: bool, draws: int, net: nn.Module) -> SoftVote:
    return SoftVote(net, transform=OneOf(0.0, 0.3, -0.3), draws=draws, every_outcome=every_outcome)


VOTES = {
    "all of them vote": (lambda net: voting(True, 2, net), (False, 1)),
    "one ballot": (lambda net: voting(False, 1, net), (True, 3)),
    "ballots that choose apart": (lambda net: voting(False, 4, net), (True, 1)),
    "inside the network": (lambda net: SoftVote(nn.Sequential(OneOf(0.0, 0.3), net), draws=4), (True, 1)),
}


@pytest.mark.parametrize("build, expected", VOTES.values(), ids=VOTES)
def test_the_choices_of_a_vote_are_listed_where_that_is_what_it_does(linear, build, expected):
    """Several ballots of one background are another predictor than ballots that each draw their own."""
    report = run(build(linear.net), linear, n_examples=10, suite=["fgsm"])
    assert (report.randomised, report.outcomes) == expected


class Undeclared(nn.Module):
    """A coin for each batch that nobody can list."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.3 * (torch.rand(()) < 0.5)


@pytest.mark.parametrize("seed", range(6))
def test_a_coin_that_is_not_declared_is_found(linear, seed):
    assert run(nn.Sequential(Undeclared(), linear.net), linear, n_examples=10, seed=seed).randomised


class Second(OneOf):
    """Its second outcome is noisy."""

    def forward(self, x: Tensor) -> Tensor:
        out = super().forward(x)
        return out + 0.1 * torch.randn_like(x) if self.chosen == 1 else out


def test_randomness_of_a_single_outcome_is_not_overlooked(linear):
    report = run(nn.Sequential(Second(0.0, 0.3), linear.net), linear, n_examples=10)
    assert (report.randomised, report.outcomes) == (True, 1)


def test_each_batch_begins_with_the_first_outcome(linear):
    """So a result does not depend on what ran before."""
    model = nn.Sequential(OneOf(0.0, 0.3, 0.6), linear.net)
    alone = run(model, linear, suite=["apgd-dlr"])
    after = run(model, linear, suite=["pgd-20", "apgd-dlr"])
    assert alone.attacks["APGD-DLR"].accuracy == after.attacks["APGD-DLR"].accuracy
    assert alone.attacks["APGD-DLR"].std == after.attacks["APGD-DLR"].std


def test_a_cascade_leaves_no_more_than_the_same_attacks_each_on_all(linear, monkeypatch):
    parts = [ATTACKS["pgd-20"], ATTACKS["apgd-dlr"]]
    monkeypatch.setitem(SUITES, "pair", Suite("", lambda _: parts, cascade=True))
    net = nn.Sequential(OneOf(*np.linspace(-0.6, 0.6, 9)), linear.net)
    cascade, each = run(net, linear, suite="pair"), run(net, linear, suite=parts)
    assert cascade.robust_accuracy == pytest.approx(each.robust_accuracy, abs=0.02)


def test_more_targets_are_no_weaker_against_noise():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), Noise(per_example=True), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10))
    x = torch.rand(60, 3, 4, 4)
    with torch.no_grad():
        y = torch.stack([net(x) for _ in range(20)]).mean(0).argmax(1)
    held = {}
    for targets in (1, 9):
        attack = FunctionAttack(name="t", function=apgd, options={"targets": targets, "steps": 10})
        report = evaluate(
            net, x.numpy(), y.numpy(), threat=THREAT, suite=[attack], eot=5, progress=False, indicators=False
        )
        held[targets] = report.robust_accuracy
    assert held[9] <= held[1] + 0.03


def test_the_callers_random_numbers_are_left_alone(linear):
    state = torch.get_rng_state()
    run(nn.Sequential(Noise(per_example=True), linear.net), linear, n_examples=10)
    assert torch.equal(state, torch.get_rng_state())


SAMPLED = {
    "other randomness is left": (lambda: (OneOf(0.0, 0.3), Noise(per_example=True)), 1),
    "too many outcomes": (lambda: (OneOf(*np.linspace(-0.3, 0.3, MOST_OUTCOMES + 1)),), 1),
    "two parts, few outcomes": (lambda: (OneOf(0.0, 0.3), OneOf(0.0, 0.2)), 4),
}


@pytest.mark.parametrize("parts, outcomes", SAMPLED.values(), ids=SAMPLED)
def test_what_cannot_be_listed_is_sampled(linear, parts, outcomes):
    report = run(nn.Sequential(*parts(), linear.net), linear, n_examples=8)
    assert (report.outcomes, report.eot) == (outcomes, outcomes if outcomes > 1 else 20)


def test_a_single_outcome_is_no_randomness(linear):
    report = run(nn.Sequential(OneOf(0.1), linear.net), linear)
    assert (report.randomised, report.outcomes, report.eot) == (False, 1, 1)


INDEPENDENT = {"per example": (True, True), "per batch": (False, False)}


@pytest.mark.parametrize("per_example, expected", INDEPENDENT.values(), ids=INDEPENDENT)
def test_whether_copies_in_one_pass_are_several_draws(linear, per_example, expected):
    torch.manual_seed(0)
    model = nn.Sequential(Noise(per_example=per_example), linear.net)
    assert independent(model, torch.from_numpy(linear.x)) is expected


@pytest.mark.parametrize("rows, passes", [(0, 20), (4, 20), (8, 10), (32, 3), (1000, 1)])
def test_draws_share_passes_up_to_so_many_rows(linear, rows, passes):
    seen = []
    model = nn.Sequential(Noise(per_example=True), linear.net)
    model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    torch.manual_seed(0)
    grad, value, logits = input_gradient(Surrogate(model, model, rows=rows), x, y, OBJECTIVES["margin"], 20)
    assert (len(seen), sum(seen)) == (passes, 80)
    assert (grad.shape, value.shape, logits.shape) == (x.shape, (4,), (4, 2))
    torch.testing.assert_close(grad, input_gradient(linear.net, x, y, OBJECTIVES["margin"])[0])  # linear: any draw's


def test_an_evaluation_takes_several_draws_in_one_pass_where_it_may(linear):
    largest = {}
    for per_example in (True, False):
        noise, sizes = Noise(per_example=per_example), set()

        def note(_, args, sizes=sizes):
            sizes.add(len(args[0]) if args[0].requires_grad else 0)

        noise.register_forward_pre_hook(note)
        report = run(nn.Sequential(noise, linear.net), linear, n_examples=10, batch_size=100)
        assert report.eot == 20
        largest[per_example] = max(sizes)
    assert largest[False] <= 10 < largest[True] <= 100
