"""The network of the detectors: what its filter keeps, and what its verdict depends on."""

import numpy as np
import pytest
import torch

from art_ext.nn.forensics import KERNEL, ForensicNet, high_frequencies


def test_filter_against_numpy():
    x = np.random.default_rng(0).random((2, 3, 5, 6))
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    kernel = KERNEL.double().numpy()
    residual = sum(kernel[i, j] * padded[:, :, i : i + 5, j : j + 6] for i in range(3) for j in range(3))
    expected = residual / (0.1 + np.abs(residual))
    np.testing.assert_allclose(high_frequencies(torch.from_numpy(x), 0.1).numpy(), expected, atol=1e-12)


def test_what_its_neighbours_explain_is_left_out():
    ramp = (torch.arange(8.0, dtype=torch.float64) / 10).expand(1, 1, 8, 8)
    plane = ramp + ramp.mT
    assert float(high_frequencies(plane)[..., 1:-1, 1:-1].abs().max()) < 1e-10
    changed = plane.clone()
    changed[..., 4, 4] += 1 / 255
    assert float(high_frequencies(changed)[0, 0, 4, 4].abs()) == pytest.approx(1 / 5)  # 1 of 1 + 4 grey levels


def test_gradient_does_not_die_on_edges():
    x = torch.zeros(1, 1, 5, 5)
    x[..., 2:] = 1
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(high_frequencies(x)[0, 0, 2, 2], x)
    assert float(gradient[0, 0, 2, 2].abs()) > 0


@pytest.mark.parametrize("channels, side", [(1, 8), (3, 8), (3, 33)])
def test_any_image_and_number_of_families(channels, side):
    net = ForensicNet(channels=channels, evidence=7, families=5, width=2).eval()
    x, evidence = torch.rand(3, channels, side, side), torch.rand(3, 7)
    logits = net(x, evidence)
    assert logits.shape == (3, 5)
    torch.testing.assert_close(net(x[1:2], evidence[1:2]), logits[1:2])


def test_pixels_and_evidence_both_count():
    net = ForensicNet(channels=1, evidence=7, families=2, width=2).eval()
    x, evidence = torch.rand(2, 1, 8, 8, requires_grad=True), torch.rand(2, 7, requires_grad=True)
    gradients = torch.autograd.grad(net(x, evidence)[:, 0].sum(), (x, evidence))
    assert all(float(g.abs().max()) > 0 for g in gradients)


def test_evidence_that_never_varied_does_not_explode():
    net = ForensicNet(channels=1, evidence=2, families=2, width=2)
    for _ in range(50):
        net(torch.rand(4, 1, 8, 8), torch.tensor([[1.0, 0.0]]).repeat(4, 1))
    net.eval()
    standardised = net.evidence[0](torch.tensor([[1.0, 0.5]]))
    assert float(standardised.abs().max()) <= 5 + 1e-3
