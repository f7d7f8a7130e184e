"""Backgrounds of an interference network: photographs, from anywhere, in the size of the input."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from art_ext.data.folders import ENDINGS
from art_ext.data.images import MODES, CentreCrop, read_image

Source = str | os.PathLike[str] | Tensor | NDArray[Any] | Sequence[Any] | None
_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as Pillow's conversion to grey


def load_backgrounds(source: Source = None, *, input_shape: Sequence[int]) -> Tensor:
    """Backgrounds as one tensor of the input's size; antialiased where they shrink, grey where the input is grey.

    Args:
        source: None for the two photographs that come with scikit-learn (a temple and a flower); a folder of images,
            taken in the order of their names and cut to the input's proportions; or float images in [0, 1]: an array
            or tensor (K, C, H, W), or a sequence of (C, H, W), empty for no backgrounds at all.
        input_shape: (C, H, W) of the classifier; photographs need C = 1 or 3.

    Returns:
        float32 (K, C, H, W) in [0, 1].

    Raises:
        ValueError: another number of channels, a folder without images, values outside [0, 1].
        art_ext.data.UnreadableImageError: a damaged file (a `ValueError` too); its path is named.
        TypeError: a source of another kind, arrays of integers.

    Example:
        >>> load_backgrounds(input_shape=(3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])
        >>> load_backgrounds([np.zeros((3, 20, 30))], input_shape=(1, 8, 8)).shape
        torch.Size([1, 1, 8, 8])
    """
    shape = _checked_shape(input_shape)
    if source is None or isinstance(source, str | os.PathLike):
        return _photographs(_shipped() if source is None else _files(Path(source)), shape)
    if not isinstance(source, Tensor | np.ndarray | Sequence):
        raise TypeError(f"backgrounds must be None, a folder, or float images; got {type(source).__name__}")
    if not len(source):
        return torch.empty(0, *shape)
    return torch.stack([_resized(image, number, shape) for number, image in enumerate(source)])


def _checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    shape = tuple(input_shape) if isinstance(input_shape, Sequence) else ()
    if len(shape) != 3 or not all(isinstance(size, Integral) and size >= 1 for size in shape):
        raise ValueError(f"input_shape must be (channels, height, width); got {input_shape!r}")
    return int(shape[0]), int(shape[1]), int(shape[2])


def _shipped() -> list[Path]:
    from sklearn.datasets import load_sample_images

    return [Path(name) for name in load_sample_images().filenames]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"backgrounds: {folder} is not a folder")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS and path.is_file())
    if not files:
        raise ValueError(f"backgrounds: the folder {folder} has no images ({', '.join(ENDINGS)})")
    return files


def _photographs(files: list[Path], shape: tuple[int, int, int]) -> Tensor:
    if shape[0] not in MODES:
        raise ValueError(f"backgrounds from photographs have 1 or 3 channels; the input has {shape[0]}: give arrays")
    pixels = np.stack([read_image(path, shape, CentreCrop(share=1.0)) for path in files])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float().div_(255)


def _resized(image: Any, number: int, shape: tuple[int, int, int]) -> Tensor:
    """One array (C, H, W), checked, as a background."""
    try:
        values = torch.as_tensor(image).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        told = f"number {number} is {image!r:.60}"
        raise TypeError(f"backgrounds must be float images (C, H, W), or a folder of files; {told}") from None
    if not values.is_floating_point():
        raise TypeError(
            f"backgrounds must be floating point in [0, 1]; number {number} is {values.dtype}: divide by 255"
        )
    values = values.float()
    if values.ndim != 3 or (len(values) != shape[0] and not (shape[0] == 1 and len(values) == 3)):
        raise ValueError(f"backgrounds must be (K, {shape[0]}, H, W); number {number} has shape {tuple(values.shape)}")
    if not bool(((values >= 0) & (values <= 1)).all()):
        low, high = float(values.min()), float(values.max())
        raise ValueError(f"backgrounds must lie in [0, 1]; number {number} covers [{low:.4g}, {high:.4g}]")
    if len(values) != shape[0]:
        values = (values * torch.tensor(_LUMA).view(3, 1, 1)).sum(0, keepdim=True)
    if values.shape[1:] == shape[1:]:
        return values.clone()
    return interpolate(values[None], shape[1:], mode="bilinear", antialias=True, align_corners=False)[0].clamp_(0, 1)
