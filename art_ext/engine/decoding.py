"""What the worker processes of a stream do: files in, bytes of pixels out. They know nothing of order or device."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from art_ext.data.images import Crop, Item, Pixels, UnreadableImageError


class Job(NamedTuple):
    """A batch to decode; ``seed`` is the epoch's."""

    seed: int
    items: list[Item]


class Decoded(NamedTuple):
    """A batch: uint8 (N, H, W, C), int64 (N,), and what was wrong with the images that others stand in for."""

    images: Tensor
    labels: Tensor
    faults: list[str]


@dataclass
class Decoder(Dataset[Decoded]):
    """``decoder[job]`` is the batch; which worker does it makes no difference."""

    shape: tuple[int, int, int]
    crop: Crop

    def __getitem__(self, job: Job) -> Decoded:
        """Decode; in the place of an unreadable image stands the next of the batch that can be read."""
        faults: list[str] = []
        pixels = [self._read(item, job.seed, faults) for item in job.items]
        able = [i for i, image in enumerate(pixels) if image is not None]
        if not able:
            return Decoded(torch.empty(0), torch.empty(0), faults)
        chosen = [able[np.searchsorted(able, i) % len(able)] for i in range(len(pixels))]
        images = torch.from_numpy(np.stack([image for i in chosen if (image := pixels[i]) is not None]))
        return Decoded(images, torch.tensor([job.items[i].label for i in chosen]), faults)

    def _read(self, item: Item, seed: int, faults: list[str]) -> Pixels | None:
        try:
            return item.read(self.shape, self.crop, seed)
        except UnreadableImageError as error:  # told as data: an error of a worker arrives as the text of a traceback
            faults.append(str(error))
            return None


def be_a_worker(number: int) -> None:
    """Let no signal to the whole process group interrupt the main process, which may have something to save.

    Ctrl-C is the main process's affair. At SIGTERM a worker ends as if all were well; if it died of the signal, the
    loader would raise an error in the main process, wherever that is.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
