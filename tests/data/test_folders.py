"""Folders of images: what is found in them, in what order, and what is said when something is wrong."""

import logging
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from art_ext.data import ImageFolder, image_folder, with_label_noise
from tests.data.pictures import write_folder


@pytest.mark.parametrize("flat", [False, True], ids=["a split", "one level"])
def test_classes_are_the_sorted_folders(two_splits: Path, flat: bool) -> None:
    train = image_folder(two_splits / "train") if flat else image_folder(two_splits, "train")
    assert train.classes == ("cat", "dog")
    assert train.num_classes == 2
    assert train.labels.tolist() == [0, 0, 0, 1, 1]
    assert train.labels.dtype == np.int64
    assert [train.path(i) for i in range(5)] == [
        two_splits / "train" / name for name in ("cat/0.png", "cat/1.png", "cat/2.png", "dog/0.png", "dog/1.png")
    ]


def test_labels_follow_the_classes_of_the_training_split(two_splits: Path) -> None:
    val = image_folder(two_splits, "val", classes=("ant", "dog", "cat"))
    assert val.classes == ("ant", "dog", "cat")
    assert sorted((val.path(i).parent.name, label) for i, label in enumerate(val.labels)) == [("cat", 2), ("dog", 1)]


def test_images_may_lie_deeper_and_hidden_files_do_not_count(two_splits: Path) -> None:
    cat = two_splits / "train" / "cat"
    write_folder(cat, {"images": 1}, ending="JPEG")
    (cat / ".DS_Store").write_text("hidden")
    (two_splits / "train" / ".cache").mkdir()
    train = image_folder(two_splits, "train")
    assert train.classes == ("cat", "dog")
    assert [train.path(i).name for i in range(4)] == ["0.png", "1.png", "2.png", "0.JPEG"]


def test_unusual_names_are_found_again(tmp_path: Path) -> None:
    write_folder(tmp_path, {"Käfer (blau) 甲虫": 1})
    assert image_folder(tmp_path).path(0).is_file()


def test_subset_renumbers(two_splits: Path) -> None:
    train = image_folder(two_splits, "train")
    dogs = train.subset(["dog"])
    assert (dogs.classes, dogs.labels.tolist(), dogs.path(0).parent.name) == (("dog",), [0, 0], "dog")
    turned = train.subset(["dog", "cat"])
    assert turned.labels.tolist() == [1, 1, 1, 0, 0]
    with pytest.raises(ValueError, match="unknown class 'cats'; did you mean 'cat'"):
        train.subset(["cats"])


def test_noisy_labels_take_the_place_of_the_true_ones(two_splits: Path) -> None:
    train = image_folder(two_splits, "train")
    noisy = replace(train, labels=with_label_noise(train.labels, 1, num_classes=2))
    assert [item.label for item in noisy.items(None)] == [1, 1, 1, 0, 0]


def test_items_come_in_the_generators_order_whatever_is_skipped(two_splits: Path) -> None:
    train = image_folder(two_splits, "train")
    order = torch.randperm(5, generator=torch.Generator().manual_seed(3)).tolist()
    for skip in range(6):
        items = list(train.items(torch.Generator().manual_seed(3), skip))
        assert [item.number for item in items] == order[skip:]
        assert all(item.name == str(train.path(item.number)) for item in items)
        assert all(item.label == train.labels[item.number] for item in items)


def test_fingerprint_tells_other_files_and_labels_but_not_another_place(two_splits: Path, tmp_path: Path) -> None:
    train = image_folder(two_splits, "train")
    moved = two_splits / "moved"
    os.rename(two_splits / "train", moved)
    assert image_folder(moved).fingerprint() == train.fingerprint()
    others = [train.subset(["dog", "cat"]), train.subset(["cat"]), train.select(np.arange(4))]
    assert train.fingerprint() not in {other.fingerprint() for other in others}


BAD: dict[str, tuple[Callable[[Path], ImageFolder], type[Exception], str]] = {
    "no root": (lambda root: image_folder(root / "nowhere", "train"), FileNotFoundError, "no folder .*nowhere"),
    "no split": (lambda root: image_folder(root, "test"), FileNotFoundError, "/test; .* holds train, val"),
    "no classes": (lambda root: image_folder(root / "train" / "cat"), FileNotFoundError, "no class folders"),
    "no split given": (image_folder, ValueError, "train holds folders .* if it is a split, give split='train'"),
    "another class": (lambda root: image_folder(root, "train", classes=["cat"]), ValueError, "train/dog is none of"),
    "on_error": (lambda root: image_folder(root, "train", on_error="ignore"), ValueError, "unknown on_error 'ignore'"),
}


@pytest.mark.parametrize("call,error,message", BAD.values(), ids=BAD)
def test_bad_folders(call: Callable[[Path], ImageFolder], error: type[Exception], message: str, tmp_path: Path) -> None:
    root = tmp_path / "sets" / "imagenette"
    for split in ("train", "val"):
        write_folder(root / split, {"cat": 1, "dog": 1})
    with pytest.raises(error, match=message):
        call(root)


def test_empty_class_folder_is_named(two_splits: Path) -> None:
    (two_splits / "train" / "emu").mkdir()
    with pytest.raises(ValueError, match=r"train/emu holds no images; remove it, or fill it"):
        image_folder(two_splits, "train")


def test_a_file_that_is_no_image_stops_or_is_left_out(two_splits: Path, caplog: pytest.LogCaptureFixture) -> None:
    (two_splits / "train" / "cat" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"cat/notes\.txt is no image by its name .* on_error='skip' leaves it out"):
        image_folder(two_splits, "train")
    with caplog.at_level(logging.WARNING, "art_ext"):
        assert len(image_folder(two_splits, "train", on_error="skip")) == 5
    assert "notes.txt" in caplog.text
