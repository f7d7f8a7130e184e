"""Optimizers that treat the layers of a network differently, as vision transformers are fine-tuned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer

from art_ext.nn.normalize import Normalized
from art_ext.nn.parametric_noise import noise_scales


class LayerwiseOptimizer:
    """An optimizer, for ``optimizer=`` of `timm_classifier`, whose rate or weight decay depends on the layer.

    The groups are timm's (1.0.12 or newer): layer l of L has the learning rate lr · layer_decay^(L − l), the head being
    the last one. What a layer is, the architecture says; of a ViT: the embeddings, each block (the last one with the
    final norm), the head. Schedulers multiply all rates alike.

    Args:
        optimizer: of torch.optim, or a function (parameter groups, lr=, weight_decay=) -> optimizer.
        lr: of the head, > 0.
        weight_decay: ≥ 0.
        layer_decay: in (0, 1]; None for one rate. 0.65 to 0.75 are usual for ViT-B and ViT-L (BEiT, MAE).
        filter_bias_and_bn: no weight decay of biases, of the weights of norms, and of what the architecture names
            (position embedding, class token).
        **options: of the optimizer.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> import torch
        >>> from art_ext.adapters.timm import timm_classifier
        >>> make = LayerwiseOptimizer(torch.optim.AdamW, lr=1.0, weight_decay=0.05, layer_decay=0.5)
        >>> vit = {"name": "vit_tiny_patch16_224", "num_classes": 2, "input_shape": (3, 16, 16), "depth": 2}
        >>> groups = timm_classifier(**vit, optimizer=make, device="cpu").optimizer.param_groups
        >>> sorted({group["lr"] for group in groups})  # embeddings, two blocks, head
        [0.125, 0.25, 0.5, 1.0]
    """

    def __init__(
        self,
        optimizer: Callable[..., Optimizer],
        *,
        lr: float,
        weight_decay: float = 0.0,
        layer_decay: float | None = None,
        filter_bias_and_bn: bool = False,
        **options: Any,
    ) -> None:
        if layer_decay is not None and not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], or None for one rate; got {layer_decay!r}")
        if not lr > 0:
            raise ValueError(f"lr must be > 0; got {lr!r}")
        if not weight_decay >= 0:
            raise ValueError(f"weight_decay must be ≥ 0; got {weight_decay!r}")
        self.optimizer, self.lr, self.weight_decay, self.options = optimizer, lr, weight_decay, options
        self.layer_decay, self.filter_bias_and_bn = layer_decay, filter_bias_and_bn

    def __call__(self, parameters: Iterable[Any]) -> Optimizer:
        """Of parameters, or groups of them, without regard to layers."""
        return self.optimizer(parameters, lr=self.lr, weight_decay=self.weight_decay, **self.options)

    def of(self, network: nn.Module) -> Optimizer:
        """Of the parameters of ``network``, a model of timm or a `Normalized` one, each layer as it is told."""
        return self(self.groups(network))

    def groups(self, network: nn.Module) -> list[dict[str, Any]]:
        """The parameters of ``network`` that require gradients, with the rate and the weight decay of each group."""
        import timm.optim

        grouping: Any = timm.optim  # what it exports it does not declare
        inner: Any = network.model if isinstance(network, Normalized) else network
        free = set(inner.no_weight_decay()) if hasattr(inner, "no_weight_decay") else set()
        if self.layer_decay is None:
            groups = grouping.param_groups_weight_decay(inner, self.weight_decay, no_weight_decay_list=free)
        else:
            groups = grouping.param_groups_layer_decay(
                inner, self.weight_decay, no_weight_decay_list=free, layer_decay=self.layer_decay
            )
        for group in groups:
            group["lr"] = self.lr * group.pop("lr_scale", 1.0)
            if not self.filter_bias_and_bn:
                group["weight_decay"] = self.weight_decay
        return list(_without_noise(groups, inner))


def _without_noise(groups: Iterable[dict[str, Any]], network: nn.Module) -> Iterable[dict[str, Any]]:
    """The sizes of parametric noise apart: they have the rate of their layer and no weight decay."""
    scales = {id(scale) for scale in noise_scales(network).values()}
    for group in groups:
        for is_noise in (False, True):
            some = [p for p in group["params"] if (id(p) in scales) == is_noise]
            if some:
                yield {**group, "params": some, **({"weight_decay": 0.0} if is_noise else {})}
