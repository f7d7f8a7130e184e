"""Clean and robust accuracy on the held-out split, against the exact worst case of a linear model."""

import pytest
import torch
from torch import nn

from art_ext.engine.validation import Validation, validation_rows
from art_ext.threat import ThreatModel

EPS = 0.3


def points(n: int = 101) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1)), torch.arange(n) % 2


@pytest.fixture
def line() -> nn.Module:
    """Class 1 where x₀ + 2 x₁ > 0, else class 0."""
    net = nn.Linear(2, 2, bias=False)
    net.weight.data = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    return net


def validation(norm: str = "linf", *, batch_size: int = 16, seed: int = 0, steps: int = 10) -> Validation:
    return Validation(*points(), ThreatModel(norm, EPS, clip=None), steps, batch_size, seed)


@pytest.mark.parametrize(
    "batch_size, accumulate, rows",
    [(64, 1, 64), (128, 1, 128), (1024, 1, 128), (512, 8, 16), (2, 4, 1)],
    ids=["small batch", "batch", "of many processes", "in parts", "at least one"],
)
def test_rows_fit_where_a_part_of_a_training_batch_does(batch_size, accumulate, rows):
    assert validation_rows(batch_size, accumulate) == rows


@pytest.mark.parametrize("norm, dual", [("linf", 3.0), ("l2", 5**0.5)], ids=["linf", "l2"])
def test_equals_the_closed_form(line, norm, dual):
    x, y = points()
    margins = (2.0 * y - 1) * (x @ torch.tensor([1.0, 2.0]))
    expected = tuple(float((margins > loss).float().mean()) for loss in (0.0, EPS * dual))
    assert 0 < expected[1] < expected[0] < 1
    assert validation(norm).accuracies(line) == pytest.approx(expected)


@pytest.mark.parametrize("batch_size", [1, 7, 101, 1000])
def test_batches_change_nothing(line, batch_size):
    assert validation(batch_size=batch_size).accuracies(line) == validation().accuracies(line)


def constant(label: int) -> nn.Module:
    """A classifier that no input moves."""
    net = nn.Linear(2, 2)
    net.weight.data.zero_()
    net.bias.data = 9.0 * torch.eye(2)[label]
    return net


@pytest.mark.parametrize("label, share", [(0, 51 / 101), (1, 50 / 101)])
def test_what_no_attack_moves_is_as_robust_as_clean(label, share):
    assert validation().accuracies(constant(label)) == (share, share)


def test_what_is_wrong_is_not_attacked(line):
    x, _ = points()
    wrong = 1 - line(x).argmax(1)
    assert Validation(x, wrong, ThreatModel("linf", EPS, clip=None), 5, 16, 0).accuracies(line) == (0.0, 0.0)


def test_leaves_modes_gradients_and_random_state_alone(line):
    net = nn.Sequential(line, nn.Dropout(0.9)).train()
    net[0].eval()
    state = torch.get_rng_state()
    first, second = (validation().accuracies(net) for _ in range(2))
    assert first == second == validation().accuracies(line)  # dropout was off
    assert [m.training for m in net.modules()] == [True, False, True]
    assert line.weight.requires_grad
    assert line.weight.grad is None
    assert torch.equal(torch.get_rng_state(), state)


def test_the_same_random_starts_in_each_epoch_and_others_with_another_seed(line):
    def starts(seed):
        """What the network is shown beside the clean inputs."""
        shown = []
        hook = line.register_forward_pre_hook(lambda module, args: shown.append(args[0].detach().clone()))
        validation(seed=seed, steps=1).accuracies(line)
        hook.remove()
        return torch.cat(shown)

    assert torch.equal(starts(0), starts(0))
    assert not torch.equal(starts(0)[:40], starts(1)[:40])
