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
        counts = torch.zeros(2, dtype=torch.int64)
        batches = list(zip(self.x.split(self.batch_size), self.y.split(self.batch_size), strict=True))
        with evaluating(model):
            for number in range(self.processes.rank, len(batches), self.processes.count):
                with seeded(self.seed + number):  # the draws of a batch, too, do not depend on who judges it
                    counts += torch.tensor(self._counts(model, *batches[number], self.seed + number))
        clean, robust = self.processes.sum(counts.to(self.x.device)).tolist()
        return clean / len(self.y), robust / len(self.y)

    def _counts(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> tuple[int, int]:
        generator = torch.Generator(x.device).manual_seed(seed)
        with torch.no_grad():
            right = (model(x).argmax(1) == y).nonzero().squeeze(1)
        return len(right), self._survivors(model, x[right], y[right], generator) if len(right) else 0

    def _survivors(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> int:
        x_adv = pgd(model, x, y, threat=self.threat, steps=self.steps, early_exit=True, generator=generator)
        with torch.no_grad():
            return int((model(x_adv).argmax(1) == y).sum())
