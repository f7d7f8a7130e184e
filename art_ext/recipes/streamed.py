"""Images that are read while the training runs: what folders and archives of them have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from art_ext.data import DATA_VARIABLE, ImageFolder, Images, Labels, RandomCrop, Shards
from art_ext.engine.resident import ResidentImages, image_batches
from art_ext.engine.streams import ImageBatches
from art_ext.recipes.data_section import DataSection

Arrays = tuple[Images, Labels]


class Streamed(NamedTuple):
    """What is streamed, and what is not.

    Args:
        source: the images to train on.
        options: of `art_ext.engine.resident.image_batches`.
        shape: channels, height and width.
        read_test: gives the test images.
        held_out: training images kept aside.
    """

    source: ImageFolder | Shards
    options: Mapping[str, Any]
    shape: tuple[int, int, int]
    read_test: Callable[[], Arrays]
    held_out: Arrays | None

    def batches(self, batch_size: int, device: torch.device, channels_last: bool) -> ImageBatches | ResidentImages:
        """Batches for the training loop."""
        here: dict[str, Any] = {"batch_size": batch_size, "device": device, "channels_last": channels_last}
        return image_batches(self.source, shape=self.shape, **self.options, **here)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """What folders and shards have in common.

    Args:
        root: the folder of the set; a relative one in the working directory or in the folder of ART_EXT_DATA.
        size: height and width that the images are brought to.
        channels: 3, or 1 for grey.
        crop: of the images to train on: random (8 to 100 % of the area, as ImageNet recipes have it) or centre.
        on_error: raise or skip; at an unreadable image.
        workers: processes that decode; null for half of the cores, 8 at most.
        prefetch: batches that each worker may be ahead.
    """

    root: str | None
    size: int
    channels: int = 3
    crop: Literal["random", "centre"] = "random"
    on_error: Literal["raise", "skip"] = "raise"
    workers: int | None = None
    prefetch: int = 2

    def __post_init__(self) -> None:
        """Refuse what no stream could be."""
        for name, allowed in (("crop", ("random", "centre")), ("on_error", ("raise", "skip")), ("channels", (1, 3))):
            if getattr(self, name) not in allowed:
                told = " or ".join(map(str, allowed))
                raise ValueError(f"data.options.{name} must be {told}; got {getattr(self, name)!r}")

    @property
    def folder(self) -> Path:
        """Where the set lies: a relative ``root`` in the working directory, or in the folder of ``ART_EXT_DATA``."""
        root, shared = Path(str(self.root)).expanduser(), os.environ.get(DATA_VARIABLE)
        if shared and not root.is_dir() and (Path(shared).expanduser() / root).is_dir():
            return Path(shared).expanduser() / root
        return root

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width."""
        return (self.channels, self.size, self.size)

    def check(self, section: DataSection) -> None:
        """Refuse what the section asks of these images in vain.

        Raises:
            ValueError: no root, or a key of the section that makes no sense here.
        """
        if self.root is None:
            raise ValueError(f"data set {section.name!r} needs data.root, the folder that it lies in")

    def options(self) -> dict[str, Any]:
        """For `art_ext.engine.resident.image_batches`."""
        crop = RandomCrop() if self.crop == "random" else None
        return {"crop": crop} | {name: getattr(self, name) for name in ("on_error", "workers", "prefetch")}
