"""Reading a folder of images as a whole: into arrays, or only to see whether it can be read."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from art_ext.data.folders import ON_ERROR, ImageFolder
from art_ext.data.images import CentreCrop, Crop, Pixels, UnreadableImageError, check_image, read_image
from art_ext.data.sets import Images, Labels
from art_ext.naming import lookup

T = TypeVar("T")
BLOCK = 1024  # files at a time: a set may have millions
logger = logging.getLogger("art_ext")


def readable(folder: ImageFolder, *, on_error: str = "raise") -> ImageFolder:
    """The images that can be decoded: reads every file once, on all cores; 224-pixel photographs take about 1 ms each.

    Args:
        folder: what `image_folder` found.
        on_error: ``"raise"``, or ``"skip"`` to leave the others out, with a warning in the log ``art_ext`` for each.

    Raises:
        UnreadableImageError: a damaged file; its path is named.
    """
    skip = lookup(ON_ERROR, on_error, what="on_error")
    kept = np.ones(len(folder), dtype=bool)
    for index, error in enumerate(_in_threads(folder, _fault)):
        if error is not None:
            if not skip:
                raise error
            logger.warning("left out: %s", error)
            kept[index] = False
    return folder.select(kept)


def read_arrays(
    folder: ImageFolder, shape: tuple[int, int, int], *, crop: Crop | None = None, limit: int | None = None
) -> tuple[Images, Labels]:
    """A folder as arrays, such as `art_ext.evaluate` takes; for sets that fit into memory.

    Args:
        folder: what `image_folder` found.
        shape: channels (1 or 3), height and width.
        crop: which part of each image; None for `CentreCrop`.
        limit: take that many images, evenly spread over the folder; None for all.

    Returns:
        float32 (N, C, H, W) in [0, 1] and int64 (N,).

    Raises:
        UnreadableImageError: a damaged file; its path is named.
    """
    if limit is not None and limit < len(folder):
        folder = folder.select(np.linspace(0, len(folder) - 1, limit).astype(np.int64))
    images = np.empty((len(folder), *shape), dtype=np.float32)
    for index, pixels in enumerate(_pixels(folder, shape, crop or CentreCrop())):
        images[index] = pixels.transpose(2, 0, 1)
    images /= 255
    return images, folder.labels.copy()


def read_pixels(folder: ImageFolder, shape: tuple[int, int, int], crop: Crop) -> Pixels:
    """The images of `read_arrays` as bytes (N, H, W, C), a quarter of the memory."""
    channels, height, width = shape
    images = np.empty((len(folder), height, width, channels), dtype=np.uint8)
    for index, pixels in enumerate(_pixels(folder, shape, crop)):
        images[index] = pixels
    return images


def _pixels(folder: ImageFolder, shape: tuple[int, int, int], crop: Crop) -> Iterator[Pixels]:
    return _in_threads(folder, lambda folder, index: read_image(folder.path(index), shape, crop))


def _fault(folder: ImageFolder, index: int) -> UnreadableImageError | None:
    try:
        check_image(folder.path(index))
    except UnreadableImageError as error:
        return error
    return None


def _in_threads(folder: ImageFolder, work: Callable[[ImageFolder, int], T]) -> Iterator[T]:
    """``work`` on every image, in order; Pillow decodes without holding the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(folder), BLOCK):
            yield from pool.map(lambda index: work(folder, index), range(start, min(start + BLOCK, len(folder))))
