"""Training data as batches of tensors on the device."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from math import ceil
from operator import length_hint
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from art_ext.engine.loading import batches_in
from art_ext.engine.memory import may_stay
from art_ext.isolation import fingerprint
from art_ext.processes import ALONE, Processes


class Batches(Protocol):
    """Where the training loop gets its batches."""

    size: int
    batch_size: int
    processes: Processes

    def fingerprint(self) -> str:
        """The same for the same data in the next process: a run must not go on with other data."""

    def per_epoch(self) -> int:
        """Batches in an epoch."""

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches (inputs, labels) of one epoch after the first ``skip``, on the device.

        Of each, this process's rows. ``generator`` (CPU, in the same state everywhere) draws the order of all rows.
        """


class TensorBatches:
    """A data set in memory: on the device when it fits there, else pinned on the host.

    The last batch is dropped when it holds a single example (BatchNorm cannot train on one) and is not the only one.
    With shuffling, another example is left out each time.
    """

    processes = ALONE

    def __init__(
        self, x: np.ndarray, y: np.ndarray, *, batch_size: int, device: torch.device, shuffle: bool, channels_last: bool
    ) -> None:
        self.size, self.batch_size, self.device, self.shuffle = len(x), batch_size, device, shuffle
        images = torch.from_numpy(x)
        self._format = torch.channels_last if channels_last and x.ndim == 4 else torch.contiguous_format
        images = images.contiguous(memory_format=self._format)
        self.x = images.to(device) if fits(images, device) else images.pin_memory()
        self.y = torch.from_numpy(y).to(device)

    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return batches_in(self.size, self.batch_size)

    def fingerprint(self) -> str:
        """Of all labels and some of the inputs, the batch size and the order."""
        some = self.x[:: max(1, self.size // 64)]
        return f"{self.size}/{self.batch_size}/{self.shuffle}/{fingerprint(some, self.y)}"

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the data."""
        order = torch.randperm(self.size, generator=generator) if self.shuffle else torch.arange(self.size)
        for batch in order.to(self.x.device).split(self.batch_size)[skip : self.per_epoch()]:
            index = batch[self.processes.rows(len(batch))]
            x = self.x[index].to(self.device, non_blocking=True)
            yield x.contiguous(memory_format=self._format), self.y[index.to(self.device)]


class GeneratorBatches:
    """An ART `DataGenerator`, whose batches arrive as numpy arrays; its own order, augmentation and batch size.

    ``check`` (x, y, trial=...) brings a batch into the one form; the first also goes through the model for a trial.
    A batch of a single example is left out, as by `TensorBatches`. One process only: what order the generator draws
    in another one is its own affair. For the same reason, a run that is resumed may see other batches.
    """

    processes = ALONE

    def __init__(self, generator: Any, check: Any, *, device: torch.device) -> None:
        self._generator, self.device = generator, device
        self.size, self.batch_size = generator.size, generator.batch_size
        self._stream = self._checked(check)

    def per_epoch(self) -> int:
        """Batches in one pass over the data: what the generator says, else the incomplete last one counts too."""
        known = getattr(self._generator, "batches_per_epoch", ceil(self.size / self.batch_size))
        return max(1, length_hint(self._generator.iterator, known))

    def fingerprint(self) -> str:
        """Its size and that of its batches: nothing else is known."""
        return f"{type(self._generator).__name__}/{self.size}/{self.batch_size}"

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass over the data."""
        for x, y in islice(self._stream, self.per_epoch() - skip):
            if len(y) > 1 or self.batch_size == 1:
                yield torch.from_numpy(x).to(self.device), torch.from_numpy(y).to(self.device)

    def _checked(self, check: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield check(*self._generator.get_batch(), trial=True)
        while True:
            yield check(*self._generator.get_batch(), trial=False)


def fits(tensor: Tensor, device: torch.device) -> bool:
    """Whether ``tensor`` takes at most half of the device's free memory; says so (on the CPU it is there already)."""
    if device.type == "cpu":
        return True
    what = f"the data set of {len(tensor)} examples"
    return may_stay(tensor.numel() * tensor.element_size(), device, what=what)
