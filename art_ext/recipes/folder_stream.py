"""The data set ``folder`` of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from art_ext.data import ImageFolder, image_folder, read_arrays, readable, with_label_noise
from art_ext.recipes.choice import some, train_and_held_out
from art_ext.recipes.data_section import DataSection
from art_ext.recipes.streamed import Arrays, Stream, Streamed


@dataclass(frozen=True, kw_only=True)
class FolderStream(Stream):
    """A folder of images with one folder for each class, ``root/train/<class>/…`` and ``root/val/<class>/…``.

    Args:
        train: the folder in ``root`` to train on.
        test: the folder in ``root`` to judge by, at the centres of the images.
        resident: keep the images on the device, which centre crops allow; null decides by the memory there is.
    """

    description: ClassVar[str] = "images in folders named after their classes, as ImageNet comes; read while training"

    train: str = "train"
    test: str = "val"
    resident: bool | None = None

    def read(self, section: DataSection, seed: int) -> Streamed:
        """The files to train on as an index, and how to read the others.

        Raises:
            FileNotFoundError: no such folder.
            ValueError: an empty class, an unknown class, more examples than there are.
        """
        train, test = self._index(section)
        kept, out = train_and_held_out(len(train), section, seed)
        chosen = test.select(some(len(test), section.test_examples, seed, "test_examples"))
        source = _spoilt(train.select(kept), section.label_noise, seed)
        held_out = None if out is None else self._arrays(train.select(out))
        options = self.options() | {"resident": self.resident}
        return Streamed(source, options, self.shape, lambda: self._arrays(chosen), held_out)

    def _index(self, section: DataSection) -> tuple[ImageFolder, ImageFolder]:
        train = image_folder(self.folder, self.train, on_error=self.on_error)
        test = image_folder(self.folder, self.test, classes=train.classes, on_error=self.on_error)
        if section.classes is None:
            return train, test
        names = [str(name) for name in section.classes]
        return train.subset(names), test.subset(names)

    def _arrays(self, folder: ImageFolder) -> Arrays:
        return read_arrays(readable(folder, on_error="skip") if self.on_error == "skip" else folder, self.shape)


def _spoilt(folder: ImageFolder, share: float, seed: int) -> ImageFolder:
    if not share:
        return folder
    labels = with_label_noise(folder.labels, share, num_classes=folder.num_classes, seed=seed)
    return replace(folder, labels=labels)
