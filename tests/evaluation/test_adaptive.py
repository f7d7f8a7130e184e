"""Adaptive suites: which attacks a defense has to face, that they reach through it, and when they run."""

from collections import Counter

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import apgd
from art_ext.evaluation import FunctionAttack, PGDAttack, evaluate
from art_ext.evaluation.adaptive import adaptive_suite, default_suite
from art_ext.evaluation.adaptive.quantization import across_thresholds, through_surrogate, with_gradient_of
from art_ext.evaluation.adaptive.randomness import Averaged, on_the_vote, over_outcomes
from art_ext.model import DefendedModel, Surrogate
from art_ext.nn.interference import Interference
from art_ext.nn.noise import Noise
from art_ext.nn.quantization import SoftQuantizer
from art_ext.nn.soft_vote import SoftVote
from art_ext.preprocessors import INNPreprocessor, NoiseInjection, SoftQuantization
from art_ext.threat import ThreatModel

SHAPE = (3, 4, 4)
BACKGROUNDS = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(1))
NOISE_ONLY = {"beta": 0.0, "gamma": 0.0}


def names(suite) -> list[str]:
    return [item if isinstance(item, str) else item.name for item in suite]


AVERAGED = ["apgd-ce", "apgd-dlr"]
LISTED = ["APGD-CE over all backgrounds", "APGD-DLR over all backgrounds"]
VOTE = ["APGD-CE on the vote of draws"]
STEPS = ["APGD-CE through identity", "APGD-DLR through identity"]
ENDING = ["threshold crossing", "Square"]
SUITES = {
    "interference": (Interference(BACKGROUNDS), AVERAGED + LISTED + VOTE),
    "backgrounds only": (Interference(BACKGROUNDS, **NOISE_ONLY), AVERAGED + VOTE),
    "one background, no noise": (Interference(BACKGROUNDS[:1], **NOISE_ONLY), AVERAGED),
    "noise without backgrounds": (Interference(BACKGROUNDS[:0]), AVERAGED + VOTE),
    "noise": (Noise(0.1), ["APGD-CE, 32 draws", "APGD-DLR, 32 draws", *VOTE]),
    "vote": (SoftVote(nn.Linear(2, 2), transform=Interference(BACKGROUNDS, **NOISE_ONLY)), AVERAGED),
    "vote of networks": (SoftVote(nn.Linear(2, 2)), AVERAGED),
    "vote, noisy": (
        SoftVote(nn.Linear(2, 2), transform=Interference(BACKGROUNDS)),
        ["APGD-CE, 11 draws", "APGD-DLR, 11 draws"],
    ),
    "vote, single": (
        SoftVote(nn.Linear(2, 2), transform=Interference(BACKGROUNDS), every_outcome=False),
        ["APGD-CE, 32 draws", "APGD-DLR, 32 draws", *LISTED],
    ),
    "vote, one draw of noise": (
        SoftVote(nn.Linear(2, 2), transform=nn.Sequential(Noise(0.1)), draws=1),
        ["APGD-CE, 32 draws", "APGD-DLR, 32 draws"],
    ),
    "vote, enough draws of noise": (SoftVote(nn.Linear(2, 2), transform=Noise(0.1), draws=40), AVERAGED),
    "very soft": (SoftQuantizer(temperature=1.0), STEPS + ENDING),
    "sharp": (
        SoftQuantizer(levels=3, temperature=0.05),
        [
            *STEPS,
            "APGD-CE through temperature 0.075",
            "APGD-CE through temperature 0.25",
            "APGD-T in float64",
            *ENDING,
        ],
    ),
    "hard": (
        SoftQuantizer(levels=2, hard=True),
        [*STEPS, *(f"APGD-CE through temperature {t}" for t in ("0.05", "0.15", "0.5")), *ENDING],
    ),
    "nothing": (nn.ReLU(), []),
}


@pytest.mark.parametrize("part, expected", SUITES.values(), ids=SUITES)
def test_what_each_part_has_to_face(part, expected):
    assert names(adaptive_suite(part)) == expected


DEFENSES = {
    "inn": (INNPreprocessor(input_shape=SHAPE), AVERAGED[:1] + LISTED + VOTE),
    "soft quantization": (SoftQuantization(temperature=1.0), STEPS + ENDING),
    "noise": (NoiseInjection(scale=0.1), ["APGD-CE, 32 draws", "APGD-DLR, 32 draws", *VOTE]),
}


@pytest.mark.parametrize("preprocessor, expected", DEFENSES.values(), ids=DEFENSES)
def test_the_union_of_a_model(preprocessor, expected):
    """``fast`` has APGD-DLR already, and two of the same defense do not ask twice."""
    chain = [preprocessor, preprocessor]
    classifier = PyTorchClassifier(
        nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), nn.CrossEntropyLoss(), SHAPE, 3, preprocessing_defences=chain
    )
    name, suite = default_suite(DefendedModel(classifier))
    assert name == "fast + adaptive"
    assert names(suite) == ["fast", *expected]
    assert names(preprocessor.adaptive_suite()) == names(preprocessor.adaptive_suite(ThreatModel("linf", 0.1)))


def test_a_vote_answers_for_what_it_takes_the_mean_over():
    inner = nn.Sequential(SoftQuantizer(temperature=1.0), nn.Linear(2, 2))
    vote = SoftVote(inner, transform=nn.Sequential(Interference(BACKGROUNDS), Noise(0.1)))
    averaged = ["APGD-CE, 11 draws", "APGD-DLR, 11 draws"]
    assert names(default_suite(vote)[1]) == ["fast", *averaged, *STEPS, *ENDING]


IDLE = {
    "noise": (lambda act: NoiseInjection(scale=0.1, apply_fit=True, apply_predict=act), ["APGD-CE, 32 draws"]),
    "soft quantization": (lambda act: SoftQuantization(temperature=1.0, apply_predict=act), STEPS),
    "inn": (lambda act: INNPreprocessor(input_shape=SHAPE, apply_predict=act), LISTED),
}


@pytest.mark.parametrize("build, some", IDLE.values(), ids=IDLE)
def test_what_acts_in_training_alone_is_not_attacked(build, some):
    for acts in (False, True):
        classifier = PyTorchClassifier(
            nn.Sequential(nn.Flatten(), nn.Linear(48, 3)),
            nn.CrossEntropyLoss(),
            SHAPE,
            3,
            preprocessing_defences=[build(acts)],
        )
        name, suite = default_suite(DefendedModel(classifier))
        assert set(some) <= set(names(suite)) if acts else (name, suite) == ("fast", ["fast"])


class Own(nn.Module):
    """A defense of somebody else's, which knows its attack."""

    def forward(self, x):
        return x

    def adaptive_suite(self, threat):
        assert threat.norm == "linf"
        return [PGDAttack(name="mine", steps=2)]


RUNS = {
    "none given": ({}, "fast + adaptive", ["FGSM", "PGD-20", "APGD-DLR", "APGD-T fast", "mine"]),
    "a suite given": ({"suite": "fast"}, "fast", ["FGSM", "PGD-20", "APGD-DLR", "APGD-T fast"]),
    "a list given": ({"suite": ["fgsm"]}, "custom", ["FGSM"]),
}


@pytest.mark.parametrize("options, told, attacks", RUNS.values(), ids=RUNS)
def test_which_attacks_an_evaluation_runs(linear, options, told, attacks):
    net = nn.Sequential(Own(), linear.net)
    report = evaluate(net, linear.x, linear.y, threat=ThreatModel("linf", 0.01), progress=False, **options)
    assert report.suite == told
    assert list(report.attacks) == attacks


def test_a_model_without_a_defense_gets_the_fast_suite(linear):
    report = evaluate(linear.net, linear.x, linear.y, threat=ThreatModel("linf", 0.01), progress=False)
    assert report.suite == "fast"


@pytest.fixture
def masked(linear) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model behind steps so sharp that float32 has no gradient, and its exact worst case at ε = 0.05."""
    net = nn.Sequential(SoftQuantizer(levels=2, temperature=1e-4), *linear.net)
    x = torch.from_numpy(linear.x)
    y = net(x).argmax(1)
    weight, bias = (p.detach().double() for p in (linear.net[1].weight, linear.net[1].bias))
    sign = 2.0 * y.double() - 1
    w, flat = (weight[1] - weight[0]) * sign[:, None], x.flatten(1).double()
    low, high = (flat - 0.05 > 0.5).double(), (flat + 0.05 > 0.5).double()
    margins = torch.minimum(w * low, w * high).sum(1) + sign * (bias[1] - bias[0])
    return net, x, y, margins > 0


def test_masked_gradients_do_not_help_against_the_adaptive_suite(masked):
    net, x, y, standing = masked
    threat = ThreatModel("linf", 0.05)
    options = {"threat": threat, "progress": False, "precision": "fp32", "indicators": False}
    plain = evaluate(net, x.numpy(), y.numpy(), suite="fast", **options)
    adaptive = evaluate(net, x.numpy(), y.numpy(), **options)
    exact = standing.float().mean().item()
    assert 0 < exact < 0.9
    assert plain.robust_accuracy > exact + 0.1
    assert adaptive.robust_accuracy == pytest.approx(exact, abs=0.02)
    accuracies = {name: result.accuracy for name, result in adaptive.attacks.items()}
    assert accuracies["APGD-CE through identity"] < accuracies["PGD-20"]
    assert accuracies["threshold crossing"] == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_surrogates_of_other_precisions_are_attacked_and_judged_exactly(masked, precision):
    net, x, y, standing = masked
    suite = [item for item in adaptive_suite(net[0]) if not isinstance(item, str) and item.name == STEPS[0]]
    report = evaluate(
        net,
        x.numpy(),
        y.numpy(),
        threat=ThreatModel("linf", 0.05),
        suite=suite,
        precision=precision,
        indicators=False,
        progress=False,
    )
    assert report.robust_accuracy == pytest.approx(standing.float().mean().item(), abs=0.03)


def test_the_judge_sees_no_surrogate(masked):
    net, x, _, _ = masked
    pair = with_gradient_of(Surrogate(net, net, rows=7), "identity")
    assert (pair.rows, pair.exact) == (7, net)
    images = x[:4].clone().requires_grad_()
    assert float(torch.autograd.grad(pair(images).sum(), images)[0].abs().max()) > 1e-2
    assert float(torch.autograd.grad(net(images).sum(), images)[0].abs().max()) < 1e-6
    torch.testing.assert_close(pair(x), net(x))


def test_thresholds_need_a_quantizer(linear):
    x, y = torch.from_numpy(linear.x), torch.from_numpy(linear.y)
    options = {"threat": ThreatModel("linf", 0.1), "generator": torch.Generator()}
    with pytest.raises(ValueError, match="model must have a SoftQuantizer"):
        across_thresholds(linear.net, x, y, **options)
    assert through_surrogate(linear.net, x, y, attack=apgd, surrogate="identity", steps=2, **options).shape == x.shape


class Watched(Interference):
    """Notes which background each pass with gradients had."""

    def forward(self, x):
        if torch.is_grad_enabled() and x.requires_grad:
            self.seen.append(self._chosen)
        return super().forward(x)


@pytest.mark.parametrize(
    "draws, eot, passes", [(6, 1, 6), (7, 1, 9), (3, 20, 21)], ids=["whole", "rounded up", "as the evaluation asks"]
)
def test_each_gradient_takes_all_backgrounds_as_often(linear, draws, eot, passes):
    watched = Watched(BACKGROUNDS)
    watched.seen = []
    net = nn.Sequential(watched, linear.net)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    options = {"threat": ThreatModel("linf", 0.01), "generator": torch.Generator().manual_seed(0)}
    over_outcomes(net, x, y, attack=apgd, steps=2, draws=draws, eot=eot, **options)
    assert len(watched.seen) == 3 * passes  # the start and two steps
    for begin in range(0, len(watched.seen), passes):
        assert set(Counter(watched.seen[begin : begin + passes]).values()) == {passes // 3}
    assert watched._chosen is None


def test_the_gradient_of_a_vote_is_taken_over_all_backgrounds(linear):
    watched = Watched(BACKGROUNDS)
    watched.seen = []
    net = nn.Sequential(watched, linear.net)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    options = {"threat": ThreatModel("linf", 0.01), "generator": torch.Generator().manual_seed(0)}
    on_the_vote(net, x, y, attack=apgd, steps=1, draws=4, **options)
    assert Counter(watched.seen) == {0: 8, 1: 8, 2: 8}  # two looks of two votes of six draws


def test_the_float64_attack_averages_draws(linear):
    calls = []

    def note(_, args):
        if args[0].requires_grad:
            calls.append(args[0].dtype)

    net = nn.Sequential(Noise(0.1), linear.net).eval()
    net.register_forward_pre_hook(note)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    options = {"threat": ThreatModel("linf", 0.01), "generator": torch.Generator().manual_seed(0)}
    attack = next(a for a in adaptive_suite(SoftQuantizer(temperature=0.05)) if "float64" in getattr(a, "name", a))
    attack.run(net, x, y, eot=3, **options)
    assert calls == [torch.float64] * 3 * 101  # one target, the start and a hundred steps: no lucky draw ends it


@pytest.mark.parametrize("eot, passes", [(1, 5), (3, 5), (7, 7)])
def test_averages_are_over_enough_draws(linear, eot, passes):
    calls = []
    net = nn.Sequential(Noise(0.1), linear.net)
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    attack = Averaged(attack=FunctionAttack(name="APGD", function=apgd, options={"steps": 1}), draws=5)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    attack.run(net, x, y, threat=ThreatModel("linf", 0.01), eot=eot, generator=torch.Generator())
    assert len(calls) == 2 * passes


def test_averages_take_whole_rounds_of_listed_outcomes(linear):
    calls = []
    net = nn.Sequential(Interference(BACKGROUNDS, **NOISE_ONLY), linear.net)
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    attack = Averaged(attack=FunctionAttack(name="APGD", function=apgd, options={"steps": 1}), draws=5)
    x, y = torch.from_numpy(linear.x[:4]), torch.from_numpy(linear.y[:4])
    attack.run(net, x, y, threat=ThreatModel("linf", 0.01), eot=3, generator=torch.Generator())
    assert len(calls) == 12


@pytest.mark.slow
def test_listed_backgrounds_are_judged_exactly(linear):
    """The accuracy of the mixture is the mean over the networks that it mixes."""
    preprocessor = INNPreprocessor(input_shape=SHAPE, backgrounds=BACKGROUNDS, alpha=0.5, **NOISE_ONLY)
    classifier = PyTorchClassifier(
        linear.net, nn.CrossEntropyLoss(), SHAPE, 2, clip_values=(0, 1), preprocessing_defences=[preprocessor]
    )
    report = evaluate(classifier, linear.x, linear.y, threat=ThreatModel("linf", 0.02), progress=False)
    assert (report.randomised, report.outcomes, report.eot) == (True, 3, 3)
    x, y = torch.from_numpy(linear.x), torch.from_numpy(linear.y)
    right = [linear.net((x + 0.5 * b).clamp(0, 1)).argmax(1) == y for b in BACKGROUNDS]
    assert report.clean_accuracy == pytest.approx(torch.stack(right).float().mean().item())
    assert not next(i for i in report.indicators if i.name == "randomised output").flagged


@pytest.mark.slow
def test_noise_is_not_taken_for_robustness(linear):
    """Against draws of its own, noise that hides the gradient of a single pass does not hide that of 32."""
    net = nn.Sequential(Noise(0.3, clip=None), linear.net)
    y = linear.net(torch.from_numpy(linear.x)).argmax(1).numpy()
    threat = ThreatModel("linf", 0.05)
    report = evaluate(net, linear.x, y, threat=threat, suite=adaptive_suite(net[0]), progress=False)
    assert not next(i for i in report.indicators if i.name == "randomised output").flagged
    weight, bias = (p.detach().numpy() for p in (linear.net[1].weight, linear.net[1].bias))
    w, b = weight[1] - weight[0], bias[1] - bias[0]
    sign = 2.0 * y - 1
    flat = linear.x.reshape(len(y), -1)
    worst = sign * ((flat - 0.05 * np.sign(sign[:, None] * w)).clip(0, 1) @ w + b)
    # a linear model under Gaussian noise is right with probability Φ(margin / (σ‖w‖))
    share = torch.distributions.Normal(0, 1).cdf(torch.tensor(worst / (0.3 * np.linalg.norm(w))))
    for label, result in report.attacks.items():
        assert result.accuracy == pytest.approx(float(share.mean()), abs=0.06), label
