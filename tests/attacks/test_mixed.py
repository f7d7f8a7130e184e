"""Mixed adversaries: one of several for each example, in the ball of that one, at the cost that is stated."""

from math import exp, inf, lgamma, log, pi

import pytest
import torch
from torch import Tensor, nn

from art_ext.attacks import InnerPGD, MixedAdversaries, equal_volume_radius, get_objective, mixed_pgd, pgd
from art_ext.engine.validation import Validation
from art_ext.processes import Processes, SharedGenerator
from art_ext.threat import ThreatModel
from art_ext.trainers import RobustTrainer

LINF, L2 = ThreatModel("linf", 0.03), ThreatModel("l2", 0.32)  # neither is always the worse one
BOTH = (LINF, L2)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Counting(nn.Module):
    """Counts forwards and backwards and the rows of each."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body, self.forwards, self.backwards = body, list[int](), 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards.append(len(x))
        logits = self.body(x)
        if logits.requires_grad:
            logits.register_hook(self._count)
        return logits

    def _count(self, _: Tensor) -> None:
        self.backwards += 1


def exact_volume_radius(eps, d):
    """From the volume of the ball, π^(d/2) r^d / Γ(d/2 + 1) = (2 ε)^d."""
    return exp((d * log(2 * eps) + lgamma(d / 2 + 1) - d / 2 * log(pi)) / d)


@pytest.mark.parametrize("eps, expected", [(0.03, 0.805), (0.031, 0.832), (0.0314, 0.842)])
def test_equal_volume_on_cifar(eps, expected):
    assert equal_volume_radius(eps, 3072) == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("d, tolerance", [(3072, 0.0016), (3 * 224 * 224, 5e-5)])
def test_equal_volume_is_the_limit_of_many_dimensions(d, tolerance):
    ratio = exact_volume_radius(0.03, d) / equal_volume_radius(0.03, d)
    assert 1 < ratio < 1 + tolerance


# ---- the choice -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["ce", "margin", "kl"])
@pytest.mark.parametrize("threats", [BOTH, (L2, LINF, ThreatModel("l2", 0.2))], ids=["two", "three"])
def test_max_is_the_worst_of_them_for_each_example(conv_model, images, objective, threats):
    x, y = images
    start = "gaussian" if objective == "kl" else False
    how = {"steps": 3, "objective": objective, "random_start": start}
    found = mixed_pgd(conv_model, x, y, threats=threats, generator=seeded(), **how)
    generator = seeded()  # they draw one after the other
    each = torch.stack([pgd(conv_model, x, y, threat=t, generator=generator, **how) for t in threats])
    target = conv_model(x) if objective == "kl" else y
    values = torch.stack([get_objective(objective)(conv_model(x_adv), target) for x_adv in each])
    worst = values.argmax(0)
    assert len(worst.unique()) >= 2
    assert torch.equal(found, each[worst, torch.arange(len(x))])


@pytest.mark.parametrize("norm_first", [True, False], ids=["ℓ∞ first", "ℓ2 first"])
def test_max_on_a_linear_model_is_the_ball_that_reaches_farther(linear_model, images, norm_first):
    """One step of ε along the gradient w of two logits' difference gains ε ‖w‖₁ or ε ‖w‖₂."""
    x, y = images[0] * 0.2 + 0.4, images[1]
    weight = linear_model[1].weight.detach()
    balls = [ThreatModel("linf", 0.01), ThreatModel("l2", 0.115)]
    threats = balls if norm_first else balls[::-1]
    steps = [float(t.eps) for t in threats]
    x_adv = mixed_pgd(
        linear_model, x, y, threats=threats, steps=1, step_size=steps, objective="margin", random_start=False
    )
    rival = linear_model(x).scatter(1, y[:, None], -inf).argmax(1)
    w = weight[rival] - weight[y]
    reach = torch.stack((0.01 * w.abs().sum(1), 0.115 * w.norm(dim=1)))
    other = balls[0].distance(x_adv, x) > 0.0101  # no ℓ∞ step is as large in any pixel
    far = (reach[0] - reach[1]).abs() > 1e-4  # where the rival stays the rival
    assert torch.equal(other[far], (reach[1] > reach[0])[far])


def test_rand_is_each_adversary_as_if_alone(conv_model, images):
    x, y = images
    how = {"steps": 4, "random_start": False}
    found = mixed_pgd(conv_model, x, y, threats=BOTH, choose="rand", step_size=[0.01, None], generator=seeded(3), **how)
    which = torch.randint(2, (len(x),), generator=seeded(3))
    each = torch.stack(
        [pgd(conv_model, x, y, threat=t, step_size=s, **how) for t, s in zip(BOTH, (0.01, None), strict=True)]
    )
    assert len(which.unique()) == 2
    torch.testing.assert_close(found, each[which, torch.arange(len(x))], rtol=0, atol=1e-6)


def test_rand_draws_evenly():
    n, threats = 3000, (LINF, ThreatModel("linf", 0.1), ThreatModel("linf", 0.2))
    x = torch.full((n, 1), 0.5)
    net = nn.Linear(1, 2)
    x_adv = mixed_pgd(net, x, torch.zeros(n, dtype=torch.int64), threats=threats, choose="rand", generator=seeded())
    sizes = (x_adv - x).abs().squeeze(1)
    counts = torch.stack([(sizes - t.eps).abs() < 1e-4 for t in threats]).sum(1)
    assert counts.sum() == n
    assert ((counts - n / 3).abs() < 5 * (n * 2 / 9) ** 0.5).all()  # five standard deviations


def test_one_threat_model_with_two_step_sizes(linear_model, images):
    x, y = images
    found = [
        mixed_pgd(
            linear_model,
            x,
            y,
            threats=(LINF, LINF),
            choose="rand",
            steps=1,
            step_size=[0.01, 0.02],
            random_start=False,
            generator=seeded(seed),
        )
        for seed in range(2)
    ]
    sizes = {round(size, 4) for size in LINF.distance(torch.cat(found), torch.cat((x, x))).tolist()}
    assert sizes == {0.01, 0.02}


def test_the_processes_of_one_batch_draw_what_one_alone_would(conv_model, images):
    x, y = images
    how = {"threats": BOTH, "choose": "rand", "steps": 2}
    alone = mixed_pgd(conv_model, x, y, generator=seeded(), **how)
    parts = []
    for rank in range(2):
        rows = Processes(rank, 2).rows(len(x))
        generator = SharedGenerator()
        generator.manual_seed(0)
        generator.share(len(x), rows.start, rows.stop - rows.start)
        parts.append(mixed_pgd(conv_model, x[rows], y[rows], generator=generator, **how))
    torch.testing.assert_close(torch.cat(parts), alone, rtol=0, atol=1e-6)


# ---- what it keeps to -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choose", ["max", "rand"])
@pytest.mark.parametrize("random_start", ["uniform", "gaussian", False])
@pytest.mark.parametrize("clip", [(0.0, 1.0), None], ids=["images", "unbounded"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
def test_each_example_is_in_a_ball_and_in_the_range(conv_model, images, choose, random_start, clip, channels_last):
    x, y = images
    x = x.contiguous(memory_format=torch.channels_last) if channels_last else x
    before = x.clone()
    threats = [ThreatModel(t.norm, t.eps, clip) for t in BOTH]
    x_adv = mixed_pgd(conv_model, x, y, threats=threats, choose=choose, steps=3, random_start=random_start)
    inside = torch.stack([t.distance(x_adv, x) <= t.eps + 1e-6 for t in threats])
    assert inside.any(0).all()
    assert not inside.all(0).all()  # else nothing was mixed
    assert clip is None or (x_adv.min() >= 0 and x_adv.max() <= 1)
    assert torch.equal(x, before)
    assert x_adv.stride() == x.stride()


@pytest.mark.parametrize(
    "choose, objective, forwards, backwards",
    [
        pytest.param("rand", "ce", 5, 5, id="rand costs one PGD"),
        pytest.param("rand", "kl", 6, 5, id="rand, KL"),
        pytest.param("max", "ce", 2 * 5 + 2, 10, id="max costs two, and two forwards"),
        pytest.param("max", "kl", 2 * 5 + 2 + 1, 10, id="max, KL: one clean forward for both"),
    ],
)
def test_cost(conv_model, images, choose, objective, forwards, backwards):
    counting = Counting(conv_model)
    mixed_pgd(counting, *images, threats=BOTH, choose=choose, steps=5, objective=objective)
    assert counting.forwards == [16] * forwards
    assert counting.backwards == backwards


@pytest.mark.parametrize("choose", ["max", "rand"])
def test_the_model_is_left_as_it_was(conv_model, images, choose):
    conv_model.train()
    conv_model[1].eval()
    conv_model[0].bias.requires_grad_(False)
    modes, weights = (
        [m.training for m in conv_model.modules()],
        {k: v.clone() for k, v in conv_model.state_dict().items()},
    )
    x_adv = mixed_pgd(conv_model, *images, threats=BOTH, choose=choose, steps=2)
    assert [m.training for m in conv_model.modules()] == modes
    assert all(torch.equal(value, weights[name]) for name, value in conv_model.state_dict().items())
    assert [p.requires_grad for p in conv_model.parameters()] == [
        name != "0.bias" for name, _ in conv_model.named_parameters()
    ]
    assert all(p.grad is None for p in conv_model.parameters())
    assert not x_adv.requires_grad


@pytest.mark.parametrize("choose", ["max", "rand"])
def test_a_generator_makes_it_reproducible_and_spares_the_global_one(conv_model, images, choose):
    state = torch.get_rng_state()
    first, again, other = (
        mixed_pgd(conv_model, *images, threats=BOTH, choose=choose, steps=1, generator=seeded(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("choose, times", [("max", 2), ("rand", 1)])
def test_a_change_before_each_step(conv_model, images, choose, times):
    seen = []

    def note(x_adv: Tensor, x: Tensor) -> Tensor:
        seen.append(len(x_adv))
        return x_adv

    attack = MixedAdversaries(BOTH, choose, steps=3).before_each_step(note).before_each_step(note)
    attack(conv_model, *images)
    assert seen == [16] * (2 * 3 * times)


# ---- in training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaging", [None, "piat"])
@pytest.mark.parametrize("choose", ["max", "rand"])
def test_a_trainer_takes_it_and_judges_by_its_own_threat(trainable, conv_model, images, monkeypatch, choose, averaging):
    judged = []
    monkeypatch.setattr(Validation, "accuracies", lambda self, model: (judged.append(self.threat), (0.5, 0.5))[1])
    x, y = images[0].numpy(), images[1].numpy()
    attack = MixedAdversaries(BOTH, choose, steps=1)
    threat = ThreatModel("linf", 8 / 255)
    trainer = RobustTrainer(
        trainable(conv_model), threat=threat, attack=attack, averaging=averaging, techniques=["awp"], progress=False
    )
    trainer.fit(x, y, nb_epochs=2, batch_size=8, validation_data=(x, y))
    assert trainer.attack is attack
    assert trainer._run.task.attacks_forward_only
    assert judged == [threat, threat]
    assert "MixedAdversaries" in trainer._run.identity["attack"]


def test_losses_that_need_pgd_refuse_it(trainable, conv_model):
    with pytest.raises(ValueError, match="leave attack out"):
        RobustTrainer(trainable(conv_model), threat=LINF, attack=MixedAdversaries(BOTH), loss="cfa-at")


BAD = {
    "one threat model": ({"threats": [LINF]}, ValueError, "at least two threat models .* for one, leave attack out"),
    "one that is no list": ({"threats": LINF}, ValueError, "at least two threat models"),
    "no threat model": ({"threats": [LINF, "l2"]}, TypeError, "threats must be ThreatModel objects; got str"),
    "clip ranges": (
        {"threats": [LINF, ThreatModel("l2", 0.3, clip=None)]},
        ValueError,
        "threats must share one clip range",
    ),
    "choice": ({"choose": "mx"}, ValueError, "unknown choice among adversaries 'mx'; did you mean 'max'"),
    "steps": ({"steps": 0}, ValueError, "steps must be a whole number of at least 1; got 0"),
    "one step size": ({"step_size": 0.01}, TypeError, "step_size must give each of the threats its own"),
    "step sizes": ({"step_size": [0.01]}, ValueError, "step_size must have a number for each of the 2 threats"),
    "negative step size": ({"step_size": [0.01, -1.0]}, ValueError, "step_size must be > 0"),
    "objective": ({"objective": "cee"}, ValueError, "unknown objective 'cee'; did you mean 'ce'"),
}


@pytest.mark.parametrize("make", ["object", "function"])
@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(conv_model, images, make, change, error, message):
    arguments = {"threats": BOTH} | change
    with pytest.raises(error, match=message):
        MixedAdversaries(**arguments) if make == "object" else mixed_pgd(conv_model, *images, **arguments)


@pytest.mark.parametrize(
    "eps, dimension, message",
    [(0.0, 3, "eps must be > 0"), (inf, 3, "eps must be > 0 and finite"), (0.1, 0, "dimension must be")],
)
def test_bad_volumes(eps, dimension, message):
    with pytest.raises(ValueError, match=message):
        equal_volume_radius(eps, dimension)


def test_pgd_of_one_threat_model_is_not_mixed(conv_model, images):
    """Rand over one ball twice is that ball's PGD."""
    how = {"steps": 3}
    twice = MixedAdversaries((LINF, LINF), "rand", start=False, **how)(conv_model, *images)
    torch.testing.assert_close(twice, InnerPGD(LINF, start=False, **how)(conv_model, *images), rtol=0, atol=1e-6)
