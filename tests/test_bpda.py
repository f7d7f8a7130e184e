"""Approximate gradients: what goes forward, what goes backward, and who declares it."""

import pytest
import torch
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import evaluate
from art_ext.bpda import declared, straight_through
from art_ext.evaluation import RobustnessReport
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

SURROGATES = {
    "identity": (lambda x: x, lambda x: torch.ones_like(x)),
    "temperature": (lambda x: torch.sigmoid(5 * x), lambda x: 5 * torch.sigmoid(5 * x) * torch.sigmoid(-5 * x)),
}


@pytest.mark.parametrize("surrogate, gradient", SURROGATES.values(), ids=SURROGATES)
def test_values_of_the_one_and_gradient_of_the_other(surrogate, gradient):
    x = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    out = straight_through((x > 0).double(), surrogate(x))
    assert torch.equal(out, (x > 0).double())
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(grad, gradient(x.detach()))


class Levels(PreprocessorPyTorch):
    """Rounds to 16 levels; an ART preprocessor need not be a module."""

    bpda = "identity"

    def __init__(self) -> None:
        super().__init__(device_type="cpu", apply_fit=False, apply_predict=True)

    def forward(self, x, y=None):
        return straight_through((15 * x).round() / 15, x), y


class Step(nn.Module):
    bpda = "temperature 10"

    def forward(self, x):
        return straight_through((x > 0.5).float(), torch.sigmoid(10 * (x - 0.5)))


def test_declarations_travel_from_the_parts_to_the_report_and_its_forms():
    torch.manual_seed(0)
    net = nn.Sequential(Step(), nn.Flatten(), nn.Linear(48, 3))
    art = PyTorchClassifier(
        net, nn.CrossEntropyLoss(), (3, 4, 4), 3, clip_values=(0, 1), preprocessing_defences=[Levels()]
    )
    assert declared(DefendedModel(art)) == ("Levels: identity", "Step: temperature 10")
    x = torch.rand(12, 3, 4, 4)
    y = DefendedModel(art).eval()(x).argmax(1).numpy()
    report = evaluate(art, x.numpy(), y, threat=ThreatModel("linf", 0.2), progress=False)
    assert report.bpda == RobustnessReport.from_json(report.to_json()).bpda == declared(DefendedModel(art))
    assert report.robust_accuracy < report.clean_accuracy == 1  # the gradient leads somewhere
    for text in (str(report), report.to_markdown()):
        assert "Levels: identity; Step: temperature 10" in text


def test_nothing_declared():
    assert declared(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) == ()
