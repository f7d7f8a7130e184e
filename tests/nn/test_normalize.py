"""`Normalized` against the formula, and its state dict."""

import pytest
import torch
from torch import nn

from art_ext.nn.normalize import Normalized


def test_normalises_each_channel() -> None:
    x = torch.rand(2, 3, 4, 4)
    model = Normalized(nn.Identity(), mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    expected = torch.stack([(x[:, 0] - 0.1) / 0.5, x[:, 1] - 0.2, (x[:, 2] - 0.3) / 2], dim=1)
    torch.testing.assert_close(model(x), expected)


def test_state_dict_carries_mean_and_std() -> None:
    source = Normalized(nn.Linear(4, 2), mean=(0.3,), std=(0.6,))
    target = Normalized(nn.Linear(4, 2), mean=(0.0,), std=(1.0,))
    target.load_state_dict(source.state_dict())
    assert set(source.state_dict()) == {"mean", "std", "model.weight", "model.bias"}
    assert target.mean.item() == pytest.approx(0.3)
    assert target.std.item() == pytest.approx(0.6)


@pytest.mark.parametrize(
    "mean, std", [pytest.param((0.5,), (0.5, 0.5), id="lengths"), pytest.param((0.5,), (0.0,), id="zero std")]
)
def test_refuses(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="std > 0"):
        Normalized(nn.Identity(), mean, std)
