"""The images of a recipe: read, chosen, split, and spoilt if that is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from art_ext.data import DATASETS, Images, Labels, load, subset, with_label_noise
from art_ext.naming import lookup
from art_ext.recipes.choice import some, train_and_held_out
from art_ext.recipes.data_section import DataSection
from art_ext.recipes.folder_stream import FolderStream
from art_ext.recipes.options import check_options
from art_ext.recipes.shard_stream import ShardStream
from art_ext.recipes.streamed import Arrays, Streamed

STREAMS: dict[str, type[FolderStream] | type[ShardStream]] = {"folder": FolderStream, "shards": ShardStream}


@dataclass(frozen=True, eq=False)
class Data:
    """The images of a recipe: float32 (N, C, H, W) in [0, 1], labels int64 (N,).

    Args:
        x_train: what is trained on; none, (0, C, H, W), where it is ``streamed``.
        y_train: its labels.
        read_test: gives the test images and their labels; called once, when they are asked for.
        num_classes: labels lie in [0, ``num_classes``).
        held_out: training images kept aside for the choice of the best epoch.
        streamed: images that are read while the training runs.
    """

    x_train: Images
    y_train: Labels
    read_test: Callable[[], Arrays]
    num_classes: int
    held_out: Arrays | None = None
    streamed: Streamed | None = None

    @cached_property
    def _test(self) -> Arrays:
        return self.read_test()

    @property
    def x_test(self) -> Images:
        """The test images."""
        return self._test[0]

    @property
    def y_test(self) -> Labels:
        """Their labels."""
        return self._test[1]


def make_data(section: DataSection, *, seed: int = 0) -> Data:
    """Keep the classes and as many examples as are asked for, hold some out, spoil labels if that is asked for.

    Args:
        section: of a recipe.
        seed: of the choice of examples, of the split and of the label noise.

    Raises:
        ValueError: unknown data set or option, more examples than there are, wrong classes.
        FileNotFoundError: missing files; the message says what to do.

    Example:
        >>> data = make_data(DataSection(name="digits", train_examples=100, classes=[3, 8], validation_split=0.2))
        >>> data.x_train.shape, data.held_out[0].shape, data.num_classes
        ((80, 1, 8, 8), (20, 1, 8, 8), 2)
    """
    check_data(section)
    return _streamed(section, seed) if section.name in STREAMS else _in_memory(section, seed)


def check_data(section: DataSection) -> None:
    """Refuse an unknown data set, or options that it does not take, before anything is read.

    Raises:
        ValueError: as said.
    """
    lookup({**DATASETS, **STREAMS}, section.name, what="data set")
    if section.name in STREAMS:
        cls = STREAMS[section.name]
        check_options(section.options, cls, f"data set {section.name!r}", given=("root",))
        cls(root=section.root, **section.options).check(section)
    elif section.options:
        raise ValueError(f"data set {section.name!r} takes no options; got {section.options}")


def _in_memory(section: DataSection, seed: int) -> Data:
    x, y, x_test, y_test = load(section.name, section.root)
    classes = DATASETS[section.name].num_classes
    if section.classes is not None:
        labels = [_number(label, section.name) for label in section.classes]
        (x, y), (x_test, y_test) = subset(x, y, labels), subset(x_test, y_test, labels)
        classes = len(labels)
    kept, out = train_and_held_out(len(y), section, seed)
    chosen = some(len(y_test), section.test_examples, seed, "test_examples")
    held_out = None if out is None else (x[out], y[out])
    noisy = y[kept]
    if section.label_noise:
        noisy = with_label_noise(noisy, section.label_noise, num_classes=classes, seed=seed)
    return Data(x[kept], noisy, lambda: (x_test[chosen], y_test[chosen]), classes, held_out)


def _streamed(section: DataSection, seed: int) -> Data:
    streamed = STREAMS[section.name](root=section.root, **section.options).read(section, seed)
    x, y = np.empty((0, *streamed.shape), np.float32), np.empty(0, np.int64)
    return Data(x, y, streamed.read_test, streamed.source.num_classes, streamed.held_out, streamed)


def _number(label: int | str, name: str) -> int:
    if not isinstance(label, int):
        raise ValueError(f"data.classes of {name!r} are numbers; got {label!r}")
    return label
