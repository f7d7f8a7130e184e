"""One image: which part of it is taken, that pixels stay what they are, and what damaged files say."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from art_ext.data import CentreCrop, RandomCrop, UnreadableImageError
from art_ext.data.images import Crop, Item, read_image
from tests.data.pictures import cut_short, scene


def saved(image: Image.Image, form: str = "png", **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


BOXES: dict[str, tuple[float, tuple[int, int], float, tuple[float, float, float, float]]] = {
    "wide": (1.0, (300, 200), 1.0, (50, 0, 250, 200)),
    "tall": (1.0, (200, 300), 1.0, (0, 50, 200, 250)),
    "part": (0.5, (400, 200), 1.0, (150, 50, 250, 150)),
    "wide result": (1.0, (300, 200), 2.0, (0, 25, 300, 175)),
}


@pytest.mark.parametrize("share,size,aspect,box", BOXES.values(), ids=BOXES)
def test_centre(share: float, size: tuple[int, int], aspect: float, box: tuple[float, float, float, float]) -> None:
    assert CentreCrop(share).box(*size, aspect, generator()) == box


@pytest.mark.parametrize("aspect", [1.0, 2.0])
def test_random_boxes_keep_to_area_shape_and_image(aspect: float) -> None:
    crop, width, height, areas = RandomCrop(), 500, 375, []
    for seed in range(300):
        left, upper, right, lower = crop.box(width, height, aspect, generator(seed))
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        assert 3 / 4 - 1e-9 <= (right - left) / (lower - upper) / aspect <= 4 / 3 + 1e-9
        areas.append((right - left) * (lower - upper) / (width * height))
    assert min(areas) >= 0.08 - 1e-9
    assert 0.3 < np.mean(areas) < 0.6


def test_what_fits_nowhere_is_taken_from_the_middle() -> None:
    assert RandomCrop(area=(1, 1)).box(400, 100, 1.0, generator()) == CentreCrop(1.0).box(400, 100, 1.0, generator())


def test_an_image_of_the_right_size_is_left_alone() -> None:
    image = scene(16, 12)
    np.testing.assert_array_equal(read_image(saved(image), (3, 12, 16), CentreCrop(1.0)), np.asarray(image))


def test_cropping_is_cutting_out() -> None:
    image = scene(32, 32)
    middle = np.asarray(image)[8:24, 8:24]
    np.testing.assert_array_equal(read_image(saved(image), (3, 16, 16), CentreCrop(0.5)), middle)


FILES: dict[str, tuple[Image.Image, str]] = {
    "grey": (scene(9, 9).convert("L"), "png"),
    "palette": (scene(9, 9).convert("P"), "png"),
    "transparent": (scene(9, 9).convert("RGBA"), "png"),
    "CMYK": (scene(9, 9).convert("CMYK"), "jpeg"),
    "WebP": (scene(9, 9), "webp"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("image,form", FILES.values(), ids=FILES)
def test_every_kind_of_file_becomes_the_channels_asked_for(image: Image.Image, form: str, channels: int) -> None:
    pixels = read_image(saved(image, form), (channels, 9, 9), CentreCrop(1.0))
    assert (pixels.shape, pixels.dtype) == ((9, 9, channels), np.uint8)
    expected = np.asarray(scene(9, 9).convert("L")).mean()
    assert abs(pixels.mean() - expected) < 12


def test_the_seed_alone_decides_a_random_crop() -> None:
    image = saved(scene(60, 50))
    crops = [read_image(image, (3, 8, 8), RandomCrop(), seed) for seed in ((1, 2), (1, 2), (1, 3), (2, 2))]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert (crops[0] != crops[2]).any()
    assert (crops[0] != crops[3]).any()


def test_coarse_decoding_of_large_photographs_shows_the_same() -> None:
    image = scene(640, 480)
    crop = RandomCrop(area=(0.5, 1.0))
    coarse = read_image(saved(image, "jpeg", quality=95), (3, 24, 24), crop, (1,)).astype(int)
    exact = read_image(saved(image, "png"), (3, 24, 24), crop, (1,)).astype(int)
    assert abs(coarse - exact).max() <= 4


DAMAGED = {"text": b"no image", "empty": b"", "half a PNG": saved(scene(64, 64))[:300]}


@pytest.mark.parametrize("crop", [CentreCrop(), RandomCrop()], ids=["centre", "random"])
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_damaged_content(content: bytes, crop: Crop, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError):
        read_image(content, (3, 8, 8), crop)
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"bad\.png"):
        read_image(tmp_path / "bad.png", (3, 8, 8), crop)
    with pytest.raises(UnreadableImageError, match=r"shard\.tar/7\.png: "):
        Item(0, "shard.tar/7.png", content, 0).read((3, 8, 8), crop, 0)


def test_damaged_photographs_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImageError, match=r"/half\.jpg: image file is truncated"):
        read_image(cut_short(tmp_path / "half.jpg"), (3, 8, 8), CentreCrop())
    with pytest.raises(UnreadableImageError, match=r"No such file or directory: '.*/gone\.jpg'"):
        read_image(tmp_path / "gone.jpg", (3, 8, 8), CentreCrop())


@pytest.mark.parametrize(
    "make,message",
    [
        (lambda: CentreCrop(0), r"share must be in \(0, 1\]; got 0"),
        (lambda: CentreCrop(1.1), "share"),
        (lambda: RandomCrop(area=(0, 1)), "area must be an ascending pair"),
        (lambda: RandomCrop(area=(0.5, 0.2)), "area"),
        (lambda: RandomCrop(stretch=(2, 1)), "stretch must be an ascending pair"),
    ],
)
def test_bad_crops(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
