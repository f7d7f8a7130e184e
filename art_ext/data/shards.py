"""WebDataset shards: tar archives of images and labels, read from one end to the other (extra: webdataset)."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch

from art_ext.data.folders import ENDINGS
from art_ext.data.images import Item

LABEL = "cls"  # by the conventions of WebDataset
Sample = dict[str, Any]


@dataclass(frozen=True)
class Shards:
    """Archives of images; nothing is read yet. Made by `image_shards`.

    Args:
        urls: the archives.
        num_classes: labels lie in [0, ``num_classes``).
        size: images in an epoch.
        buffer: images among which the next one is drawn, compressed, in memory.
    """

    urls: tuple[str, ...]
    num_classes: int
    size: int
    buffer: int = 2000

    def __len__(self) -> int:
        """Images in an epoch."""
        return self.size

    def fingerprint(self) -> str:
        """The same for the same archives, by name."""
        names = [url.rpartition("/")[2] for url in self.urls]  # they may have been moved
        return sha256(repr((names, self.num_classes, self.size, self.buffer)).encode()).hexdigest()[:16]

    def items(self, generator: torch.Generator | None, skip: int = 0) -> Iterator[Item]:
        """One pass but for the first images, which are read all the same; the order is drawn from ``generator``.

        The archives come in a random order, and each image is drawn from the ``buffer``. None: all as it is stored.
        """
        if generator is None:
            samples = _samples(self.urls)
        else:
            order = torch.randperm(len(self.urls), generator=generator).tolist()
            seed = int(torch.randint(2**62, (), generator=generator))
            samples = _shuffled(_samples([self.urls[i] for i in order]), self.buffer, seed)
        return islice((_item(i, sample, self.num_classes) for i, sample in enumerate(samples)), skip, self.size)


def image_shards(urls: str | Sequence[str], *, num_classes: int, size: int | None = None, buffer: int = 2000) -> Shards:
    """Archives in the form of WebDataset: for each image ``<key>.jpg`` (or .png, …) and its label as ``<key>.cls``.

    Args:
        urls: paths, or whatever else WebDataset opens (``https:``, ``pipe:``); ``{000..099}`` stands for a hundred.
        num_classes: labels lie in [0, ``num_classes``).
        size: images in an epoch, at most as many as there are; None reads all archives once to count them.
        buffer: images among which the next one is drawn, compressed, in memory.

    Raises:
        ImportError: the extra is not installed.
        FileNotFoundError: an archive that is not there.
        ValueError: no archive, or none with an image; an argument out of its range; a damaged archive.

    Example:
        >>> image_shards("pipe:cat train-{000..146}.tar", num_classes=1000, size=1_281_167).urls[-1]
        'pipe:cat train-146.tar'
    """
    if find_spec("webdataset") is None:
        raise ImportError("shards are read by WebDataset: pip install 'art-ext[webdataset]'")
    from webdataset.shardlists import expand_urls

    names = tuple(name for url in ([urls] if isinstance(urls, str) else urls) for name in expand_urls(os.fspath(url)))
    if not names:
        raise ValueError("urls must name at least one archive; got none")
    for name in names:
        if ":" not in name and not Path(name).is_file():
            raise FileNotFoundError(f"there is no archive {name}")
    for argument, value in (("num_classes", num_classes), ("size", size), ("buffer", buffer)):
        if value is not None and value < 1:
            raise ValueError(f"{argument} must be at least 1; got {value!r}")
    found = sum(1 for sample in _samples(names) if _image(sample)) if size is None else size
    if not found:
        raise ValueError(f"no image in {', '.join(names[:3])}: expected <key>.jpg and <key>.{LABEL} in each archive")
    return Shards(names, num_classes, found, buffer)


def _samples(urls: Sequence[str]) -> Iterator[Sample]:
    """The samples of the archives, one after the other, in this very process."""
    from webdataset import WebDataset

    # without a seed it draws one from Python's global generator; the loader's processes do not split anything here
    all_of_it = {"shardshuffle": False, "nodesplitter": None, "workersplitter": None, "empty_check": False, "seed": 0}
    try:
        yield from WebDataset(list(urls), **all_of_it)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        told = [part for part in error.args if isinstance(part, str)]  # the library adds the archive's name at the end
        raise ValueError(f"cannot read an archive: {', '.join(told)}") from error


def _shuffled(samples: Iterator[Sample], buffer: int, seed: int) -> Iterator[Sample]:
    """Keeps ``buffer`` samples and gives away a random one whenever the next arrives."""
    random, kept = Random(seed), list(islice(samples, buffer))
    random.shuffle(kept)
    for sample in samples:
        place = random.randrange(len(kept))
        kept[place], given = sample, kept[place]
        yield given
    yield from kept


def _image(sample: Sample) -> str | None:
    return next((ending for ending in ENDINGS if ending[1:] in sample), None)


def _item(number: int, sample: Sample, num_classes: int) -> Item:
    name = f"{sample['__url__']}/{sample['__key__']}"
    ending = _image(sample)
    if ending is None or LABEL not in sample:
        fields = ", ".join(field for field in sample if not field.startswith("__"))
        raise ValueError(f"{name} must have an image ({', '.join(ENDINGS)}) and a label (.{LABEL}); it has {fields}")
    label = sample[LABEL].strip()
    if not label.isdigit() or int(label) >= num_classes:
        raise ValueError(f"{name}.{LABEL} must hold a whole number in 0..{num_classes - 1}; it holds {label[:20]!r}")
    return Item(number, f"{name}{ending}", sample[ending[1:]], int(label))
