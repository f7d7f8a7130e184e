"""WebDataset shards: each image once, in an order that the generator draws, and exact skipping."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from art_ext.data import CentreCrop, image_shards
from tests.data.pictures import write_shard

pytest.importorskip("webdataset", reason="the extra webdataset is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # WebDataset leaves closing its files to Python


@pytest.fixture
def shards(tmp_path: Path) -> str:
    """18 images in archives of 5, 6 and 7."""
    for i, numbers in enumerate((range(5), range(5, 11), range(11, 18))):
        write_shard(tmp_path / f"{i}.tar", numbers)
    return str(tmp_path / "{0..2}.tar")


def keys(items) -> list[int]:
    return [int(Path(item.name).stem) for item in items]


def test_images_are_counted_and_come_as_stored(shards: str) -> None:
    found = image_shards(shards, num_classes=10)
    items = list(found.items(None))
    assert (len(found), len(found.urls), found.num_classes) == (18, 3, 10)
    assert keys(items) == [*range(18)]
    assert [item.label for item in items] == [i % 10 for i in range(18)]
    assert items[7].name.endswith("1.tar/00007.png")
    assert items[7].read((1, 4, 4), CentreCrop(), 0).max() == 7


def test_archives_may_be_moved(shards: str, tmp_path: Path) -> None:
    found = image_shards(shards, num_classes=10)
    moved = replace(found, urls=tuple(f"https://elsewhere/{Path(url).name}" for url in found.urls))
    others = replace(found, urls=found.urls[:2])
    assert moved.fingerprint() == found.fingerprint() != others.fingerprint()


@pytest.mark.parametrize("buffer", [1, 4, 100])
def test_each_epoch_is_a_new_order_of_all_images(shards: str, buffer: int) -> None:
    found, generator = image_shards(shards, num_classes=10, buffer=buffer), torch.Generator().manual_seed(0)
    epochs = [keys(found.items(generator)) for _ in range(4)]
    assert all(sorted(epoch) == [*range(18)] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


@pytest.mark.parametrize("skip", [1, 6, 17, 18])
def test_skipping_continues_the_epoch(shards: str, skip: int) -> None:
    found = image_shards(shards, num_classes=10, buffer=4)
    whole, rest = (list(found.items(torch.Generator().manual_seed(1), s)) for s in (0, skip))
    assert rest == whole[skip:]


def test_size_ends_an_epoch(shards: str) -> None:
    assert len(keys(image_shards(shards, num_classes=10, size=7).items(torch.Generator()))) == 7


def test_a_list_of_archives(tmp_path: Path) -> None:
    names = [write_shard(tmp_path / "a.tar", range(2)), write_shard(tmp_path / "b.tar", range(2, 4))]
    assert keys(image_shards(names, num_classes=10).items(None)) == [0, 1, 2, 3]


def test_missing_archive(shards: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"no archive .*3\.tar"):
        image_shards(shards.replace("0..2", "0..3"), num_classes=10)


def test_damaged_archive_is_named(shards: str, tmp_path: Path) -> None:
    archive = tmp_path / "1.tar"
    archive.write_bytes(archive.read_bytes()[:1700])
    with pytest.raises(ValueError, match=r"cannot read an archive: .*1\.tar"):
        image_shards(shards, num_classes=10)


def test_an_archive_without_images(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no image in .*expected <key>\.jpg and <key>\.cls"):
        image_shards(write_shard(tmp_path / "0.tar", range(0)), num_classes=10)


@pytest.mark.parametrize("label", ["10", "-1", "cat", ""])
def test_wrong_labels_are_named(label: str, tmp_path: Path) -> None:
    found = image_shards(write_shard(tmp_path / "0.tar", range(1), label=label or " "), num_classes=10)
    with pytest.raises(ValueError, match=r"00000\.cls must hold a whole number in 0\.\.9"):
        list(found.items(None))


@pytest.mark.parametrize("name", ["num_classes", "size", "buffer"])
def test_values_out_of_range(name: str, shards: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1; got 0"):
        image_shards(shards, **{"num_classes": 10} | {name: 0})


def test_the_missing_extra_is_named(shards: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("art_ext.data.shards.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'art-ext\[webdataset\]'"):
        image_shards(shards, num_classes=10)
