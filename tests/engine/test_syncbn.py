"""BatchNorm over the batch of all processes; here of one, whose sums are its own."""

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from art_ext.engine import syncbn
from art_ext.engine.syncbn import batchnorm_across_processes


class Doubled(nn.BatchNorm2d):
    """A layer that does more than it inherits."""

    def forward(self, x):
        return 2 * super().forward(x)


class Renamed(nn.BatchNorm2d):
    """A layer that does what it inherits."""


LAYERS = {
    "torch's": nn.BatchNorm2d,
    "derived": Renamed,
    "timm's with activation": lambda n: BatchNormAct2d(n, act_layer=nn.SiLU),
    "timm's with dropout": lambda n: BatchNormAct2d(n, apply_act=False, drop_layer=lambda: nn.Dropout(1.0)),
}


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_does_all_that_it_did(monkeypatch, images, make, training):
    monkeypatch.setattr(syncbn, "_sum", lambda values: values)
    x, plain, layer = images[0] * 5 - 2, make(3).train(training), make(3).train(training)
    kind = type(layer)
    with batchnorm_across_processes(layer, enabled=True):
        torch.testing.assert_close(layer(x), plain(x))
    assert type(layer) is kind
    torch.testing.assert_close(layer.running_var, plain.running_var)


def test_a_layer_with_a_forward_of_its_own_is_refused(images):
    network = nn.Sequential(nn.BatchNorm2d(3), Doubled(3))
    told = r"sync_batchnorm=True cannot replace Doubled, which has a forward of its own; set sync_batchnorm=False"
    with pytest.raises(ValueError, match=told), batchnorm_across_processes(network, enabled=True):
        pass
    assert [type(layer) for layer in network] == [nn.BatchNorm2d, Doubled]
    with batchnorm_across_processes(network, enabled=False):
        network(images[0])
