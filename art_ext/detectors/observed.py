"""What a classifier makes of an image: its logits and the features before its last layer, both with gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.isolation import seeded
from art_ext.model import DefendedModel, evaluating
from art_ext.naming import lookup
from art_ext.nn.heads import find_head

FEATURES = {"penultimate": "input of the last layer, and the logits", "logits": "the logits alone"}
TRIED = 2  # images of the trial


class Observation(NamedTuple):
    """Of N images: logits (N, C), and evidence (N, E): the logits in descending order, then the features if any.

    The order makes an attack look the same whichever class it starts from (our decision).
    """

    logits: Tensor
    evidence: Tensor


class Observed(nn.Module):
    """A classifier that shows its evidence. Nothing stays installed in it: a hook lives for one pass.

    Args:
        classifier: an ART `PyTorchClassifier` of images; shared, not copied.
        features: ``"penultimate"`` or ``"logits"``.
        head: name of the last layer, see `art_ext.nn.heads.find_head`; None: it is looked for.

    Attributes:
        size: E, the length of the evidence.

    Raises:
        ValueError: unknown features, no such layer or none that can be found, inputs that are no images.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1))
        >>> logits, evidence = Observed(classifier)(torch.rand(4, 3, 2, 2))
        >>> logits.shape, evidence.shape
        (torch.Size([4, 3]), torch.Size([4, 8]))
    """

    def __init__(
        self, classifier: PyTorchClassifier, *, features: str = "penultimate", head: str | None = None
    ) -> None:
        super().__init__()
        lookup(FEATURES, features, what="features")
        self.model = DefendedModel(classifier)
        shape = tuple(classifier.input_shape)
        if len(shape) != 3:
            raise ValueError(f"the classifier must take images (C, H, W); its input_shape is {shape}")
        with evaluating(self.model), torch.no_grad(), seeded(0):
            x = torch.rand(TRIED, *shape, device=self.model.device)
            self.head = self._head(x, classifier.nb_classes, head) if features == "penultimate" else None
            self.size: int = self(x).evidence.shape[1]

    def _head(self, x: Tensor, classes: int, name: str | None) -> str:
        for step in self.model.steps:
            x = step(x)
        try:
            return find_head(self.model.network, x, classes=classes, name=name)
        except ValueError as error:
            raise ValueError(f"{error}; or take features='logits', which needs no layer") from error

    def forward(self, x: Tensor) -> Observation:
        """Logits and evidence of images (N, C, H, W) in [0, 1]."""
        if self.head is None:
            logits = self.model(x)
            return Observation(logits, _descending(logits))
        seen: list[Tensor] = []
        layer = self.model.network.get_submodule(self.head)
        hook = layer.register_forward_pre_hook(lambda _layer, args: seen.append(args[0]))
        try:
            logits = self.model(x)
        finally:
            hook.remove()
        features = seen[-1].float().reshape(len(x), -1)
        return Observation(logits, torch.cat((_descending(logits), features), 1))


def _descending(logits: Tensor) -> Tensor:
    return logits.float().sort(1, descending=True).values
