"""Image files for tests: each is filled with its own number, so that a crop of it can be recognised."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def write_folder(root: Path, classes: dict[str, int], *, size: tuple[int, int] = (12, 10), ending: str = "png") -> None:
    """So many images of each class; the pixels of the k-th image of all are k."""
    number = 0
    for name, images in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(images):
            Image.new("RGB", size, (number,) * 3).save(root / name / f"{i}.{ending}")
            number += 1


def scene(width: int, height: int) -> Image.Image:
    """A smooth picture in which every place looks different."""
    rows, columns = np.mgrid[0:height, 0:width]
    planes = (rows / height, columns / width, np.hypot(rows, columns) / (width + height))
    return Image.fromarray((255 * np.stack(planes, axis=2)).astype(np.uint8))


def cut_short(path: Path) -> Path:
    """A real photograph of which the second half is missing."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path, "jpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def write_shard(path: Path, numbers: range, *, label: str | None = None) -> str:
    """A WebDataset archive of images that are filled with their number; the label is its last digit."""
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            image = io.BytesIO()
            Image.new("RGB", (12, 10), (number,) * 3).save(image, "png")
            for ending, content in (("png", image.getvalue()), ("cls", (label or str(number % 10)).encode())):
                info = tarfile.TarInfo(f"{number:05}.{ending}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return str(path)
