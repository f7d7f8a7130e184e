"""What `art_ext.INNTrainer` trains: a widened copy of a network, and the interference that it learns under."""

from __future__ import annotations

import copy
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.optim import Optimizer

from art_ext.isolation import fingerprint, seeded
from art_ext.model import DefendedModel, evaluating
from art_ext.nn.heads import find_head, widen
from art_ext.nn.interference import Interference, draw_index, interfere


class InterferedModel(DefendedModel):
    """A `DefendedModel` of a copy of a classifier's network, with more outputs.

    In train mode the logits of all outputs, of inputs as they are: the trainer's loop disturbs them. In eval mode the
    logits of the classes, of inputs under one draw of the interference: what a validation should see.

    Args:
        classifier: stays as it is.
        interference: for eval mode.
        extra: outputs to add, at least 0.
        head: name of the last layer, see `find_head`.
        seed: of the new outputs' weights.

    Attributes:
        optimizer: a copy of the classifier's, for the copied network; None where it has none.

    Raises:
        ValueError: a network with another number of outputs than the classifier; a last layer that cannot be found or
            widened.
    """

    def __init__(
        self, classifier: PyTorchClassifier, interference: Interference, *, extra: int, head: str | None, seed: int
    ) -> None:
        super().__init__(classifier)
        self.classes = int(classifier.nb_classes)
        copied: tuple[nn.Module, Optimizer | None] = copy.deepcopy((classifier.model, classifier.optimizer))
        self.network, self.optimizer = copied
        with seeded(seed), evaluating(self):
            self._widen(tuple(classifier.input_shape), extra, head)
        self.interference = interference.to(self.device)

    def _widen(self, shape: tuple[int, ...], extra: int, head: str | None) -> None:
        x = torch.rand(2, *shape, device=self.device)
        for step in self.steps:
            x = step(x)
        before = self._logits(x)
        if before.shape != (len(x), self.classes):
            seen = tuple(before.shape)
            raise ValueError(f"the network returns {seen} for 2 images; nb_classes is {self.classes}")
        if not extra:
            return
        name = find_head(self.network, x, classes=self.classes, name=head)
        widen(self.network, name, extra, self.optimizer)
        after, wanted = self._logits(x), (len(x), self.classes + extra)
        if after.shape != wanted or not torch.allclose(after[:, : self.classes], before, rtol=1e-4, atol=1e-5):
            raise ValueError(
                f"after widening {name!r} by {extra} the network should return {wanted} with the old logits first; it "
                f"returns {tuple(after.shape)}: give head= the name of the layer whose outputs are the logits"
            )

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, classes + extra) in train mode, (N, classes) in eval mode."""
        if self.training:
            return super().forward(x)
        return super().forward(self.interference(x))[:, : self.classes]


class Interfering:
    """What stands in the place of the inner attack: a fresh draw of the interference for each example.

    Backgrounds, told by their labels, get the noise alone.

    Args:
        interference: whose backgrounds and weights to use.
        classes: labels from here on are those of backgrounds.
    """

    def __init__(self, interference: Interference, classes: int) -> None:
        self._of, self._classes = interference, classes
        self._kept: Tensor | None = None

    def __repr__(self) -> str:
        """What makes a run another one."""
        return f"{self._of!r} of {fingerprint(self._of.backgrounds)}"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Disturbed ``x`` (N, C, H, W), in [0, 1]."""
        of, count = self._of, len(self._of.backgrounds)
        weights: dict[str, Any] = {name: getattr(of, name) for name in ("alpha", "beta", "gamma", "density")}
        index = None
        if count and of.alpha:
            drawn = draw_index(len(x), count, generator=generator, device=x.device)
            index = torch.where(y < self._classes, drawn, count)
        return interfere(x, self._choices(x), index, **weights, generator=generator)

    def _choices(self, x: Tensor) -> Tensor:
        """All backgrounds, and nothing for those that are backgrounds themselves; brought to ``x``'s device once."""
        if self._kept is None or self._kept.device != x.device:
            backgrounds = self._of.backgrounds.to(x.device)
            self._kept = torch.cat((backgrounds, torch.zeros_like(backgrounds[:1])))
        return self._kept
