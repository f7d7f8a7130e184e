"""The ℓ1 norm of the input gradient, where it has a closed form."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from art_ext.losses.input_gradient import NoisyCE, input_gradient_l1

GENERATOR = torch.Generator().manual_seed(0)
X, Y = torch.randn(5, 6, generator=GENERATOR), torch.randint(2, (5,), generator=GENERATOR)


@pytest.fixture
def logistic() -> nn.Module:
    net = nn.Linear(6, 2)
    net.load_state_dict({"weight": torch.randn(2, 6, generator=GENERATOR), "bias": torch.zeros(2)})
    return net


def closed_form(net: nn.Module) -> torch.Tensor:
    """∇ₓ CE of two classes is ±(1 − p_y) · (w₁ − w₀)."""
    missing = 1 - net(X).softmax(1)[torch.arange(5), Y]
    return (missing * (net.weight[1] - net.weight[0]).abs().sum()).mean()


def test_the_norm_and_its_gradient_are_those_of_the_closed_form(logistic: nn.Module) -> None:
    leaf = X.clone().requires_grad_()
    penalty = input_gradient_l1(F.cross_entropy(logistic(leaf), Y, reduction="none"), leaf)
    torch.testing.assert_close(penalty, closed_form(logistic))
    found = torch.autograd.grad(penalty, logistic.weight)[0]
    torch.testing.assert_close(found, torch.autograd.grad(closed_form(logistic), logistic.weight)[0])


def test_the_loss_is_the_sum_and_tells_its_parts(logistic: nn.Module) -> None:
    out = NoisyCE(gradient_penalty=0.3).compute(logistic, X + 1, X, Y)
    ce, penalty = F.cross_entropy(logistic(X), Y), closed_form(logistic)
    torch.testing.assert_close(out.value, ce + 0.3 * penalty)
    torch.testing.assert_close(out.figures["gradient_l1"], penalty.detach())
    torch.testing.assert_close(out.figures["cross_entropy"], ce.detach())
    assert X.grad is None


def test_without_penalty_it_is_the_cross_entropy(logistic: nn.Module) -> None:
    out = NoisyCE().compute(logistic, X + 1, X, Y)
    torch.testing.assert_close(out.value, F.cross_entropy(logistic(X), Y))
    assert not out.figures


def test_to_first_order_it_is_what_an_attacker_adds(logistic: nn.Module) -> None:
    eps = 1e-3
    leaf = X.clone().requires_grad_()
    losses = F.cross_entropy(logistic(leaf), Y, reduction="none")
    worst = X + eps * torch.autograd.grad(losses.sum(), leaf)[0].sign()
    added = F.cross_entropy(logistic(worst), Y) - losses.mean()
    assert added.item() == pytest.approx(eps * closed_form(logistic).item(), rel=1e-2)


@pytest.mark.parametrize("weight", [-0.1, float("inf"), float("nan")])
def test_weights_that_are_none(weight: float) -> None:
    with pytest.raises(ValueError, match="gradient_penalty must be a finite number ≥ 0"):
        NoisyCE(gradient_penalty=weight)


def test_attention_has_a_second_derivative() -> None:
    timm = pytest.importorskip("timm")
    vit = timm.create_model("test_vit", num_classes=2, img_size=32, depth=1)
    x = torch.rand(2, 3, 32, 32)
    NoisyCE(gradient_penalty=0.1).compute(vit, x, x, torch.tensor([0, 1])).value.backward()
    assert vit.blocks[0].attn.qkv.weight.grad.isfinite().all()
