"""Batches of images that are read while the training runs, and those that are kept on the device because they fit."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import islice
from time import perf_counter
from typing import Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from art_ext.attacks.pgd import check_steps
from art_ext.data.folders import ON_ERROR
from art_ext.data.images import MODES, CentreCrop, Crop, Item, UnreadableImageError
from art_ext.engine.decoding import Decoded, Decoder, Job
from art_ext.engine.loading import Feed, ahead, batches_in, default_workers, draw_seed, floats, loader, numbered
from art_ext.naming import lookup
from art_ext.processes import Processes

logger = logging.getLogger("art_ext")


class Source(Protocol):
    """Images that are not decoded yet, such as an `art_ext.data.ImageFolder`."""

    @property
    def num_classes(self) -> int:
        """Labels lie in [0, ``num_classes``)."""

    def __len__(self) -> int:
        """Images in an epoch."""

    def fingerprint(self) -> str:
        """The same for the same images."""

    def items(self, generator: torch.Generator | None, skip: int = 0) -> Iterator[Item]:
        """One pass but for the first ``skip`` images; the order is drawn from ``generator`` before this returns."""


class ImageBatches:
    """Batches for the training loop, decoded by worker processes, brought to the device as bytes, float32 there.

    The order of an epoch and its random crops are drawn from the generator given to `epoch`; how many workers there
    are makes no difference. A single example left at the end of an epoch is left out.

    Args:
        source: an `art_ext.data.ImageFolder`, or `art_ext.data.Shards`.
        shape: channels (1 or 3), height and width that the model takes.
        batch_size: at least 1.
        device: where the batches go.
        crop: which part of each image: `art_ext.data.RandomCrop` or `art_ext.data.CentreCrop` (None).
        shuffle: draw a new order each epoch.
        workers: processes that decode; 0 for none, None for half of the cores, 8 at most.
        prefetch: batches that each worker may be ahead.
        on_error: at an unreadable image ``"raise"``, or ``"skip"``: the next readable image of the batch stands in for
            it, so that no batch changes its size, and a warning in the log ``art_ext`` names it, once.
            `art_ext.data.readable` leaves such files out before.
        channels_last: memory layout of the batches.

    Attributes:
        size: examples in an epoch.
        num_classes: labels lie in [0, ``num_classes``).
        waited: seconds that the training has waited for batches so far.
        processes: those that share each batch; each decodes its own rows.

    Raises:
        ValueError: an argument out of its range, an empty source.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from PIL import Image
        >>> from art_ext.data import image_folder
        >>> root = Path(tempfile.mkdtemp())
        >>> for label in ("cat", "dog"):
        ...     (root / label).mkdir()
        ...     for i in range(3):
        ...         Image.new("RGB", (40, 30)).save(root / label / f"{i}.png")
        >>> batches = ImageBatches(image_folder(root), shape=(3, 16, 16), batch_size=4, device="cpu", workers=0)
        >>> [(x.shape, y.tolist()) for x, y in batches.epoch(torch.Generator().manual_seed(0))]
        [(torch.Size([4, 3, 16, 16]), [0, 1, 1, 0]), (torch.Size([2, 3, 16, 16]), [0, 1])]
    """

    processes = Processes()

    def __init__(
        self,
        source: Source,
        *,
        shape: tuple[int, int, int],
        batch_size: int,
        device: torch.device | str,
        crop: Crop | None = None,
        shuffle: bool = True,
        workers: int | None = None,
        prefetch: int = 2,
        on_error: str = "raise",
        channels_last: bool = True,
    ) -> None:
        _check(source, shape, workers)
        check_steps(batch_size=batch_size, prefetch=prefetch)
        self.source, self.size, self.num_classes = source, len(source), source.num_classes
        self.batch_size, self.shuffle = batch_size, shuffle
        self.shape, self.crop = (shape[0], shape[1], shape[2]), crop or CentreCrop()
        self.device, self.waited = numbered(device), 0.0
        self.workers = default_workers() if workers is None else workers
        self.prefetch, self.skips = prefetch, lookup(ON_ERROR, on_error, what="on_error")
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self._told: set[str] = set()
        self._feed = Feed()
        self._loader = self._start()

    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return batches_in(self.size, self.batch_size)

    def fingerprint(self, source: Source | None = None) -> str:
        """Of the images' names and labels, and of what decides the batches; the same for `ResidentImages` of them.

        Args:
            source: images to say it of; default its own.
        """
        images = (source or self.source).fingerprint()
        return f"{images}/{self.shape}/{self.crop}/{self.batch_size}/{self.shuffle}"

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of one epoch but for the first ``skip``, which are not decoded; one epoch at a time.

        Args:
            generator: on the CPU; draws order and crops, the same whatever is skipped.
            skip: batches to leave out.

        Raises:
            UnreadableImageError: an unreadable image, or with ``"skip"`` a batch of nothing else.
        """
        for batch in self.decoded(generator, skip):
            yield floats(batch.images, self.device, self.layout), batch.labels.to(self.device, non_blocking=True)

    def decoded(self, generator: torch.Generator, skip: int = 0) -> Iterator[Decoded]:
        """As `epoch`, before the batches go to the device."""
        items = self.source.items(generator if self.shuffle else None, skip * self.batch_size)
        seed = draw_seed(generator)
        self._feed.jobs = jobs = ahead(self._jobs(items, seed, skip), 2)
        batches = iter(self._loader)
        while (batch := self._next(batches)) is not None:
            if self._feed.jobs is not jobs:
                raise RuntimeError("another epoch of these batches has begun; only one can run at a time")
            yield batch

    def close(self) -> None:
        """End the worker processes; a further epoch starts new ones."""
        self._loader = self._start()

    def _start(self) -> DataLoader[Decoded]:
        decoder = Decoder(self.shape, self.crop)
        return loader(decoder, self._feed, self.workers, self.prefetch, pin=self.device.type == "cuda")

    def _jobs(self, items: Iterator[Item], seed: int, skip: int) -> Iterator[Job]:
        for number in range(skip, self.per_epoch()):
            batch = list(islice(items, self.batch_size))
            if len(batch) < min(self.batch_size, self.size - number * self.batch_size):
                raise ValueError(f"there are fewer images than {self.size}, the size that the source states")
            yield Job(seed, batch[self.processes.rows(len(batch))])

    def _next(self, batches: Iterator[Decoded]) -> Decoded | None:
        began = perf_counter()
        batch = next(batches, None)
        self.waited += perf_counter() - began
        if batch is not None and batch.faults:
            self._tell(batch)
        return batch

    def _tell(self, batch: Decoded) -> None:
        if not self.skips or not len(batch.images):
            hint = "on_error='skip' goes on without it" if not self.skips else "nor any other of its batch"
            raise UnreadableImageError(f"{batch.faults[0]} ({hint})")
        for fault in batch.faults:
            if fault not in self._told:
                self._told.add(fault)
                logger.warning("skipped: %s", fault)


def _check(source: Source, shape: tuple[int, int, int], workers: int | None) -> None:
    if not len(source):
        raise ValueError("source holds no images")
    if len(shape) != 3 or shape[0] not in MODES or min(shape) < 1:
        raise ValueError(f"shape must be (channels, height, width) with 1 or 3 channels; got {tuple(shape)}")
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be at least 0, or None; got {workers!r}")
