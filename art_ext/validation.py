"""Checks of what a user hands in: each names the argument, what it saw and what is allowed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from art_ext.model import evaluating

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
_PROBABILITIES = (
    "the model's outputs look like probabilities (in [0, 1], rows sum to 1), but logits are expected: take the softmax "
    "out of the model, or attacks will fail on vanishing gradients and robustness will be overestimated"
)
CLIP_TOLERANCE = 1e-6  # the rounding of a clip value such as 8/255 to float32, not a pixel value


class ProbabilitiesWarning(UserWarning):
    """The model seems to return probabilities where logits are expected."""


def check_inputs(
    x: Any,
    y: Any,
    *,
    num_classes: int,
    input_shape: Sequence[int] | None,
    clip: tuple[float, float] | None,
) -> tuple[Images, Labels]:
    """Validated inputs and labels in the one form that the library computes with.

    Args:
        x: array (N, ...), N ≥ 1, of floating point; other precisions than float32 are converted. Never modified.
        y: integer labels (N,) or (N, 1), or one-hot (N, ``num_classes``).
        num_classes: number of classes.
        input_shape: shape of one example, or None to accept any.
        clip: lowest and highest valid value, or None for unbounded inputs.

    Returns:
        ``x`` as contiguous float32 (itself where it is that already and not read-only), the labels (N,) as int64.

    Raises:
        TypeError: not numpy arrays; ``x`` of integers (uint8 images must be divided by 255); float labels.
        ValueError: empty set, wrong shape, NaN or infinity, values outside ``clip``, labels out of range, soft labels,
            different lengths.

    Example:
        >>> x, y = check_inputs(np.zeros((2, 3)), np.eye(4)[[0, 3]], num_classes=4, input_shape=(3,), clip=(0.0, 1.0))
        >>> x.dtype, y
        (dtype('float32'), array([0, 3]))
    """
    images = check_images(x, input_shape=input_shape, clip=clip)
    labels = check_labels(y, num_classes=num_classes)
    if len(images) != len(labels):
        raise ValueError(f"x and y must have the same length; got {len(images)} examples and {len(labels)} labels")
    return images, labels


def check_images(x: Any, *, input_shape: Sequence[int] | None, clip: tuple[float, float] | None) -> Images:
    """The inputs half of `check_inputs`.

    Example:
        >>> check_images(np.zeros((1, 2), np.uint8), input_shape=None, clip=(0.0, 1.0))
        Traceback (most recent call last):
        ...
        TypeError: x must be floating point in [0, 1]; got uint8: divide by 255, x.astype(np.float32) / 255
    """
    _require_array("x", x)
    if not np.issubdtype(x.dtype, np.floating):
        hint = "divide by 255, x.astype(np.float32) / 255" if x.dtype == np.uint8 else "convert it to float32"
        raise TypeError(f"x must be floating point{_range(clip)}; got {x.dtype}: {hint}")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x must be a non-empty array (N, ...) with at least one example; got shape {x.shape}")
    if input_shape is not None and x.shape[1:] != tuple(input_shape):
        raise ValueError(_shape_message(x.shape, tuple(input_shape)))
    with np.errstate(over="ignore"):  # a float64 too large for float32 becomes infinite and is refused as such
        images = np.require(x, np.float32, ["C_CONTIGUOUS", "WRITEABLE"])  # torch takes no read-only memory
    _check_range(images, clip)
    return images


def check_labels(y: Any, *, num_classes: int) -> Labels:
    """The labels half of `check_inputs`.

    Example:
        >>> check_labels(np.array([0, 7]), num_classes=3)
        Traceback (most recent call last):
        ...
        ValueError: y must lie in 0..2 (3 classes); got 7 at position 1
    """
    _require_array("y", y)
    if y.ndim == 2 and y.shape[1] == 1 and np.issubdtype(y.dtype, np.integer):
        y = y[:, 0]
    if y.ndim == 2:
        return _from_one_hot(y, num_classes)
    if y.ndim != 1:
        raise ValueError(f"y must have shape (N,) or (N, {num_classes}); got {y.shape}")
    if not np.issubdtype(y.dtype, np.integer):
        raise TypeError(f"y must be integer labels (N,) or one-hot (N, {num_classes}); got dtype {y.dtype}")
    wrong = np.flatnonzero((y < 0) | (y >= num_classes))
    if len(wrong):
        raise ValueError(
            f"y must lie in 0..{num_classes - 1} ({num_classes} classes); got {y[wrong[0]]} at position {wrong[0]}"
        )
    return y.astype(np.int64)


def check_model_output(
    model: nn.Module, x: Images | Tensor, *, num_classes: int | None = None, stacklevel: int = 2
) -> Tensor:
    """Try a few examples: does ``model`` take them, and does it return logits (N, ``num_classes``)?

    Runs in eval mode without gradients, on the model's device; call it with a handful of examples before long work.

    Args:
        model: from inputs to logits.
        x: checked examples (N, ...).
        num_classes: expected number of classes, or None to accept any from 2 up.
        stacklevel: of the warning, as in `warnings.warn`; 2 is the caller.

    Returns:
        The logits (N, classes).

    Raises:
        TypeError: the model returns something else than a tensor.
        ValueError: the model fails on this shape, or its output has another shape or is not finite.

    Warns:
        ProbabilitiesWarning: the outputs look like probabilities.

    Example:
        >>> check_model_output(nn.Linear(4, 3), torch.rand(1, 4), num_classes=3).shape
        torch.Size([1, 3])
    """
    tensor = next(chain(model.parameters(), model.buffers()), torch.empty(0))
    try:
        with evaluating(model), torch.no_grad():
            logits = model(torch.as_tensor(x).to(tensor.device))
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        kind = str(tensor.dtype).removeprefix("torch.")
        narrow = f" (its weights are {kind}, x is float32: let it convert)" if kind in ("float16", "bfloat16") else ""
        raise ValueError(f"the model does not take x of shape (N, {_dims(x.shape[1:])}){narrow}: {error}") from error
    _check_logits(logits, len(x), num_classes)
    if _are_probabilities(logits):
        warnings.warn(_PROBABILITIES, ProbabilitiesWarning, stacklevel=stacklevel)
    return logits


def _check_logits(logits: Any, n: int, num_classes: int | None) -> None:
    if not isinstance(logits, Tensor):
        raise TypeError(f"the model must return one tensor of logits (N, classes); it returns {type(logits).__name__}")
    if logits.ndim != 2 or len(logits) != n or num_classes not in (None, logits.shape[1]):
        expected = f"({n}, {'classes' if num_classes is None else num_classes})"
        raise ValueError(f"the model must return logits {expected}; it returns shape {tuple(logits.shape)}")
    if logits.shape[1] < 2:
        raise ValueError(f"the model must have at least 2 classes, with one logit for each; it has {logits.shape[1]}")
    if not bool(logits.isfinite().all()):
        raise ValueError("the model returns NaN or infinite logits for clean inputs")


def _are_probabilities(logits: Tensor) -> bool:
    """All in [0, 1], and every row sums to one."""
    in_range = bool(((logits >= 0) & (logits <= 1)).all())
    return in_range and bool(((logits.float().sum(1) - 1).abs() < 1e-4).all())


def _require_array(name: str, value: Any) -> None:
    if not isinstance(value, np.ndarray):
        hint = "; use .cpu().numpy()" if isinstance(value, Tensor) else ""
        raise TypeError(f"{name} must be a numpy array; got {type(value).__name__}{hint}")


def _check_range(images: Images, clip: tuple[float, float] | None) -> None:
    low, high = float(images.min()), float(images.max())  # NaN passes through min and max: no copy of the data is made
    if not np.isfinite([low, high]).all():
        bad = ~np.isfinite(images).reshape(len(images), -1).all(1)
        raise ValueError(f"x must be finite; {bad.sum()} of {len(images)} examples have NaN or infinite values")
    if clip is not None and (low < clip[0] - CLIP_TOLERANCE or high > clip[1] + CLIP_TOLERANCE):
        raise ValueError(
            f"x must lie{_range(clip)}; it covers [{low:.6g}, {high:.6g}]: divide 8-bit values by 255, and let the "
            "classifier do any normalisation"
        )


def _range(clip: tuple[float, float] | None) -> str:
    return "" if clip is None else f" in [{clip[0]:g}, {clip[1]:g}]"


def _dims(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


def _shape_message(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    message = f"x must have shape (N, {_dims(expected)}), as the model takes; got {shape}"
    if len(shape) == 4 and (shape[3], *shape[1:3]) == expected:
        message += "; these are channels-last images: x.transpose(0, 3, 1, 2)"
    return message


def _from_one_hot(y: npt.NDArray[Any], num_classes: int) -> Labels:
    if y.shape[1] != num_classes:
        raise ValueError(f"one-hot y must have shape (N, {num_classes}); got {y.shape}")
    soft = np.flatnonzero(((y != 0) & (y != 1)).any(1) | (y.sum(1) != 1))
    if len(soft):
        raise ValueError(
            f"y must be one-hot, a single 1 in each row; row {soft[0]} is {y[soft[0]].tolist()}: soft labels are not "
            "supported, use y.argmax(1)"
        )
    return y.argmax(1).astype(np.int64)
