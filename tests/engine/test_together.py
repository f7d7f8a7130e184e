"""What accelerate has a say in, and what not."""

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import nn

from art_ext.averaging import snapshot

VARIABLES = {
    "precision": ("ACCELERATE_MIXED_PRECISION", "bf16"),
    "precision that a CPU has not": ("ACCELERATE_MIXED_PRECISION", "fp16"),
    "accumulation": ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
}


def trained(make_run, net: nn.Module, **options) -> dict[str, torch.Tensor]:
    """A run changes the network's weights, and they are put back."""
    before = snapshot(net)
    make_run(net, **options).train(1)
    after = snapshot(net)
    net.load_state_dict(before)
    return after


@pytest.fixture
def new_to_accelerate():
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()


@pytest.mark.usefixtures("new_to_accelerate")
@pytest.mark.parametrize("name, value", VARIABLES.values(), ids=VARIABLES)
def test_accelerate_s_variables_change_nothing(make_run, conv_model, monkeypatch, name, value):
    expected = trained(make_run, conv_model, grad_clip=0.1)
    AcceleratorState._reset_state()
    monkeypatch.setenv(name, value)
    found = trained(make_run, conv_model, grad_clip=0.1)
    assert all(torch.equal(found[key], weights) for key, weights in expected.items())
