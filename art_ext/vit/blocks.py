"""Where a vision transformer has its attention and its patches: by the names that timm and torchvision give them."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import torch
from torch import nn

_ATTENTION = ("attn", "self_attention", "self_attn")
# What a transformer block has beside its attention; in a convolutional block, "attn" is a gate over the channels.
_BESIDE = frozenset({"mlp", "norm1", "ln_1"})


def attention_branches(model: nn.Module) -> list[nn.Module]:
    """The attention of each transformer block, in the order of the blocks, also inside wrappers around the network.

    Raises:
        ValueError: there is none that is known.

    Example:
        >>> layer = nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=8)
        >>> [type(branch).__name__ for branch in attention_branches(nn.Sequential(layer, nn.Flatten()))]
        ['MultiheadAttention']
    """
    found = [m._modules.get(name) for m in model.modules() if _BESIDE & m._modules.keys() for name in _ATTENTION]
    branches = [child for child in found if child is not None and not isinstance(child, nn.Identity)]
    if not branches:
        raise ValueError(
            f"{_named(model)} has no transformer blocks whose attention is known (a child named "
            f"{', '.join(_ATTENTION)} beside mlp, norm1 or ln_1), so no attention can be dropped; for another kind of "
            "network leave vit and the techniques a&p and ard out"
        )
    return branches


def patch_size(model: nn.Module) -> tuple[int, int]:
    """Height and width in pixels of the patches that a transformer cuts its images into.

    Raises:
        ValueError: it has no patch embedding that is known.

    Example:
        >>> from torchvision.models import VisionTransformer
        >>> patch_size(VisionTransformer(8, 4, 1, 1, 8, 8))
        (4, 4)
    """
    for module in model.modules():
        of_torchvision = {"conv_proj", "encoder"} <= module._modules.keys()
        embedding = module if of_torchvision else module._modules.get("patch_embed")
        size = _pair(getattr(embedding, "patch_size", None))
        if size is not None and embedding is not None and _tiles(embedding):
            return size
    raise ValueError(
        f"{_named(model)} has no patch embedding whose patch_size is known; give the number of pixels instead of the "
        "model, or leave vit and the techniques a&p and prm out"
    )


def _tiles(embedding: nn.Module) -> bool:
    """Whether its patches are of pixels, side by side: no overlap, no convolutional network in front."""
    projection = embedding._modules.get("proj")
    overlap = isinstance(projection, nn.Conv2d) and projection.stride != projection.kernel_size
    return not overlap and "backbone" not in embedding._modules


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int) for v in value):
        return value[0], value[1]
    return None


def _named(model: nn.Module) -> str:
    """The innermost network's class: wrappers say nothing."""
    while True:
        inner = next((model._modules[n] for n in ("network", "model") if model._modules.get(n) is not None), None)
        if inner is None:
            return f"the network ({type(model).__name__})"
        model = inner


def check_keep(keep: float, generator: torch.Generator | None) -> None:
    """Refuse a share of what is kept that is none, and a generator on a GPU, whose draws the host would wait for.

    Raises:
        ValueError: as said.
    """
    value: object = keep
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ValueError(f"keep must be a share in [0, 1]; got {keep!r}")
    if generator is not None and generator.device.type != "cpu":
        raise ValueError(f"generator must be on the CPU, also for a model on a GPU; got one on {generator.device}")
