"""Evidence of a classifier: what it is, that it has gradients, and that nothing stays behind."""

import pytest
import torch
from torch import nn

from art_ext.detectors.observed import Observed
from art_ext.preprocessors import SoftQuantization


def hooks(net):
    return [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_sorted_logits_then_penultimate_features(trainable, conv_model, images):
    observed = Observed(trainable(conv_model))
    assert observed.head == "5"
    logits, evidence = observed.eval()(images[0])
    assert observed.size == evidence.shape[1] == 4 + 32
    torch.testing.assert_close(logits, conv_model(images[0]))
    torch.testing.assert_close(evidence[:, :4], logits.sort(1, descending=True).values)
    torch.testing.assert_close(evidence[:, 4:], conv_model[:5](images[0]))


def test_through_the_preprocessors(trainable, conv_model, images):
    layer = SoftQuantization(levels=3, temperature=0.1)
    observed = Observed(trainable(conv_model, preprocessing_defences=[layer])).eval()
    quantized = layer.forward(images[0])[0]
    torch.testing.assert_close(observed(images[0]).evidence[:, 4:], conv_model[:5](quantized))


def test_logits_alone_need_no_layer(trainable, conv_model, images):
    class Voted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = conv_model

        def forward(self, x):
            return self.net(x).log_softmax(1)

    with pytest.raises(ValueError, match=r"cannot be found.*; or take features='logits'"):
        Observed(trainable(Voted()))
    observed = Observed(trainable(Voted()), features="logits").eval()
    logits, evidence = observed(images[0])
    torch.testing.assert_close(evidence, logits.sort(1, descending=True).values)


def test_gradients_of_both(trainable, conv_model, images):
    observed = Observed(trainable(conv_model)).eval()
    x = images[0].clone().requires_grad_(True)
    _, evidence = observed(x)
    (gradient,) = torch.autograd.grad(evidence[:, 4:].sum(), x)
    (expected,) = torch.autograd.grad(conv_model[:5](x).sum(), x)
    torch.testing.assert_close(gradient, expected)


def test_no_hook_is_left(trainable, conv_model, images):
    observed = Observed(trainable(conv_model))
    observed(images[0])
    assert hooks(conv_model) == []
    with pytest.raises(RuntimeError):
        observed(images[0][:, :1])
    assert hooks(conv_model) == []


def test_modes_and_random_generator_are_kept(trainable, conv_model):
    conv_model.train()
    conv_model[1].eval()
    modes, random = [m.training for m in conv_model.modules()], torch.get_rng_state()
    means = conv_model[1].running_mean.clone()
    Observed(trainable(conv_model))
    assert [m.training for m in conv_model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(conv_model[1].running_mean, means)


BAD = {
    "features": ({"features": "penultimat"}, "unknown features 'penultimat'; did you mean 'penultimate'"),
    "no such layer": ({"head": "7"}, "head='7' is no layer of Sequential"),
    "not the last": ({"head": "0"}, "head='0' is Conv2d.*cannot be widened"),
}


@pytest.mark.parametrize("options, message", BAD.values(), ids=BAD)
def test_bad_arguments_are_refused(trainable, conv_model, options, message):
    with pytest.raises(ValueError, match=message):
        Observed(trainable(conv_model), **options)


def test_points_are_refused(trainable, mlp_model):
    with pytest.raises(ValueError, match=r"must take images \(C, H, W\); its input_shape is \(2,\)"):
        Observed(trainable(mlp_model, (2,), 2))
