"""Objectives against closed forms in numpy, and what each of them says of a fooled example."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from art_ext.attacks import OBJECTIVES, Objective, get_objective
from art_ext.scores import ce, dlr, kl, margin

Array = np.ndarray

names = pytest.mark.parametrize("name", OBJECTIVES)


def log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def of_class(z: Array, y: Array) -> Array:
    return z[np.arange(len(y)), y]


def margin_truth(z: Array, y: Array) -> Array:
    return np.array([np.delete(row, label).max() for row, label in zip(z, y, strict=True)]) - of_class(z, y)


def dlr_truth(z: Array, y: Array) -> Array:
    """−(z_y − max_{i≠y} z_i) / (z_π1 − z_π3), Croce & Hein 2020, https://arxiv.org/abs/2003.01690, equation 6."""
    ordered = -np.sort(-z, axis=1)
    return margin_truth(z, y) / (ordered[:, 0] - ordered[:, 2])


def kl_truth(z: Array, reference: Array) -> Array:
    log_p = log_softmax(reference)
    return (np.exp(log_p) * (log_p - log_softmax(z))).sum(axis=1)


TRUTHS = {
    "ce": lambda z, y: -of_class(log_softmax(z), y),
    "kl": kl_truth,
    "margin": margin_truth,
    "dlr": dlr_truth,
}


def logits_of(n: int = 9, classes: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n, classes, generator=generator, dtype=torch.float64)


def labels_of(n: int = 9, classes: int = 5) -> Tensor:
    return torch.arange(n) % classes


def target_of(objective: Objective, n: int = 9, classes: int = 5) -> Tensor:
    """What the objective compares with: the clean logits, or the labels."""
    return logits_of(n, classes, seed=1) if objective.on_reference else labels_of(n, classes)


@names
def test_value_and_gradient(name):
    assert name in TRUTHS, f"write the formula of the objective {name!r} in numpy into TRUTHS in {__file__}"
    objective, z = OBJECTIVES[name], logits_of().requires_grad_(True)
    target = target_of(objective)
    value = objective(z, target)
    assert value.shape == (9,)
    np.testing.assert_allclose(value.detach(), TRUTHS[name](z.detach().numpy(), target.numpy()), rtol=1e-9)
    assert torch.autograd.gradcheck(lambda logits: objective(logits, target), z)


@settings(deadline=None, max_examples=50)
@given(
    n=st.integers(0, 6),
    classes=st.integers(3, 9),
    scale=st.sampled_from([0.0, 1e-6, 1.0, 1e3]),
    seed=st.integers(0, 1000),
)
@names
def test_always_finite(name, n, classes, scale, seed):
    objective = OBJECTIVES[name]
    z = (scale * logits_of(n, classes, seed)).float().requires_grad_(True)
    value = objective(z, target_of(objective, n, classes).float() if objective.on_reference else labels_of(n, classes))
    (gradient,) = torch.autograd.grad(value.sum(), z)
    assert value.shape == (n,)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("score", [margin, dlr], ids=["margin", "dlr"])
def test_positive_exactly_when_fooled(score):
    z, y = logits_of(200), labels_of(200)
    fooled = z.argmax(1) != y
    assert 0 < fooled.sum() < 200
    assert torch.equal(score(z, y) > 0, fooled)


def test_cross_entropy_rises_as_the_margin_does_with_two_classes():
    z, y = logits_of(50, 2), labels_of(50, 2)
    expected = np.log1p(np.exp(margin(z, y).numpy()))
    np.testing.assert_allclose(ce(z, y), expected, rtol=1e-9)


def test_dlr_is_invariant_to_shift_and_scale():
    z, y = logits_of(), labels_of()
    shift, scale = logits_of(9, 1), torch.linspace(0.1, 50, 9, dtype=torch.float64)[:, None]
    torch.testing.assert_close(dlr(scale * z + shift, y), dlr(z, y))


def test_dlr_of_equal_logits_is_zero():
    assert torch.equal(dlr(torch.ones(2, 4), torch.tensor([0, 3])), torch.zeros(2))


@pytest.mark.parametrize("classes", [1, 2])
def test_dlr_needs_three_classes(classes):
    with pytest.raises(ValueError, match=f"'dlr' needs at least 3 classes; the model has {classes}; use 'margin'"):
        dlr(torch.zeros(2, classes), torch.zeros(2, dtype=torch.int64))


def test_kl_is_zero_at_the_reference_and_positive_elsewhere():
    z, reference = logits_of().requires_grad_(True), logits_of(seed=1)
    at_reference = kl(z, z.detach())
    torch.testing.assert_close(at_reference, torch.zeros_like(at_reference), rtol=0, atol=1e-15)
    (gradient,) = torch.autograd.grad(at_reference.sum(), z)
    torch.testing.assert_close(gradient, torch.zeros_like(z), rtol=0, atol=1e-15)
    assert (kl(z, reference) > 0).all()


def test_kl_puts_the_clean_prediction_first():
    """KL(p ‖ p') = Σ p log(p/p'), which is not KL(p' ‖ p)."""
    clean, adversarial = torch.tensor([[0.9, 0.1]]).log(), torch.tensor([[0.5, 0.5]]).log()
    expected = 0.9 * np.log(0.9 / 0.5) + 0.1 * np.log(0.1 / 0.5)
    assert kl(adversarial, clean).item() == pytest.approx(expected, rel=1e-6)
    assert kl(clean, adversarial).item() != pytest.approx(expected, rel=0.01)


@names
def test_entry_is_complete(name):
    objective = OBJECTIVES[name]
    assert objective.name == name
    assert objective.description
    assert get_objective(name) is objective
    assert objective.on_reference == (name == "kl")


def test_an_objective_and_a_function_of_ones_own():
    def own(logits: Tensor, y: Tensor) -> Tensor:
        return logits.sum(1) + y

    objective = get_objective(own)
    assert (objective.name, objective.on_reference) == ("own", False)
    assert torch.equal(objective(torch.ones(2, 3), torch.tensor([0, 1])), torch.tensor([3.0, 4.0]))
    assert get_objective(objective) is objective


WRONG = {"margn": "margin", "CE": "ce", "dlrr": "dlr", "xyzzy": None, 3: None}


@pytest.mark.parametrize("name, nearest", WRONG.items(), ids=str)
def test_wrong_names(name, nearest):
    hint = rf" did you mean '{nearest}'\?" if nearest else ""
    with pytest.raises(ValueError, match=f"^unknown objective {name!r};{hint} known: ce, dlr, kl, margin$"):
        get_objective(name)
