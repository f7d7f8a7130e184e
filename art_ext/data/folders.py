"""Folders of images, one folder for each class, as Imagenette and ImageNet come."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_ext.data.images import Item
from art_ext.data.labels import renumber
from art_ext.data.sets import Labels
from art_ext.naming import lookup

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
ON_ERROR = {"raise": False, "skip": True}
logger = logging.getLogger("art_ext")


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """An index of image files; nothing is decoded. Made by `image_folder`.

    Args:
        root: the folder that ``files`` are relative to.
        files: encoded paths (N,); an array, so that worker processes share its memory.
        labels: int64 (N,), indices into ``classes``.
        classes: names of the classes.
    """

    root: Path
    files: NDArray[np.bytes_]
    labels: Labels
    classes: tuple[str, ...]

    def __len__(self) -> int:
        """How many images."""
        return len(self.files)

    @property
    def num_classes(self) -> int:
        """Labels lie in [0, ``num_classes``)."""
        return len(self.classes)

    def fingerprint(self) -> str:
        """The same for the same files and labels, wherever the folder lies."""
        parts = (self.files.tobytes(), self.labels.tobytes(), "/".join(self.classes).encode())
        return sha256(b"/".join(parts)).hexdigest()[:16]

    def path(self, index: int) -> Path:
        """Where an image lies."""
        return self.root / os.fsdecode(bytes(self.files[index]))

    def items(self, generator: torch.Generator | None, skip: int = 0) -> Iterator[Item]:
        """One pass over the images in an order that ``generator`` draws (None: as they are), but for the first ones."""
        order = self.order(generator)[skip:].tolist()
        return (Item(i, str(self.path(i)), None, int(self.labels[i])) for i in order)

    def order(self, generator: torch.Generator | None) -> Tensor:
        """The order of a pass: indices (N,)."""
        return torch.arange(len(self)) if generator is None else torch.randperm(len(self), generator=generator)

    def select(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> ImageFolder:
        """Some of the images, the classes as they were."""
        return replace(self, files=self.files[index], labels=self.labels[index])

    def subset(self, classes: Sequence[str]) -> ImageFolder:
        """The images of some classes; ``classes[i]`` gets the label i.

        Raises:
            ValueError: an unknown class (the nearest one is proposed), one given twice, or one without images.
        """
        known = {name: label for label, name in enumerate(self.classes)}
        labels = renumber(self.labels, [lookup(known, name, what="class") for name in classes])
        return replace(self.select(labels >= 0), labels=labels[labels >= 0], classes=tuple(classes))


def image_folder(
    root: str | os.PathLike[str],
    split: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    on_error: str = "raise",
) -> ImageFolder:
    """Indexes ``root/split/<class>/…``, or ``root/<class>/…`` without a split.

    Args:
        root: the folder of the set.
        split: its sub-folder, mostly ``"train"`` or ``"val"``.
        classes: the names in the order of their labels, such as those of the training split; None for the names of the
            folders, sorted. A class without a folder is then allowed, a folder without a class is not.
        on_error: ``"raise"``, or ``"skip"`` to leave out files that are no images by their name, with a warning in the
            log ``art_ext``. Hidden files are never looked at. What is in the files is read by `readable`, or later.

    Returns:
        The images, sorted by class and path.

    Raises:
        FileNotFoundError: no such folder, or no class folder in it; what there is instead is named.
        ValueError: a class folder without images, a file that is no image, a folder whose name is no class.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat/1.png", "dog/1.png", "dog/2.png"):
        ...     (root / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        ...     Image.new("RGB", (9, 9)).save(root / "train" / name)
        >>> train = image_folder(root, "train")
        >>> train.classes, train.labels.tolist(), train.path(2).name
        (('cat', 'dog'), [0, 1, 1], '2.png')
    """
    skip = lookup(ON_ERROR, on_error, what="on_error")
    top = _top(Path(root).expanduser(), split)
    found = _folders(top)
    if not found:
        raise FileNotFoundError(f"{top} holds no class folders; images are expected in {top}/<class>/")
    names = tuple(found if classes is None else classes)
    foreign = sorted(set(found) - set(names))
    if foreign:
        raise ValueError(f"{top / foreign[0]} is none of the {len(names)} classes {', '.join(names[:5])}, …")
    files, labels = [], []
    for label, name in enumerate(names):
        images = _images(top, name, skip) if name in found else []
        files += images
        labels += [label] * len(images)
    return ImageFolder(top, np.array(files, dtype=np.bytes_), np.array(labels, dtype=np.int64), names)


def _top(root: Path, split: str | None) -> Path:
    top = root / split if split else root
    if not top.is_dir():
        there = (
            f"it holds {', '.join(_folders(root)) or 'no folders'}" if root.is_dir() else "nor does its parent exist"
        )
        raise FileNotFoundError(f"there is no folder {top}; {there if split else 'check root'}")
    return top


def _folders(top: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(top) if entry.is_dir() and not entry.name.startswith("."))


def _images(top: Path, name: str, skip: bool) -> list[bytes]:
    """The images of a class, relative to ``top``."""
    files: list[bytes] = []
    for path in _files(top / name):
        if path.lower().endswith(ENDINGS):
            files.append(os.fsencode(os.path.relpath(path, top)))
        elif skip:
            logger.warning("left out, no image by its name: %s", path)
        else:
            raise ValueError(f"{path} is no image by its name ({', '.join(ENDINGS)}); on_error='skip' leaves it out")
    if not files:
        raise ValueError(f"the class folder {top / name} holds no images; remove it, or fill it")
    if len(_folders(top / name)) > 1 and not any(file.count(os.sep.encode()) == 1 for file in files):
        raise ValueError(f"{top / name} holds folders of images and is no class; if it is a split, give split={name!r}")
    return files


def _files(folder: Path) -> Iterator[str]:
    for where, inner, names in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (os.path.join(where, name) for name in sorted(names) if not name.startswith("."))
