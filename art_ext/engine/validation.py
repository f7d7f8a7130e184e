"""Clean and robust accuracy on the held-out split, each epoch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.isolation import seeded
from art_ext.model import evaluating
from art_ext.processes import ALONE, Processes
from art_ext.threat import ThreatModel

ROWS = 128  # at most, in a forward pass


def validation_rows(batch_size: int, accumulate: int = 1) -> int:
    """Rows of a forward pass of the validation, in a training with such batches.

    The batch of all processes, or one that goes through the network in parts, need not fit into the memory of one
    device; and the random starts, drawn batch by batch, must not hang on the number of processes.

    Example:
        >>> validation_rows(64), validation_rows(512), validation_rows(512, accumulate=8), validation_rows(2, 4)
        (64, 128, 16, 1)
    """
    return min(batch_size, ROWS) // accumulate or 1


@dataclass(frozen=True)
class Validation:
    """A held-out set on the device, and the attack it is judged by: PGD on CE from the same random starts each epoch.

    Args:
        x: inputs (N, ...).
        y: labels (N,), int64.
        threat: as in training.
        steps: of PGD, with step size 2.5 · ε / steps.
        batch_size: of the forward passes.
        seed: of the random starts, and of what a randomised network draws.
        processes: who shares the work, batch by batch.
    """

    x: Tensor
    y: Tensor
    threat: ThreatModel
    steps: int
    batch_size: int
    seed: int
    processes: Processes = ALONE

    def accuracies(self, model: nn.Module) -> tuple[float, float]:
        """Clean and robust accuracy of ``model``, in [0, 1]."""
        _, clean, robust = self.by_class(model).sum(1).tolist()
        return clean / len(self.y), robust / len(self.y)

    def worst_class(self, model: nn.Module) -> float:
        """Robust accuracy of ``model`` on the class where it is lowest, of those that occur, in [0, 1]."""
        images, _, robust = self.by_class(model)
        return float((robust[images > 0] / images[images > 0]).min())

    def by_class(self, model: nn.Module) -> Tensor:
        """Images of each class, and how many ``model`` gets right without and in spite of the attack: (3, C), int64."""
        counts = torch.zeros(3, int(self.y.max()) + 1, dtype=torch.int64, device=self.x.device)
        batches = list(zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True))
        with evaluating(model):
            for number in range(self.processes.rank, len(batches), self.processes.count):
                x, y = batches[number]
                with seeded(self.seed + number):  # the draws of a batch, too, do not depend on who judges it
                    clean, robust = self._judged(model, x, y, self.seed + number)
                counts.index_add_(1, y, torch.stack((torch.ones_like(y), clean.long(), robust.long())))
        return self.processes.sum(counts)

    def _judged(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Which of the images the model gets right, and which of these in spite of the attack, (N,) bool."""
        generator = torch.Generator(x.device).manual_seed(seed)
        with torch.no_grad():
            clean = model(x).argmax(1) == y
        right, robust = clean.nonzero().squeeze(1), torch.zeros_like(clean)
        if len(right):
            robust[right] = self._survivors(model, x[right], y[right], generator)
        return clean, robust

    def _survivors(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        x_adv = pgd(model, x, y, threat=self.threat, steps=self.steps, early_exit=True, generator=generator)
        with torch.no_grad():
            withstood: Tensor = model(x_adv).argmax(1) == y
        return withstood
