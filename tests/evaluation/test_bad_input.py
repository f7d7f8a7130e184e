"""Bad input of `evaluate` is refused before any attack, by name, with what was seen and what is allowed."""

import numpy as np
import pytest
import torch
from torch import nn

from art_ext.evaluation import evaluate
from art_ext.threat import ThreatModel
from art_ext.validation import ProbabilitiesWarning

THREAT = ThreatModel("linf", 0.02)
BAD = {  # (what to change, error, message)
    "uint8 images": (lambda m: {"x": (255 * m.x).astype(np.uint8)}, TypeError, "uint8: divide by 255"),
    "tensor": (lambda m: {"x": torch.from_numpy(m.x)}, TypeError, r"numpy array; got Tensor; use .cpu\(\).numpy\(\)"),
    "0-255": (lambda m: {"x": 255 * m.x}, ValueError, r"x must lie in \[0, 1\]; it covers"),
    "negative": (lambda m: {"x": m.x - 0.5}, ValueError, r"x must lie in \[0, 1\]; it covers \[-0.49"),
    "NaN": (lambda m: {"x": np.where(m.x > 0.99, np.nan, m.x)}, ValueError, "x must be finite; .* of 60 examples"),
    "empty": (lambda m: {"x": m.x[:0], "y": m.y[:0]}, ValueError, r"non-empty array .* got shape \(0, 3, 4, 4\)"),
    "one example": (lambda m: {"x": m.x[0]}, ValueError, r"x must have shape \(N, 3, 4, 4\)"),
    "other shape": (lambda m: {"x": m.x[..., :2]}, ValueError, r"shape \(N, 3, 4, 4\), .* got \(60, 3, 4, 2\)"),
    "channels last": (lambda m: {"x": m.x.transpose(0, 2, 3, 1)}, ValueError, "channels-last images: x.transpose"),
    "lengths": (lambda m: {"y": m.y[1:]}, ValueError, "60 examples and 59 labels"),
    "label range": (lambda m: {"y": m.y + 1}, ValueError, r"y must lie in 0\.\.1 \(2 classes\); got 2 at position"),
    "negative label": (lambda m: {"y": m.y - 1}, ValueError, "got -1 at position"),
    "float labels": (lambda m: {"y": m.y.astype(float)}, TypeError, "integer labels .* got dtype float64"),
    "soft labels": (lambda m: {"y": np.full((60, 2), 0.5)}, ValueError, r"row 0 is \[0.5, 0.5\]: soft labels"),
    "classes": (lambda m: {"y": np.eye(3)[m.y]}, ValueError, r"one-hot y must have shape \(N, 2\); got \(60, 3\)"),
    "no threat model": (lambda m: {"threat": 8 / 255}, TypeError, "threat must be a ThreatModel"),
    "eps of others": (
        lambda m: {"threat": ThreatModel("linf", torch.ones(3))},
        ValueError,
        "eps has 3 values for 60 examples",
    ),
    "batch size": (lambda m: {"batch_size": 0}, ValueError, "batch_size must be a whole number of at least 1; got 0"),
    "eot": (lambda m: {"eot": "atuo"}, ValueError, "eot must be 'auto' or a whole number .* got 'atuo'"),
    "no eot": (lambda m: {"eot": 0}, ValueError, "eot must be .* got 0"),
    "seed": (lambda m: {"seed": -1}, ValueError, "seed must be .* got -1"),
    "n_examples": (lambda m: {"n_examples": 0}, ValueError, "n_examples must be None or a whole number .* got 0"),
    "time budget": (lambda m: {"time_budget": -1}, ValueError, "time_budget must be None or a number of seconds .* -1"),
    "no time": (lambda m: {"time_budget": "1 h"}, ValueError, "time_budget must be .* got '1 h'"),
    "source": (lambda m: {"sources": ["resnet"]}, TypeError, "sources must be modules from inputs to logits; got str"),
    "classifier": (lambda m: {"classifier": "resnet"}, TypeError, "classifier must be an art.*; got str"),
}


@pytest.mark.parametrize("change, error, message", BAD.values(), ids=BAD)
def test_bad_argument(linear, change, error, message):
    class Untouched:
        name = "untouched"

        def run(self, *args, **kwargs):
            pytest.fail("an attack ran")

    arguments = {"classifier": linear.classifier, "x": linear.x, "y": linear.y, "threat": THREAT} | change(linear)
    with pytest.raises(error, match=message):
        evaluate(
            arguments.pop("classifier"),
            arguments.pop("x"),
            arguments.pop("y"),
            suite=[Untouched()],
            progress=False,
            indicators=False,
            **arguments,
        )


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x.flatten(1))


MODELS = {
    "takes another shape": (
        lambda x: x @ torch.ones(5, 2),
        ValueError,
        r"does not take x of shape \(N, 3, 4, 4\): .*mat1",
    ),
    "returns a tuple": (lambda x: (x[:, :2], x), TypeError, "it returns tuple"),
    "returns a vector": (lambda x: x[:, 0], ValueError, r"it returns shape \(8,\)"),
    "returns NaN": (lambda x: x[:, :2] * np.nan, ValueError, "NaN or infinite logits"),
    "returns one logit": (lambda x: x[:, :1], ValueError, "at least 2 classes"),
}


@pytest.mark.parametrize("function, error, message", MODELS.values(), ids=MODELS)
def test_bad_model(linear, function, error, message):
    with pytest.raises(error, match=message):
        evaluate(Returns(function), linear.x, linear.y, threat=THREAT, progress=False, indicators=False)


class Half(nn.Module):
    """Computes in bfloat16, whatever it is given."""

    def __init__(self, net: nn.Module, *, converts: bool) -> None:
        super().__init__()
        self.net, self.converts = net.bfloat16(), converts

    def forward(self, x):
        return self.net(x.bfloat16() if self.converts else x)


def test_a_model_of_16_bits_must_convert_its_inputs(linear):
    options = {"threat": THREAT, "suite": "fgsm", "progress": False}
    expected = evaluate(linear.net, linear.x, linear.y, **options)
    with pytest.raises(ValueError, match=r"its weights are bfloat16, x is float32: let it convert\): mat1"):
        evaluate(Half(linear.net, converts=False), linear.x, linear.y, **options)
    report = evaluate(Half(linear.net, converts=True), linear.x, linear.y, **options)
    assert abs(report.robust_accuracy - expected.robust_accuracy) < 0.1
    assert report.precision == "bfloat16"


def test_a_model_in_train_mode_is_judged_in_eval_mode_and_given_back(linear):
    net = nn.Sequential(linear.net, nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    report = evaluate(net, linear.x, linear.y, threat=THREAT, suite="fgsm", progress=False)
    assert (report.randomised, report.verdict) == (False, "trusted")
    assert all(module.training for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_other_number_of_classes_than_declared(linear, as_classifier):
    with pytest.raises(ValueError, match=r"must return logits \(8, 5\); it returns shape \(8, 2\)"):
        evaluate(
            as_classifier(linear.net, classes=5), linear.x, linear.y, threat=THREAT, progress=False, indicators=False
        )


@pytest.mark.parametrize("form", ["classifier", "module"])
def test_probabilities_are_told_once_where_evaluate_was_called(linear, as_classifier, form):
    net = nn.Sequential(linear.net, nn.Softmax(1))
    model = as_classifier(net) if form == "classifier" else net
    with pytest.warns(ProbabilitiesWarning, match="take the softmax out of the model") as caught:
        evaluate(model, linear.x, linear.y, threat=THREAT, suite="fgsm", progress=False, indicators=False)
    assert [w.filename for w in caught] == [__file__]


def test_float64_images_are_converted(linear):
    expected = evaluate(
        linear.classifier, linear.x, linear.y, threat=THREAT, suite="fgsm", progress=False, indicators=False
    )
    report = evaluate(
        linear.classifier,
        linear.x.astype(np.float64),
        linear.y,
        threat=THREAT,
        suite="fgsm",
        progress=False,
        indicators=False,
    )
    assert torch.equal(report.survivors, expected.survivors)
