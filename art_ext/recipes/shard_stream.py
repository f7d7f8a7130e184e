"""The data set ``shards`` of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from art_ext.data import CentreCrop, Shards, UnreadableImageError, image_shards
from art_ext.data.images import Item, Pixels
from art_ext.recipes.data_section import DataSection
from art_ext.recipes.streamed import Arrays, Stream, Streamed

logger = logging.getLogger("art_ext")


@dataclass(frozen=True, kw_only=True)
class ShardStream(Stream):
    """Archives in the form of WebDataset, such as ``train-{000..146}.tar``.

    Args:
        train: archives to train on; relative to ``root``, or an address with a colon.
        test: archives to judge by, at the centres of the images.
        held_out: archives to choose the best epoch by.
        num_classes: labels lie in [0, ``num_classes``).
        examples: images in an epoch; null counts them, which reads all archives once.
        buffer: images among which the next one is drawn, compressed, in memory.
    """

    description: ClassVar[str] = "archives of images in the form of WebDataset, read while training; extra: webdataset"

    train: str
    test: str
    num_classes: int
    held_out: str | None = None
    examples: int | None = None
    buffer: int = 2000

    def check(self, section: DataSection) -> None:
        """Archives are read from end to end: nothing can be chosen from them."""
        super().check(section)
        asked = {"train_examples": None, "classes": None, "label_noise": 0.0, "validation_split": 0.0}
        for name, default in asked.items():
            if getattr(section, name) != default:
                raise ValueError(f"data.{name} cannot be had of shards, which are read as they are; leave it out")

    def read(self, section: DataSection, seed: int) -> Streamed:
        """The archives to train on, and how to read the others.

        Raises:
            ImportError: the extra is not installed.
            FileNotFoundError: no such archive.
            ValueError: a damaged archive, a label out of its range.
        """
        source = self._shards(self.train, self.examples)
        limit = section.test_examples
        test = self._shards(self.test, limit)
        held_out = None if self.held_out is None else self._arrays(self._shards(self.held_out))
        return Streamed(source, self.options(), self.shape, lambda: self._arrays(test), held_out)

    def _shards(self, urls: str, size: int | None = None) -> Shards:
        placed = urls if ":" in urls else str(self.folder / urls)
        return image_shards(placed, num_classes=self.num_classes, size=size, buffer=self.buffer)

    def _arrays(self, shards: Shards) -> Arrays:
        pixels, labels = zip(*self._readable(shards.items(None)), strict=True)
        images = np.stack(pixels).transpose(0, 3, 1, 2).astype(np.float32)
        images /= 255
        return np.ascontiguousarray(images), np.array(labels, dtype=np.int64)

    def _readable(self, items: Iterator[Item]) -> Iterator[tuple[Pixels, int]]:
        for item in items:
            try:
                yield item.read(self.shape, CentreCrop(), 0), item.label
            except UnreadableImageError as error:
                if self.on_error == "raise":
                    raise
                logger.warning("left out: %s", error)
