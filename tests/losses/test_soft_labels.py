"""Losses of labels that are shares of the classes, as mixup makes them."""

import pytest
import torch

from art_ext.losses import LOSSES, get_loss, nmse
from art_ext.scores import belief

Z, Z_ADV = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SHARES = torch.rand(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
SHARES /= SHARES.sum(1, keepdim=True)
Y = torch.tensor([0, 1, 2, 3, 0, 1])
CASES = [("pgd-at", {}), ("pgd-at", {"label_smoothing": 0.1}), ("alp", {}), ("alp", {"ce_on": "adv"}), ("trades", {})]
CASES += [("nmse", {}), ("nmse", {"ce_on": "clean"})]
cases = pytest.mark.parametrize("name, options", CASES, ids=[f"{n} {o}" for n, o in CASES])


def test_which_losses_take_shares():
    assert {name for name, loss in LOSSES.items() if loss.soft_labels} == {name for name, _ in CASES}


@cases
def test_one_hot_labels_are_labels(name, options):
    loss = get_loss(name, **options)
    one_hot = torch.eye(4, dtype=torch.float64)[Y]
    torch.testing.assert_close(loss(Z, Z_ADV, one_hot), loss(Z, Z_ADV, Y), rtol=1e-12, atol=0)


@cases
def test_a_share_counts_its_class_so_much(name, options):
    """Each of these losses is affine in the label: the mean over the classes, weighted by the shares."""
    loss = get_loss(name, **options)
    rows = [[loss(Z[i : i + 1], Z_ADV[i : i + 1], torch.tensor([c])) for c in range(4)] for i in range(6)]
    expected = (SHARES * torch.tensor(rows, dtype=torch.float64)).sum(1).mean()
    torch.testing.assert_close(loss(Z, Z_ADV, SHARES), expected, rtol=1e-12, atol=0)


@cases
def test_gradients(name, options):
    loss = get_loss(name, **options)
    z, z_adv = Z.clone().requires_grad_(), Z_ADV.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, SHARES), (z, z_adv))


def test_the_weight_of_nmse():
    """1 − Σ y p, times the squared distance of the directions."""
    p = Z.softmax(1)
    directions = [z / z.square().sum(1, keepdim=True).sqrt() for z in (Z, Z_ADV)]
    expected = ((1 - (SHARES * p).sum(1)) * (directions[1] - directions[0]).square().sum(1)).mean()
    torch.testing.assert_close(nmse(Z, Z_ADV, SHARES), expected, rtol=1e-12, atol=0)


def test_belief():
    p = Z.softmax(1)
    assert torch.equal(belief(p, Y), p[range(6), Y])
    torch.testing.assert_close(belief(p, SHARES), torch.einsum("nc,nc->n", p, SHARES), rtol=1e-12, atol=0)
