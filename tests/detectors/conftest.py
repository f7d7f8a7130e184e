"""A network that tells planes that rise to the right from others, and a detector of what FGSM leaves on them."""

import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext.detectors import AttackForensics
from tests.detectors.planes import THREAT, smooth

OPTIONS = {"threat": THREAT, "families": ["fgsm"], "width": 4, "learning_rate": 1e-2, "progress": False}


def network():
    """A classifier of closed form: what rises more, to the right or downwards; with a layer before the last."""
    ramp = torch.linspace(-1, 1, 8)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.stack((ramp.repeat(8), ramp.repeat_interleave(8))))
        net[2].weight.copy_(2 * torch.eye(2))
    return PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (1, 8, 8), 2, clip_values=(0.0, 1.0), preprocessing=None, device_type="cpu"
    )


@pytest.fixture
def make():
    """An unfitted detector of FGSM alone; options replace its own."""

    def build(**options):
        return AttackForensics(network(), **(OPTIONS | options))

    return build


@pytest.fixture(scope="session")
def learnt(tmp_path_factory):
    """What the detector of `fitted` has learnt, once for all tests."""
    detector = AttackForensics(network(), **OPTIONS)
    detector.fit(*smooth(200), nb_epochs=6, batch_size=32)
    path = tmp_path_factory.mktemp("detector") / "learnt.safetensors"
    detector.save(path)
    return path


@pytest.fixture
def fitted(make, learnt):
    """A detector that has learnt to see FGSM on planes."""
    detector = make()
    detector.load(learnt)
    return detector
