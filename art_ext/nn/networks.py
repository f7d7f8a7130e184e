"""The two shapes of network behind `art_ext.nn.cifar`: residual nets with a 3×3 stem, and layers in a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut; BatchNorm and ReLU before (``preact``) or after each convolution.

    Args:
        inp: channels in.
        out: channels out.
        stride: of the first convolution and of the shortcut.
        preact: pre-activation (He et al. 2016), else post-activation (He et al. 2015).
        pad: where the shape changes, the parameter-free shortcut "option A" in place of a 1×1 convolution.

    Example:
        >>> import torch
        >>> ResidualBlock(16, 32, stride=2, preact=True)(torch.zeros(1, 16, 8, 8)).shape
        torch.Size([1, 32, 4, 4])
    """

    def __init__(self, inp: int, out: int, *, stride: int, preact: bool, pad: bool = False) -> None:
        super().__init__()
        self.preact = preact
        self.bn1 = nn.BatchNorm2d(inp if preact else out)
        self.conv1 = nn.Conv2d(inp, out, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.shortcut: nn.Module | None = None
        if pad and (stride != 1 or inp != out):
            self.shortcut = _PadShortcut(out - inp, stride)
        elif stride != 1 or inp != out:
            self.shortcut = nn.Sequential(nn.Conv2d(inp, out, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Features (N, inp, H, W) → (N, out, H / stride, W / stride)."""
        if self.preact:  # in place only on outputs of BatchNorm, which its own backward does not need
            active = F.relu(self.bn1(x), inplace=True)
            skip = x if self.shortcut is None else self.shortcut(active)
            return self.conv2(F.relu(self.bn2(self.conv1(active)), inplace=True)) + skip
        skip = x if self.shortcut is None else self.shortcut(x)
        out = self.conv2(F.relu(self.bn1(self.conv1(x)), inplace=True))
        return F.relu(self.bn2(out) + skip, inplace=True)


class _PadShortcut(nn.Module):
    """Every ``stride``-th pixel, and zeros for the channels that are new. No parameters."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = extra, stride

    def forward(self, x: Tensor) -> Tensor:
        before = self.extra // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


class ResidualNet(nn.Module):
    """A 3×3 stem, stages of `ResidualBlock` (all but the first halve the image), average pooling, one linear layer.

    Args:
        stem: channels after the first convolution.
        widths: channels of each stage.
        blocks: blocks in each stage.
        preact: pre-activation blocks with 1×1 shortcuts, else post-activation blocks with option-A shortcuts.
        num_classes: outputs; 0 leaves the pooled features.
        in_chans: channels of the images.

    Example:
        >>> import torch
        >>> net = ResidualNet(stem=8, widths=(8, 16), blocks=1, preact=True, num_classes=3)
        >>> net(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 3])
    """

    bn: nn.BatchNorm2d
    bn1: nn.BatchNorm2d
    default_cfg: dict[str, Any]
    pretrained_cfg: dict[str, Any]

    def __init__(
        self, *, stem: int, widths: Sequence[int], blocks: int, preact: bool, num_classes: int = 10, in_chans: int = 3
    ) -> None:
        super().__init__()
        self.preact = preact
        self.num_features = widths[-1]
        self.conv1 = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False)
        if not preact:
            self.bn1 = nn.BatchNorm2d(stem)
        self.stages = [f"layer{k}" for k in range(1, len(widths) + 1)]
        for name, inp, out in zip(self.stages, (stem, *widths), widths, strict=False):
            first = ResidualBlock(inp, out, stride=1 if name == "layer1" else 2, preact=preact, pad=not preact)
            rest = [ResidualBlock(out, out, stride=1, preact=preact) for _ in range(blocks - 1)]
            self.add_module(name, nn.Sequential(first, *rest))
        if preact:
            self.bn = nn.BatchNorm2d(self.num_features)
        self.reset_classifier(num_classes)
        self.apply(_he_init)

    def forward_features(self, x: Tensor) -> Tensor:
        """Feature maps (N, widths[-1], h, w) of the images ``x`` (N, in_chans, H, W)."""
        x = self.conv1(x)
        if not self.preact:
            x = F.relu(self.bn1(x), inplace=True)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return F.relu(self.bn(x), inplace=True) if self.preact else x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits (N, num_classes) of feature maps; the pooled features where ``pre_logits``."""
        x = x.mean((2, 3))
        return x if pre_logits else self.linear(x)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, num_classes) of the images ``x`` (N, in_chans, H, W)."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new last layer; ``global_pool`` is there for timm's sake, the pooling is always the average."""
        self.num_classes = num_classes
        self.linear: nn.Module = nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()


class PlainNet(nn.Module):
    """Layers in a row, with the state-dict keys of an `nn.Sequential` but not its type, which ART would unroll.

    Args:
        layers: modules; the last one is the classifier.

    Example:
        >>> list(PlainNet(nn.Flatten(), nn.Linear(4, 2)).state_dict())
        ['1.weight', '1.bias']
    """

    default_cfg: dict[str, Any]
    pretrained_cfg: dict[str, Any]

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        for i, layer in enumerate(layers):
            self.add_module(str(i), layer)
        self.last = str(len(layers) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, in_chans, H, W) through all layers."""
        for layer in self.children():
            x = layer(x)
        return x

    def get_classifier(self) -> nn.Module:
        """The last layer."""
        return self.get_submodule(self.last)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new last layer over the same features; ``global_pool`` is there for timm's sake."""
        old = self.get_classifier()
        if not isinstance(old, nn.Linear):
            raise ValueError(f"the last layer is a {type(old).__name__}, not an nn.Linear")
        self.add_module(self.last, nn.Linear(old.in_features, num_classes))


def _he_init(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
