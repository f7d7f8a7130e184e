"""One image file → pixels of the size that a network takes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, upper, right, lower
MODES = {1: "L", 3: "RGB"}


class UnreadableImageError(ValueError):
    """A file that is no image, or a damaged one; the message names it."""


class Item(NamedTuple):
    """An image that is still a file, and its label.

    Args:
        number: tells it apart in its epoch; decides its random crop together with the epoch's seed.
        name: its path, or what it is called in its archive.
        content: the bytes of the file; None: they are in the file ``name``.
        label: index of its class.
    """

    number: int
    name: str
    content: bytes | None
    label: int

    def read(self, shape: tuple[int, int, int], crop: Crop, seed: int) -> Pixels:
        """As `read_image`; errors name the image."""
        try:
            source = Path(self.name) if self.content is None else self.content
            return read_image(source, shape, crop, (seed, self.number))
        except UnreadableImageError as error:
            raise error if self.content is None else UnreadableImageError(f"{self.name}: {error}") from error


@dataclass(frozen=True)
class CentreCrop:
    """The middle of the image, as for testing.

    Args:
        share: of the shorter side that is kept, in (0, 1]; 0.875 as in most ImageNet recipes (256 pixels → 224).
    """

    share: float = 0.875

    def __post_init__(self) -> None:
        """Refuse a share out of range."""
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1]; got {self.share!r}")

    def box(self, width: int, height: int, aspect: float, generator: np.random.Generator) -> Box:
        """What is cut out of an image; ``aspect`` is width / height of the result."""
        return centred(width, height, self.share * min(width, height * aspect), aspect)


@dataclass(frozen=True)
class RandomCrop:
    """A random part of the image, stretched to the size: the "random resized crop" of ImageNet recipes.

    Args:
        area: smallest and largest share of the image's area.
        stretch: smallest and largest width / height, relative to that of the result.

    References:
        Szegedy et al. 2015, https://arxiv.org/abs/1409.4842
    """

    area: tuple[float, float] = (0.08, 1.0)
    stretch: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        """Refuse ranges that are none."""
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be an ascending pair in (0, 1]; got {self.area!r}")
        if not 0 < self.stretch[0] <= self.stretch[1]:
            raise ValueError(f"stretch must be an ascending pair above 0; got {self.stretch!r}")

    def box(self, width: int, height: int, aspect: float, generator: np.random.Generator) -> Box:
        """Ten attempts to find a part that lies in the image, then its middle."""
        for _ in range(10):
            area = width * height * generator.uniform(*self.area)
            ratio = aspect * math.exp(generator.uniform(math.log(self.stretch[0]), math.log(self.stretch[1])))
            w, h = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if w <= width and h <= height:
                left, upper = generator.uniform(0, width - w), generator.uniform(0, height - h)
                return left, upper, left + w, upper + h
        return centred(width, height, min(width, height * aspect), aspect)


Crop = CentreCrop | RandomCrop


def centred(width: int, height: int, w: float, aspect: float) -> Box:
    """A box of width ``w`` in the middle.

    Example:
        >>> centred(8, 4, 2, aspect=1.0)
        (3.0, 1.0, 5.0, 3.0)
    """
    h = w / aspect
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def read_image(source: Path | bytes, shape: tuple[int, int, int], crop: Crop, seed: tuple[int, ...] = (0,)) -> Pixels:
    """Decodes, crops and resizes (bilinear, antialiased) in one go.

    Args:
        source: a file, or its content.
        shape: channels (1 or 3), height and width of the result.
        crop: which part of the image.
        seed: decides the random crop; whole numbers of at least 0.

    Returns:
        uint8 (H, W, C).

    Raises:
        UnreadableImageError: not to be read; why, but not which file when only its content was given.

    Example:
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (30, 20), "red").save(file, "png")
        >>> read_image(file.getvalue(), (3, 8, 8), CentreCrop())[0, 0]
        array([255,   0,   0], dtype=uint8)
    """
    from PIL import Image

    channels, height, width = shape
    with _opened(source) as image:
        box = crop.box(image.width, image.height, width / height, np.random.default_rng(seed))
        if isinstance(crop, RandomCrop):
            box = _coarser(image, box, (width, height))
        resized = image.convert(MODES[channels]).resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(resized).reshape(height, width, channels)


def check_image(source: Path | bytes) -> None:
    """Reads an image to its end, at an eighth of its size where the format allows.

    Raises:
        UnreadableImageError: as `read_image`.
    """
    with _opened(source) as image:
        image.draft(None, (1, 1))
        image.load()


@contextmanager
def _opened(source: Path | bytes) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
            yield image
    # what Pillow's decoders raise on damaged files
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        named = f"{source}: " if isinstance(source, Path) and str(source) not in str(error) else ""
        raise UnreadableImageError(f"{named}{error}") from error


def _coarser(image: Image.Image, box: Box, size: tuple[int, int]) -> Box:
    """Lets a JPEG be decoded at ½, ¼ or ⅛ where the part to cut out stays larger than ``size``; the box in it."""
    width, height = image.size
    zoom = min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
    if zoom < 2:
        return box
    image.draft(None, (math.ceil(width / zoom), math.ceil(height / zoom)))
    x, y = image.size[0] / width, image.size[1] / height
    return box[0] * x, box[1] * y, box[2] * x, box[3] * y
