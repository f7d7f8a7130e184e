"""The CIFAR networks: sizes as published, shapes, gradients through the in-place parts, and real weights."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import art_ext.nn.cifar
from art_ext.data import load
from art_ext.nn.networks import PlainNet, ResidualNet
from art_ext.nn.normalize import Normalized

NAMES = art_ext.nn.cifar.__all__
SMALL = {
    "wrn_cifar": {"depth": 10, "width": 1},
    "preact_resnet_cifar": {"width": 4, "blocks": 1},
    "vgg11_cifar": {"width": 4},
}
SIZES = {"vgg11_cifar": (32, 64)}  # for which the others are (12, 16)
LARGE = ("wrn_28_10_cifar", "wrn_32_10_cifar", "wrn_34_10_cifar", "preact_resnet18_cifar")  # slow to initialise
PARAMETERS = {
    "preact_resnet18_cifar": 11.17e6,
    "preact_resnet_cifar": 0.467e6,
    "wrn_28_10_cifar": 36.5e6,
    "wrn_32_10_cifar": 46.2e6,
    "wrn_34_10_cifar": 46.2e6,
    "resnet20_cifar": 0.27e6,
    "resnet32_cifar": 0.46e6,
    "resnet44_cifar": 0.66e6,
    "resnet56_cifar": 0.85e6,
    "basicnet_cifar": 0.545e6,
    "vgg11_cifar": 9.228e6,
    "cnn_a_cifar": 0.215e6,
    "small_cnn": 0.218e6,
}
CHECKPOINTS = {  # file → name, and how many of the first 1000 test images it gets right
    "cifar10_resnet20_std.pth": ("resnet20_cifar", 915),
    "cifar10_cnn_a_adv4.pth": ("cnn_a_cifar", 602),
    "cifar10_wide_kw.pth": ("cnn_a_cifar", 636),
}


def build(name: str, **kwargs: Any) -> nn.Module:
    return timm.create_model(name, **{**SMALL.get(name, {}), **kwargs})


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(PARAMETERS[name], rel=0.015)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LARGE])
def test_takes_classes_channels_and_size(name: str) -> None:
    plain, size = isinstance(build(name), PlainNet), SIZES.get(name, (12, 16))
    model = build(name, num_classes=3, in_chans=2, **({"img_size": size} if plain else {})).eval()
    assert model(torch.zeros(2, 2, *size)).shape == (2, 3)
    model.reset_classifier(5)
    assert model(torch.zeros(2, 2, *size)).shape == (2, 5)
    assert model.get_classifier().out_features == 5


@pytest.mark.parametrize("name", NAMES)
def test_describes_its_normalisation_and_has_no_pretrained_weights(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
        assert len(model.pretrained_cfg["mean"]) == model.pretrained_cfg["input_size"][0]
        with pytest.raises(ValueError, match="no pretrained weights"):
            build(name, pretrained=True)


@pytest.mark.parametrize("preact", [pytest.param(True, id="pre-activation"), pytest.param(False, id="option A")])
def test_gradients_of_the_in_place_blocks(preact: bool) -> None:
    torch.manual_seed(0)
    net = ResidualNet(stem=2, widths=(2, 4), blocks=2, preact=preact, num_classes=2, in_chans=1).double()
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(net, (x,))


def test_shortcut_of_option_a_subsamples_and_pads() -> None:
    net = ResidualNet(stem=2, widths=(2, 4), blocks=1, preact=False)
    x = torch.arange(32.0).view(1, 2, 4, 4)
    out = net.get_submodule("layer2.0.shortcut")(x)
    assert torch.equal(out[:, 1:3], x[:, :, ::2, ::2])
    assert not out[:, [0, 3]].any()


@pytest.mark.parametrize(
    "name, kwargs, error, message",
    [
        pytest.param("wrn_cifar", {"depth": 30}, ValueError, "6n \\+ 4", id="depth"),
        pytest.param("cnn_a_cifar", {"img_size": 3}, ValueError, "4 pixels", id="too small"),
        pytest.param("vgg11_cifar", {"img_size": (32, 28)}, ValueError, "5 times.*32 pixels", id="too narrow"),
        pytest.param("small_cnn", {"depth": 3}, TypeError, "depth", id="unknown argument, plain"),
        pytest.param("resnet20_cifar", {"depth": 3}, TypeError, "depth", id="unknown argument, residual"),
    ],
)
def test_refuses(name: str, kwargs: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        timm.create_model(name, **kwargs)


def reference(folder: Path) -> Any:
    """The definitions that lie beside the weights."""
    spec = spec_from_file_location("nets", folder / "nets.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.data
@pytest.mark.parametrize("file", CHECKPOINTS)
def test_published_weights_give_the_logits_of_the_reference(file: str, data_dir: Path) -> None:
    folder = data_dir / "weights"
    if not (folder / file).is_file():
        pytest.skip(f"no {file} in {folder}")
    state = torch.load(folder / file, weights_only=True)
    ours = timm.create_model(CHECKPOINTS[file][0])
    ours.load_state_dict(state, strict=True)
    theirs = reference(folder).NETS[file][0]()
    theirs.load_state_dict(state)
    x = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


@pytest.fixture(scope="module")
def cifar_test() -> tuple[torch.Tensor, torch.Tensor]:
    """The first 1000 test images."""
    try:
        *_, x, y = load("cifar10")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return torch.from_numpy(x[:1000].copy()), torch.from_numpy(y[:1000].copy())


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("file", CHECKPOINTS)
def test_published_weights_classify_cifar10(
    file: str, data_dir: Path, cifar_test: tuple[torch.Tensor, torch.Tensor]
) -> None:
    folder = data_dir / "weights"
    if not (folder / file).is_file():
        pytest.skip(f"no {file} in {folder}")
    name, correct = CHECKPOINTS[file]
    net = timm.create_model(name)
    net.load_state_dict(torch.load(folder / file, weights_only=True))
    _, mean, std = reference(folder).NETS[file]
    x, y = cifar_test
    with torch.no_grad():
        hits = (Normalized(net, mean, std).eval()(x).argmax(1) == y).sum().item()
    assert hits == pytest.approx(correct, abs=3)
