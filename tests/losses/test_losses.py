"""Every registered loss against the formula of its paper or code, written again in numpy and float64."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from art_ext.attacks import OBJECTIVES
from art_ext.attacks.pgd import STARTS
from art_ext.losses import ALP, LOSSES, FunctionLoss, Loss, alp, get_loss, mail, mart, nmse, register, trades
from art_ext.losses.mail import margin_weights

Array = np.ndarray

# The formulas again


def log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def softmax(z: Array) -> Array:
    return np.exp(log_softmax(z))


def ce(z: Array, y: Array) -> Array:
    return -log_softmax(z)[np.arange(len(y)), y]


def kl(z: Array, z_adv: Array) -> Array:
    return (softmax(z) * (log_softmax(z) - log_softmax(z_adv))).sum(axis=1)


def best_other(p: Array, y: Array) -> Array:
    return np.array([np.delete(row, label).max() for row, label in zip(p, y, strict=True)])


def pgd_at_truth(z: Array, z_adv: Array, y: Array, *, label_smoothing: float = 0.0) -> float:
    uniform = -log_softmax(z_adv).mean(axis=1)
    return ((1 - label_smoothing) * ce(z_adv, y) + label_smoothing * uniform).mean()


def pairing_truth(z: Array, z_adv: Array) -> float:
    return ((z - z_adv) ** 2).mean()


def alp_truth(z: Array, z_adv: Array, y: Array, *, weight: float = 0.5, ce_on: str = "both") -> float:
    if ce_on == "adv":  # the baseline of the PIAT paper: squared norm, so the sum over classes
        return ce(z_adv, y).mean() + weight * ((z - z_adv) ** 2).sum(axis=1).mean()
    return np.concatenate((ce(z, y), ce(z_adv, y))).mean() + weight * pairing_truth(z, z_adv)


def nmse_term_truth(z: Array, z_adv: Array, y: Array) -> float:
    unit, unit_adv = (v / np.sqrt((v**2).sum(axis=1, keepdims=True)) for v in (z, z_adv))
    return ((1 - softmax(z)[np.arange(len(y)), y]) * ((unit_adv - unit) ** 2).sum(axis=1)).mean()


def nmse_truth(z: Array, z_adv: Array, y: Array, *, mu: float = 4.0, ce_on: str = "adv") -> float:
    return ce(z_adv if ce_on == "adv" else z, y).mean() + mu * nmse_term_truth(z, z_adv, y)


def trades_truth(z: Array, z_adv: Array, y: Array, *, beta: float = 6.0) -> float:
    return ce(z, y).mean() + beta * kl(z, z_adv).mean()


def bce(z_adv: Array, y: Array) -> Array:
    return ce(z_adv, y) - np.log(1.0001 - best_other(softmax(z_adv), y) + 1e-12)


def mart_kl(z: Array, z_adv: Array, y: Array) -> Array:
    p, p_adv = softmax(z), softmax(z_adv)
    return (1.0000001 - p[np.arange(len(y)), y]) * (p * (log_softmax(z) - np.log(p_adv + 1e-12))).sum(axis=1)


def mart_truth(z: Array, z_adv: Array, y: Array, *, beta: float = 5.0) -> float:
    return bce(z_adv, y).mean() + beta * mart_kl(z, z_adv, y).mean()


def omega(z_adv: Array, y: Array, slope: float, bias: float, normalise: bool = False) -> Array:
    p = softmax(z_adv)
    weights = 3 / (1 + np.exp(-slope * (best_other(p, y) - p[np.arange(len(y)), y] + bias)))
    return weights / weights.mean() if normalise else weights


def mail_truth(
    z: Array,
    z_adv: Array,
    y: Array,
    *,
    slope: float = 10.0,
    bias: float = -0.5,
    normalise: bool = False,
    weights: Array | None = None,
) -> float:
    return ((omega(z_adv, y, slope, bias, normalise) if weights is None else weights) * ce(z_adv, y)).mean()


def mail_trades_truth(
    z: Array,
    z_adv: Array,
    y: Array,
    *,
    slope: float = 2.0,
    bias: float = 0.0,
    normalise: bool = False,
    beta: float = 5.0,
    weights: Array | None = None,
) -> float:
    weights = omega(z_adv, y, slope, bias, normalise) if weights is None else weights
    return ce(z, y).mean() + beta * (weights * kl(z, z_adv)).mean()


def mail_mart_truth(
    z: Array,
    z_adv: Array,
    y: Array,
    *,
    slope: float = 10.0,
    bias: float = -0.5,
    normalise: bool = False,
    beta: float = 5.0,
    weights: Array | None = None,
) -> float:
    weights = omega(z_adv, y, slope, bias, normalise) if weights is None else weights
    return (weights * bce(z_adv, y)).mean() + beta * mart_kl(z, z_adv, y).mean()


def cfa_truth(z: Array, z_adv: Array, y: Array, *, beta: float = 6.0, shares: Any = None, **_: Any) -> float:
    w = np.full(z.shape[1], beta / (1 + beta)) if shares is None else np.asarray(shares)
    return ((1 - w[y]) * ce(z, y) + w[y] * kl(z, z_adv)).mean()


def cfa_at_truth(z: Array, z_adv: Array, y: Array, **_: Any) -> float:
    return ce(z_adv, y).mean()


def rat_labels(gap: Array) -> Array:
    """As the authors' code builds them, row by row; 0.2 and 0.02 for 10 and 100 classes are 2/C."""
    classes = len(gap)
    rows = []
    for k in range(classes):
        others = (gap - gap.min()).copy()
        others[k] = 0
        if others.sum() == 0:
            others = np.ones(classes)
            others[k] = 0
        row = others / others.sum() * (1 - 2 / classes)
        row[k] = 2 / classes
        rows.append(row)
    return np.array(rows)


def rat_truth(
    z: Array, z_adv: Array, y: Array, *, alpha: float = 0.2, beta: float = 6.0, labels: Any = None, **_: Any
) -> float:
    labels = rat_targets(z, z_adv, y) if labels is None else labels
    terms = [
        np.where(t > 0, t * (np.log(np.where(t > 0, t, 1)) - log_softmax(at)), 0).sum(axis=1).mean()
        for t, at in zip(labels, (z_adv, z, z_adv, z), strict=True)
    ]
    taylor = alpha * (terms[0] + terms[1]) / 2 + alpha / 2 * (terms[2] + terms[3]) / 2
    return (1 - alpha) * ce(z, y).mean() + beta * kl(z, z_adv).mean() + taylor


def rat_targets(z: Array, z_adv: Array, y: Array) -> list[Array]:
    g, g_adv = ((softmax(v) - np.eye(v.shape[1])[y]).mean(axis=0) for v in (z, z_adv))
    first, second = abs(g) - abs(g_adv), g**2 - g_adv**2
    return [rat_labels(gap)[y] for gap in (first, -first, second, -second)]


TRUTHS: dict[str, Callable[..., float]] = {  # registered name -> (z, z', y, **options) -> value
    "pgd-at": pgd_at_truth,
    "alp": alp_truth,
    "nmse": nmse_truth,
    "trades": trades_truth,
    "mart": mart_truth,
    "mail": mail_truth,
    "mail-trades": mail_trades_truth,
    "mail-mart": mail_mart_truth,
    "cfa": cfa_truth,
    "cfa-at": cfa_at_truth,
    "rat": rat_truth,
}

VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {  # options to try beside the defaults; each option once at least
    "pgd-at": ({"label_smoothing": 0.1},),
    "alp": ({"weight": 2.0}, {"ce_on": "adv"}),
    "nmse": ({"mu": 1.5}, {"ce_on": "clean"}),
    "trades": ({"beta": 1.0},),
    "mart": ({"beta": 6.0},),
    "mail": ({"slope": 3.0, "bias": 0.2}, {"normalise": True}),
    "mail-trades": ({"slope": 3.0, "bias": 0.2, "beta": 1.0}, {"normalise": True}),
    "mail-mart": ({"slope": 3.0, "bias": 0.2, "beta": 1.0}, {"normalise": True}),
    "cfa": ({"beta": 1.0, "base": 0.2, "after": 3}, {"shares": (0.1, 0.9, 0.5, 1.0, 0.0)}),
    "cfa-at": ({"base": 0.2, "after": 3},),
    "rat": ({"alpha": 0.5, "beta": 1.0, "noise": 0.1},),
}

REWEIGHTED = {  # weights that carry no gradient, and their defaults
    "mail": {"slope": 10.0, "bias": -0.5},
    "mail-trades": {"slope": 2.0, "bias": 0.0},
    "mail-mart": {"slope": 10.0, "bias": -0.5},
}
BURNT_IN = {"mail": pgd_at_truth, "mail-trades": trades_truth, "mail-mart": mart_truth}  # what they are with ω = 1


def truth_of(name: str) -> Callable[..., float]:
    if name not in TRUTHS:
        pytest.fail(f"no independent formula for the loss {name!r}: write it in numpy into TRUTHS in {__file__}")
    return TRUTHS[name]


names = pytest.mark.parametrize("name", LOSSES)
cases = pytest.mark.parametrize(
    "name, options",
    [
        pytest.param(name, options, id="-".join((name, *(f"{k}={v}" for k, v in options.items()))))
        for name in LOSSES
        for options in ({}, *VARIANTS.get(name, ()))
    ],
)


def logits_of(scale: float = 1.0, *, n: int = 7, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """z, z' and y, float64; every class is a label once at least where there are enough examples."""
    generator = torch.Generator().manual_seed(seed)
    z, z_adv = scale * torch.randn(2, n, classes, generator=generator, dtype=torch.float64)
    return z, z_adv, torch.arange(n) % classes


def numpy(*tensors: Tensor) -> tuple[Array, ...]:
    return tuple(t.double().numpy() if t.is_floating_point() else t.numpy() for t in tensors)


# Values


@pytest.mark.parametrize("scale", [0.01, 1.0, 5.0, 50.0])
@cases
def test_value(name, options, scale):
    z, z_adv, y = logits_of(scale)
    value = get_loss(name, **options)(z, z_adv, y)
    assert value.shape == ()
    assert value.item() == pytest.approx(truth_of(name)(*numpy(z, z_adv, y), **options), rel=1e-9)


@cases
def test_value_in_float32(name, options):
    z, z_adv, y = logits_of(2.0)
    z, z_adv = z.float(), z_adv.float()
    value = get_loss(name, **options)(z, z_adv, y)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(truth_of(name)(*numpy(z, z_adv, y), **options), rel=1e-6)


@names
def test_every_option_has_a_variant(name):
    varied = {key for options in VARIANTS.get(name, ()) for key in options}
    missing = {f.name for f in fields(LOSSES[name])} - varied - {"burn_in"}  # which has its own test
    assert not missing, f"add {missing} of the loss {name!r} to VARIANTS in {__file__}"


FUNCTIONS: dict[str, tuple[Callable[[Tensor, Tensor, Tensor], Tensor], Callable[[Array, Array, Array], float]]] = {
    "nmse": (nmse, nmse_term_truth),
    "alp": (lambda z, z_adv, y: alp(z, z_adv), lambda z, z_adv, y: pairing_truth(z, z_adv)),
    "trades": (trades, trades_truth),
    "trades, beta": (lambda *a: trades(*a, beta=2.0), lambda *a: trades_truth(*a, beta=2.0)),
    "mart": (mart, mart_truth),
    "mart, beta": (lambda *a: mart(*a, beta=2.0), lambda *a: mart_truth(*a, beta=2.0)),
    "mail": (lambda z, z_adv, y: mail(z_adv, y), mail_truth),
    "mail, options": (
        lambda z, z_adv, y: mail(z_adv, y, slope=2.0, bias=0.0, normalise=True),
        lambda *a: mail_truth(*a, slope=2.0, bias=0.0, normalise=True),
    ),
}


@pytest.mark.parametrize("function, truth", FUNCTIONS.values(), ids=FUNCTIONS)
def test_pure_function(function, truth):
    arguments = logits_of()
    assert function(*arguments).item() == pytest.approx(truth(*numpy(*arguments)), rel=1e-9)


@pytest.mark.parametrize("name", REWEIGHTED)
@pytest.mark.parametrize("epoch, burns", [(0, True), (74, True), (75, False), (119, False)])
def test_weights_switch_on_at_epoch_75_of_120(name, epoch, burns):
    z, z_adv, y = logits_of()
    options = {"beta": 5.0} if name != "mail" else {}
    truth = BURNT_IN[name] if burns else TRUTHS[name]
    value = get_loss(name)(z, z_adv, y, progress=epoch / 120)
    assert value.item() == pytest.approx(truth(*numpy(z, z_adv, y), **options), rel=1e-9)


def test_normalised_weights_have_mean_one():
    _, z_adv, y = logits_of()
    weights = margin_weights(z_adv, y, slope=10.0, bias=-0.5, normalise=True)
    assert weights.mean().item() == pytest.approx(1)
    assert weights.std() > 0.1


def test_nmse_sees_the_direction_of_the_adversarial_logits_only():
    z, z_adv, y = logits_of()
    factors = torch.linspace(0.1, 30, len(z), dtype=torch.float64)[:, None]
    torch.testing.assert_close(nmse(z, z_adv, y), nmse(z, factors * z_adv, y))


def test_nmse_of_opposite_logits_is_four_times_the_clean_error():
    z, _, y = logits_of()
    error = 1 - z.softmax(1)[torch.arange(len(y)), y]
    torch.testing.assert_close(nmse(z, -z, y), 4 * error.mean())


# Gradients


@cases
def test_nothing_is_detached_but_the_weights_of_mail(name, options):
    """The numerical gradient moves everything: a detached part shows as a difference. MAIL: see the next test."""
    if name == "rat":
        options = {**options, "alpha": 0.0}  # its soft labels: see the test after
    loss, (z, z_adv, y) = get_loss(name, **options), logits_of()
    z.requires_grad_(True)
    z_adv.requires_grad_(True)
    progress = 0.0 if name in REWEIGHTED else 1.0
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, y, progress=progress), (z, z_adv))


@pytest.mark.parametrize("normalise", [False, True], ids=["plain", "normalised"])
@pytest.mark.parametrize("name", REWEIGHTED)
def test_the_weights_of_mail_carry_no_gradient(name, normalise):
    z, z_adv, y = logits_of()
    z0, z0_adv, labels = numpy(z, z_adv, y)
    weights = omega(z0_adv, labels, **REWEIGHTED[name], normalise=normalise)
    leaves = z.requires_grad_(True), z_adv.requires_grad_(True)
    value = get_loss(name, normalise=normalise)(z, z_adv, y)
    gradients = torch.autograd.grad(value, leaves, materialize_grads=True)
    step = 1e-6
    for which, gradient in enumerate(gradients):
        numerical = np.zeros_like(z0)
        for index in np.ndindex(*z0.shape):
            values = []
            for sign in (1, -1):
                moved = [z0.copy(), z0_adv.copy()]
                moved[which][index] += sign * step
                values.append(TRUTHS[name](*moved, labels, weights=weights))
            numerical[index] = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(gradient, numerical, atol=1e-8)  # central differences in float64: step² and ε/step


def test_the_soft_labels_of_rat_carry_no_gradient():
    z, z_adv, y = logits_of()
    arrays = numpy(z, z_adv, y)
    labels = rat_targets(*arrays)
    leaves = z.requires_grad_(True), z_adv.requires_grad_(True)
    gradients = torch.autograd.grad(get_loss("rat")(*leaves, y), leaves)
    step = 1e-6
    for which, gradient in enumerate(gradients):
        numerical = np.zeros(arrays[0].shape)
        for index in np.ndindex(*numerical.shape):
            values = []
            for sign in (1, -1):
                moved = [arrays[0].copy(), arrays[1].copy()]
                moved[which][index] += sign * step
                values.append(rat_truth(*moved, arrays[2], labels=labels))
            numerical[index] = (values[0] - values[1]) / (2 * step)
        np.testing.assert_allclose(gradient, numerical, atol=1e-8)


HARD_LOGITS = {  # z, z' of two examples in float32
    "zero": (torch.zeros(2, 3), torch.zeros(2, 3)),
    "clean zero": (torch.zeros(2, 3), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))),
    "adversarial zero": (torch.randn(2, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 3)),
    "equal": (torch.tensor([[1.0, 2, 3], [0, 5, 1]]),) * 2,
    "certain and right": (torch.tensor([[1e4, 0, 0], [0, 1e4, 0]]),) * 2,
    "certain and wrong": (torch.tensor([[0, 1e4, 0], [1e4, 0, 0]]),) * 2,
    "from right to wrong": (torch.tensor([[1e4, 0, 0], [0, 1e4, 0]]), torch.tensor([[0, 1e4, 0], [1e4, 0, 0]])),
}


@pytest.mark.parametrize("z, z_adv", HARD_LOGITS.values(), ids=HARD_LOGITS)
@cases
def test_hard_logits_give_finite_values_and_gradients(name, options, z, z_adv):
    z, z_adv, y = z.clone().requires_grad_(True), z_adv.clone().requires_grad_(True), torch.tensor([0, 1])
    value = get_loss(name, **options)(z, z_adv, y)
    assert value.isfinite()
    for gradient in torch.autograd.grad(value, (z, z_adv), materialize_grads=True):
        assert gradient.isfinite().all()


@names
def test_no_divergence_between_equal_logits(name):
    """Where x' = x, what pairs the two vanishes, and the rest is the cross entropy or its boosted form."""
    z, _, y = logits_of()
    rest = bce if "mart" in name else ce
    weights = {**REWEIGHTED, "mail-trades": None}.get(name)
    z_, y_ = numpy(z, y)
    plain = rest(z_, y_) if weights is None else omega(z_, y_, **weights) * rest(z_, y_)
    plain = plain / 7 if name == "cfa" else plain  # 1 − w, of w = 6/7
    if name == "rat":  # gradients that do not differ say nothing about the other classes
        targets = np.where(np.eye(5)[y_] > 0, 2 / 5, 3 / 5 / 4)
        towards = (targets * (np.log(targets) - log_softmax(z_))).sum(axis=1)
        plain = 0.8 * plain + 0.3 * towards
    # MART's log(p' + 1e-12) leaves 1e-12 per class
    assert get_loss(name)(z, z, y).item() == pytest.approx(plain.mean(), abs=1e-9)


LOWEST = {"mart": -np.log(1.0001), "mail-mart": -3 * np.log(1.0001)}  # −log(1.0001 − 0), with a weight of at most 3


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 6),
    classes=st.integers(2, 12),
    scale=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 10.0, 1e3]),
    scale_adv=st.sampled_from([0.0, 1e-6, 1e-2, 1.0, 10.0, 1e3]),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@names
def test_finite_and_bounded_below(name, dtype, n, classes, scale, scale_adv, seed):
    z, _, y = logits_of(scale, n=n, classes=classes, seed=seed)
    _, z_adv, _ = logits_of(scale_adv, n=n, classes=classes, seed=seed)
    value = get_loss(name)(z.to(dtype), z_adv.to(dtype), y)
    assert value.isfinite()
    rounding = (1 + scale + scale_adv) * torch.finfo(dtype).eps * 100
    assert value >= LOWEST.get(name, 0.0) - rounding - 1e-9
    if name == "nmse":
        assert 0 <= nmse(z, z_adv, y) <= 4 + 1e-9


# Forwards


class Recording(nn.Module):
    """A model that remembers the batches it was given."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x)
        return self.body(x)


EXPECTED_BATCHES: dict[str, Callable[[Tensor, Tensor], list[Tensor]]] = {
    "adv": lambda x, x_adv: [x_adv],
    "joint": lambda x, x_adv: [torch.cat((x, x_adv))],
    "separate": lambda x, x_adv: [x, x_adv],
}


@dataclass(frozen=True, kw_only=True)
class Probe(Loss):
    """Tells apart what it is given; BatchNorm or not, clean and adversarial must not be swapped."""

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        clean = 0.0 if logits is None else logits.square().mean()
        return clean + 10 * logits_adv.square().mean() + progress * y.double().mean()


def with_forwards(cls: type[Loss], forwards: str, **options: Any) -> Loss:
    return type(cls.__name__, (cls,), {"forwards": forwards})(**options)


@pytest.mark.parametrize("forwards", EXPECTED_BATCHES)
def test_these_forwards_and_no_others(forwards, conv_model, images):
    x, y = images
    x_adv, model = (x + 0.1).clamp(0, 1), Recording(conv_model)
    output = with_forwards(Probe, forwards).compute(model, x, x_adv, y, progress=0.25)
    expected = EXPECTED_BATCHES[forwards](x, x_adv)
    assert len(model.batches) == len(expected)
    assert all(torch.equal(got, wanted) for got, wanted in zip(model.batches, expected, strict=True))
    torch.testing.assert_close(output.logits_adv, conv_model(x_adv))
    clean = None if forwards == "adv" else conv_model(x)
    torch.testing.assert_close(output.value, Probe()(clean, conv_model(x_adv), y, progress=0.25))


@names
def test_forwards_of_the_registered_losses(name, conv_model, images):
    x, y = images
    x_adv, model, loss = (x + 0.1).clamp(0, 1), Recording(conv_model), get_loss(name)
    loss.compute(model, x, x_adv, y)
    expected = EXPECTED_BATCHES[loss.forwards](x, x_adv)
    assert [b.shape for b in model.batches] == [b.shape for b in expected]


@names
def test_joint_equals_separate_without_batchnorm(name, linear_model, images):
    x, y = images
    x_adv = (x + 0.1).clamp(0, 1)
    joint, separate = (
        with_forwards(LOSSES[name], forwards).compute(linear_model.train(), x, x_adv, y)
        for forwards in ("joint", "separate")
    )
    torch.testing.assert_close(joint, separate)


def test_batchnorm_sees_both_together_in_a_joint_forward(conv_model, images):
    """In train mode the forwards are not interchangeable: which one a loss declares is part of the method."""
    x, y = images
    x_adv = (x + 0.3).clamp(0, 1)
    conv_model.train()
    joint, separate = (with_forwards(Probe, f).compute(conv_model, x, x_adv, y).value for f in ("joint", "separate"))
    torch.testing.assert_close(joint, Probe()(*conv_model(torch.cat((x, x_adv))).chunk(2), y))
    assert not torch.isclose(joint, separate)


# The registry


@names
def test_entry_is_complete(name):
    cls = LOSSES[name]
    assert cls.name == name == name.lower()
    assert cls.description
    assert "\n" not in cls.description
    assert cls.paper.startswith("https://")
    assert cls.objective in OBJECTIVES
    assert cls.start in STARTS
    assert cls.forwards in EXPECTED_BATCHES
    assert isinstance(get_loss(name), cls)
    assert cls.__doc__
    assert not cls.__doc__.startswith(f"{cls.__name__}("), "dataclass writes that where there is no docstring"
    assert not [f.name for f in fields(cls) if f.name not in cls.__doc__], "undocumented"


def test_descriptions_differ():
    assert len({cls.description for cls in LOSSES.values()}) == len(LOSSES)


INNER_ATTACK = {  # loss -> objective and start of its inner attack, where they are not CE from a uniform start
    "trades": ("kl", "gaussian"),
    "mail-trades": ("kl", "gaussian"),
    "cfa": ("kl", "gaussian"),
    "rat": ("kl", "gaussian"),
}


@pytest.mark.parametrize("name", TRUTHS)
def test_inner_attack(name):
    assert (LOSSES[name].objective, LOSSES[name].start) == INNER_ATTACK.get(name, ("ce", "uniform"))


@names
def test_a_loss_cannot_be_changed(name):
    with pytest.raises(FrozenInstanceError):
        get_loss(name).beta = 1.0


@pytest.fixture
def registry(monkeypatch):
    """A copy of the registry in its place: what a test registers is gone after it."""
    copy = dict(LOSSES)
    monkeypatch.setattr("art_ext.losses.base.LOSSES", copy)
    return copy


def test_registering(registry):
    @register("probe", "a description", paper="https://example.org")
    class Registered(Probe):
        pass

    assert registry["probe"] is Registered
    assert (Registered.name, Registered.paper) == ("probe", "https://example.org")
    assert Registered.description == "a description"
    assert isinstance(get_loss("probe"), Registered)
    with pytest.raises(ValueError, match="a loss named 'probe' is registered already: Registered"):
        register("probe", "again", paper="")(Probe)


# get_loss


def test_options_reach_the_loss():
    loss = get_loss("alp", weight=2.0, ce_on="adv")
    assert loss == ALP(weight=2.0, ce_on="adv")
    assert get_loss(loss) is loss


def test_a_function_is_a_loss_with_two_forwards(conv_model, images):
    x, y = images
    x_adv = (x + 0.1).clamp(0, 1)

    def own(logits: Tensor, logits_adv: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, y) + 2 * (logits - logits_adv).abs().mean()

    loss, model = get_loss(own), Recording(conv_model)
    assert isinstance(loss, FunctionLoss)
    output = loss.compute(model, x, x_adv, y)
    assert [len(b) for b in model.batches] == [16, 16]
    torch.testing.assert_close(output.value, own(conv_model(x), conv_model(x_adv), y))


BAD: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "misspelt": (lambda: get_loss("trade"), ValueError, "unknown loss 'trade'; did you mean 'trades'\\?"),
    "upper case": (lambda: get_loss("PGD-AT"), ValueError, "did you mean 'pgd-at'\\?"),
    "unknown": (lambda: get_loss("xyzzy"), ValueError, "unknown loss 'xyzzy'; known: .*pgd-at.*trades"),
    "unknown option": (lambda: get_loss("trades", mu=1), TypeError, "loss 'trades' takes beta; got mu"),
    "two unknown options": (lambda: get_loss("nmse", b=1, a=2), TypeError, "loss 'nmse' takes ce_on, mu; got a, b"),
    "options beside a loss": (
        lambda: get_loss(ALP(), weight=1.0),
        TypeError,
        r"loss options \['weight'\] go with a loss given by name; got ALP",
    ),
    "options beside a function": (lambda: get_loss(nmse, mu=1), TypeError, r"loss options \['mu'\] go with a loss"),
    "a number": (lambda: get_loss(3), TypeError, "loss must be a registered name, a Loss or a function; got int"),
    "nothing": (lambda: get_loss(None), TypeError, "loss must be a registered name, .* got NoneType"),
    "ALP on neither": (
        lambda: get_loss("alp", ce_on="clean"),
        ValueError,
        "ce_on must be 'both' or 'adv'; got 'clean'",
    ),
    "NMSE on neither": (
        lambda: get_loss("nmse", ce_on="both"),
        ValueError,
        "ce_on must be 'adv' or 'clean'; got 'both'",
    ),
    "no __call__": (lambda: Loss()(None, torch.zeros(1, 2), torch.tensor([0])), TypeError, "Loss defines no __call__"),
}


@pytest.mark.parametrize("call, error, message", BAD.values(), ids=BAD)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
