"""The section of a recipe that says which images it takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class DataSection:
    """The images: a data set in memory, or a folder or archives from which they are read while the training runs.

    Args:
        name: of the data set, folder or shards; see art-ext list data.
        root: folder of the data set; by default the one that the environment variable ART_EXT_DATA names.
        options: of a folder or of shards, e.g. {size: 224}; see art_ext.recipes.streamed.
        train_examples: use only so many training images, drawn with the seed of the trainer; by default all.
        test_examples: the same of the test images.
        classes: keep only these (names, where classes are folders), numbered anew in this order; by default all.
        label_noise: share of the labels trained on to replace by wrong ones; held-out images keep theirs.
        validation_split: share of the training images to hold out, for the choice of the best epoch.
    """

    name: str
    root: str | None = None
    options: Options = field(default_factory=dict)
    train_examples: int | None = None
    test_examples: int | None = None
    classes: list[int | str] | None = None
    label_noise: float = 0.0
    validation_split: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what no data set could give."""
        for name in ("train_examples", "test_examples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, or null for all; got {value!r}")
        if not 0 <= self.validation_split < 1:
            raise ValueError(f"validation_split must be in [0, 1); got {self.validation_split!r}")
        if not 0 <= self.label_noise <= 1:
            raise ValueError(f"label_noise must be in [0, 1]; got {self.label_noise!r}")
