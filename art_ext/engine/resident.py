"""Images that are decoded once and stay on the device, as bytes, where a stream would decode them in every epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from art_ext.data.folders import ImageFolder
from art_ext.data.images import CentreCrop
from art_ext.data.reading import read_pixels, readable
from art_ext.engine.loading import batches_in, draw_seed, floats
from art_ext.engine.memory import SHARE, may_stay
from art_ext.engine.streams import ImageBatches, Source
from art_ext.processes import Processes


class ResidentImages:
    """The batches of an `ImageBatches`, bit for bit, from the memory of its device: a byte for each value.

    Args:
        folder: its images are decoded when this is made.
        stream: the batches; with a `CentreCrop`.

    Attributes:
        waited: always 0.
        processes: those that share each batch.

    Raises:
        UnreadableImageError: an unreadable image.
    """

    waited = 0.0
    processes = Processes()

    def __init__(self, folder: ImageFolder, stream: ImageBatches) -> None:
        self.folder, self.size, self.num_classes = folder, len(folder), folder.num_classes
        self.batch_size, self.shuffle = stream.batch_size, stream.shuffle
        self._fingerprint = stream.fingerprint(folder)
        self.shape, self.device, self.layout = stream.shape, stream.device, stream.layout
        self.images = torch.from_numpy(read_pixels(folder, stream.shape, stream.crop)).to(stream.device)
        self.labels = torch.from_numpy(folder.labels).to(stream.device)

    def fingerprint(self) -> str:
        """As `ImageBatches.fingerprint`, of the images that are kept: another where unreadable ones are left out."""
        return self._fingerprint

    def per_epoch(self) -> int:
        """Batches in an epoch."""
        return batches_in(self.size, self.batch_size)

    def epoch(self, generator: torch.Generator, skip: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """As `ImageBatches.epoch`."""
        order = self.folder.order(generator if self.shuffle else None)
        draw_seed(generator)  # no crop needs it, but the next epoch's order comes after it
        for index in order.split(self.batch_size)[skip : self.per_epoch()]:
            mine = index[self.processes.rows(len(index))].to(self.device)
            yield floats(self.images[mine], self.device, self.layout), self.labels[mine]

    def close(self) -> None:
        """As `ImageBatches.close`; here nothing has to end."""


def image_batches(
    source: Source, *, resident: bool | None = None, share: float = SHARE, **options: Any
) -> ImageBatches | ResidentImages:
    """Batches of images, from the memory of the device where they fit into it, else streamed.

    Only a folder with a `CentreCrop` can be kept. What was decided is said in the log ``art_ext`` at level INFO.

    Args:
        source: an `art_ext.data.ImageFolder`, or `art_ext.data.Shards`.
        resident: False to stream in any case, True to keep the images in any case, None to decide by ``share``.
        share: of the free memory of the device that the images may take, in (0, 1].
        **options: of `ImageBatches`.

    Raises:
        ValueError: an argument out of its range, or images to be kept that are cut out anew in each epoch.
        UnreadableImageError: an unreadable image.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share!r}")
    stream = ImageBatches(source, **options)
    if not isinstance(source, ImageFolder) or not isinstance(stream.crop, CentreCrop):
        if resident:
            raise ValueError("resident=True needs a folder of images and a CentreCrop: other images change each epoch")
        return stream
    what = f"{len(source)} images of {'×'.join(map(str, stream.shape))} bytes"
    needed = len(source) * math.prod(stream.shape)
    if resident is False or not (resident or may_stay(needed, stream.device, what=what, share=share)):
        return stream
    return ResidentImages(readable(source, on_error="skip") if stream.skips else source, stream)
