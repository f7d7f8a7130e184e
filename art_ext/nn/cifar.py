"""Networks for small images that timm lacks, registered with timm when this module is imported.

All take ``num_classes`` (default 10) and ``in_chans`` (default 3; `small_cnn`: 1); none has pretrained weights.
The residual ones take any image size, the plain ones are built for ``img_size``.

Sources: ResNet-20 to 56, He et al. 2015 (https://arxiv.org/abs/1512.03385, section 4.2); pre-activation ResNets,
He et al. 2016 (https://arxiv.org/abs/1603.05027); wide ResNets, Zagoruyko and Komodakis 2016
(https://arxiv.org/abs/1605.07146), whose weights with the keys of their usual CIFAR code load as they are; VGG-11,
Simonyan and Zisserman 2014 (https://arxiv.org/abs/1409.1556). The ResNet-18 of CIFAR work, 11.2 M parameters, is timm's
``resnet18`` with the stem that `art_ext.adapters.timm.timm_classifier` gives it.

Example:
    >>> import timm
    >>> sum(p.numel() for p in timm.create_model("resnet20_cifar").parameters())
    269722
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from timm.models import register_model
from torch import nn

from art_ext.nn.networks import PlainNet, ResidualNet

__all__: list[str] = []  # timm appends every name that it registers

CIFAR = {"input_size": (3, 32, 32), "mean": (0.4914, 0.4822, 0.4465), "std": (0.2470, 0.2435, 0.2616)}
FASHION_MNIST = {"input_size": (1, 28, 28), "mean": (0.2860,), "std": (0.3530,)}
_TIMM_ONLY = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")  # what timm.create_model adds to every call

Net = TypeVar("Net", ResidualNet, PlainNet)


def _described(model: Net, pretrained: bool, data: dict[str, Any]) -> Net:
    """``model`` with the description that timm's tools read."""
    if pretrained:
        raise ValueError("this network has no pretrained weights: leave pretrained=False and load a checkpoint file")
    model.default_cfg = model.pretrained_cfg = {"url": "", "num_classes": 10, "crop_pct": 1.0, **data}
    return model


def _residual(pretrained: bool, given: dict[str, Any], **shape: Any) -> ResidualNet:
    kwargs = {k: v for k, v in given.items() if k not in _TIMM_ONLY}
    return _described(ResidualNet(**shape, **kwargs), pretrained, CIFAR)


def _wide(pretrained: bool, given: dict[str, Any], depth: int, width: int) -> ResidualNet:
    if depth < 10 or depth % 6 != 4:
        raise ValueError(f"the depth of a wide ResNet is 6n + 4 (10, 16, 22, 28, 34, …); got {depth}")
    widths = (16 * width, 32 * width, 64 * width)
    return _residual(pretrained, given, stem=16, widths=widths, blocks=(depth - 4) // 6, preact=True)


def _classic(pretrained: bool, given: dict[str, Any], depth: int) -> ResidualNet:
    return _residual(pretrained, given, stem=16, widths=(16, 32, 64), blocks=(depth - 2) // 6, preact=False)


def _left(img_size: int | Sequence[int], halvings: int = 2) -> int:
    """Pixels that are left after so many halvings."""
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    share = 2**halvings
    if min(height, width) < share:
        raise ValueError(
            f"this network halves the image {halvings} times, so each side needs {share} pixels; "
            f"got img_size={img_size!r}"
        )
    return (height // share) * (width // share)


def _conv_relu(inp: int, out: int, *, norm: bool = False) -> list[nn.Module]:
    return [nn.Conv2d(inp, out, 3, padding=1, bias=not norm), *([nn.BatchNorm2d(out)] if norm else []), nn.ReLU()]


def _dense(features: int, hidden: int, num_classes: int) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)]


@register_model
def preact_resnet18_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """Pre-activation ResNet-18, widths 64 to 512, 11.17 M parameters: the network of Rice et al. 2020."""
    return _residual(pretrained, kwargs, stem=64, widths=(64, 128, 256, 512), blocks=2, preact=True)


@register_model
def preact_resnet_cifar(pretrained: bool = False, *, width: int = 16, blocks: int = 5, **kwargs: Any) -> ResidualNet:
    """Narrow pre-activation ResNet: stages of ``width``, 2 ``width`` and 4 ``width`` with ``blocks`` blocks each."""
    widths = (width, 2 * width, 4 * width)
    return _residual(pretrained, kwargs, stem=width, widths=widths, blocks=blocks, preact=True)


@register_model
def wrn_cifar(pretrained: bool = False, *, depth: int = 28, width: int = 10, **kwargs: Any) -> ResidualNet:
    """Wide ResNet of ``depth`` 6n + 4 and widening factor ``width``, without dropout."""
    return _wide(pretrained, kwargs, depth, width)


@register_model
def wrn_28_10_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """Wide ResNet 28-10, 36.5 M parameters."""
    return _wide(pretrained, kwargs, 28, 10)


@register_model
def wrn_32_10_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """The "WRN-32-10" of Madry et al. and its successors: 6n + 2 with n = 5, so the same network as WRN-34-10."""
    return _wide(pretrained, kwargs, 34, 10)


@register_model
def wrn_34_10_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """Wide ResNet 34-10, 46.2 M parameters."""
    return _wide(pretrained, kwargs, 34, 10)


@register_model
def resnet20_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """ResNet-20 for CIFAR with option-A shortcuts, 0.27 M parameters."""
    return _classic(pretrained, kwargs, 20)


@register_model
def resnet32_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """ResNet-32 for CIFAR with option-A shortcuts, 0.46 M parameters."""
    return _classic(pretrained, kwargs, 32)


@register_model
def resnet44_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """ResNet-44 for CIFAR with option-A shortcuts, 0.66 M parameters."""
    return _classic(pretrained, kwargs, 44)


@register_model
def resnet56_cifar(pretrained: bool = False, **kwargs: Any) -> ResidualNet:
    """ResNet-56 for CIFAR with option-A shortcuts, 0.85 M parameters."""
    return _classic(pretrained, kwargs, 56)


def _plain(pretrained: bool, given: dict[str, Any], data: dict[str, Any], layers: list[nn.Module]) -> PlainNet:
    unknown = set(given) - set(_TIMM_ONLY)
    if unknown:
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    return _described(PlainNet(*layers), pretrained, data)


@register_model
def basicnet_cifar(
    pretrained: bool = False,
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    **kwargs: Any,
) -> PlainNet:
    """A small convolutional net, 0.55 M parameters at 32 px, for the low end of capacity comparisons.

    Two blocks of 3×3 convolution, BatchNorm, ReLU and 2×2 max pooling (32 and 64 channels), then linear layers of 128
    and ``num_classes``. The publications that speak of a "BasicNet" do not give its layers: this is our choice.
    """
    convolutions = [*_conv_relu(in_chans, 32, norm=True), nn.MaxPool2d(2)]
    convolutions += [*_conv_relu(32, 64, norm=True), nn.MaxPool2d(2)]
    return _plain(pretrained, kwargs, CIFAR, [*convolutions, *_dense(64 * _left(img_size), 128, num_classes)])


@register_model
def vgg11_cifar(
    pretrained: bool = False,
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    width: int = 64,
    **kwargs: Any,
) -> PlainNet:
    """VGG-11 with BatchNorm and one linear layer, as CIFAR code has it, 9.23 M parameters at 32 px.

    Eight 3×3 convolutions of ``width`` to 8 ``width`` channels, five 2×2 max poolings.
    """
    convolutions, channels = list[nn.Module](), in_chans
    for stage in ((1,), (2,), (4, 4), (8, 8), (8, 8)):
        for factor in stage:
            convolutions += _conv_relu(channels, factor * width, norm=True)
            channels = factor * width
        convolutions.append(nn.MaxPool2d(2))
    head = [nn.Flatten(), nn.Linear(channels * _left(img_size, 5), num_classes)]
    return _plain(pretrained, kwargs, CIFAR, [*convolutions, *head])


@register_model
def cnn_a_cifar(
    pretrained: bool = False,
    *,
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    **kwargs: Any,
) -> PlainNet:
    """The 4-layer "CNN-A" of the verification literature, 0.21 M parameters at 32 px.

    Two 4×4 convolutions of stride 2 (16 and 32 channels), then linear layers of 100 and ``num_classes``.
    """
    first, second = nn.Conv2d(in_chans, 16, 4, stride=2, padding=1), nn.Conv2d(16, 32, 4, stride=2, padding=1)
    head = _dense(32 * _left(img_size), 100, num_classes)
    return _plain(pretrained, kwargs, CIFAR, [first, nn.ReLU(), second, nn.ReLU(), *head])


@register_model
def small_cnn(
    pretrained: bool = False,
    *,
    num_classes: int = 10,
    in_chans: int = 1,
    img_size: int | Sequence[int] = 28,
    width: int = 16,
    **kwargs: Any,
) -> PlainNet:
    """Two times convolution, convolution, pooling (``width``, then 2 ``width`` channels), then 128 and ``num_classes``.

    Without BatchNorm; 0.22 M parameters for 28×28 grey images, the size that the quickstart trains.
    """
    convolutions = [*_conv_relu(in_chans, width), *_conv_relu(width, width), nn.MaxPool2d(2)]
    convolutions += [*_conv_relu(width, 2 * width), *_conv_relu(2 * width, 2 * width), nn.MaxPool2d(2)]
    head = _dense(2 * width * _left(img_size), 128, num_classes)
    return _plain(pretrained, kwargs, FASHION_MNIST, [*convolutions, *head])
