"""``CORRUPTIONS``: common corruptions of images in the style of CIFAR-10-C, each in five severities.

Written anew in torch after Hendrycks & Dietterich 2019 (https://arxiv.org/abs/1903.12261); constants are those of their
script ``make_cifar_c.py`` where `Corruption.source` says so. It is **not** CIFAR-10-C: resampling, random numbers and
the missing rounding to 8 bits differ, so numbers are not comparable with those on the published files.

Lengths in pixels hold for images of up to 32 pixels; above, they grow with the shorter side (our decision).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import torch
from torch import Generator, Tensor

from art_ext.evaluation.corruptions import filters

SEVERITIES = (1, 2, 3, 4, 5)
CIFAR_C = "constants of CIFAR-10-C, make_cifar_c.py (Hendrycks & Dietterich 2019)"
OURS = "our decision"


@dataclass(frozen=True, kw_only=True)
class Corruption:
    """One way in which images go bad, in five severities.

    Args:
        name: key in `CORRUPTIONS`.
        family: ``"noise"``, ``"blur"``, ``"weather"``, ``"digital"`` or ``"geometry"``.
        description: one line.
        parameters: what ``function`` is given at each of the five severities.
        source: where the parameters come from.
        function: (images, generator, *parameters) -> images, not yet clamped to [0, 1].
        needs_colour: it would leave grey images as they are, so it refuses them.

    Example:
        >>> CORRUPTIONS["contrast"].apply(torch.eye(2)[None, None], 2, Generator())
        tensor([[[[0.7500, 0.2500],
                  [0.2500, 0.7500]]]])
    """

    name: str
    family: str
    description: str
    parameters: tuple[tuple[float, ...], ...]
    source: str
    function: Callable[..., Tensor]
    needs_colour: bool = False

    @torch.no_grad()
    def apply(self, x: Tensor, severity: int, generator: Generator) -> Tensor:
        """The corrupted images: a new tensor like ``x``, in [0, 1].

        Each image has random numbers of its own, seeded by the next number of ``generator``: what becomes of it depends
        neither on the other images of the batch nor on how a set is cut into batches.

        Args:
            x: images (N, C, H, W), C of 1 or 3, float32 in [0, 1]; not modified.
            severity: 1 to 5.
            generator: of the CPU, wherever ``x`` is.

        Raises:
            TypeError: ``x`` is no float32 tensor, or ``generator`` no `torch.Generator`.
            ValueError: a severity outside 1 to 5, no images, values outside [0, 1], a generator of another device.
        """
        check_severity(severity)
        _check(x, generator)
        self.check_channels(x.shape[1])
        return self.function(x, generator, *self.parameters[severity - 1]).clamp(0, 1)

    def check_channels(self, channels: int) -> None:
        """Refuse grey images where they would not change."""
        if self.needs_colour and channels == 1:
            raise ValueError(f"{self.name} needs colour images (N, 3, H, W); it leaves grey ones as they are")


def check_severity(severity: Any) -> None:
    """Refuse what is no whole number from 1 to 5."""
    if not isinstance(severity, Integral) or isinstance(severity, bool) or severity not in SEVERITIES:
        raise ValueError(f"severity must be a whole number from 1 to 5; got {severity!r}")


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse a batch that does not consist of grey or colour images."""
    if len(shape) != 4 or shape[0] < 1 or shape[1] not in (1, 3) or min(shape[2:]) < 2:
        raise ValueError(
            f"x must be images (N, C, H, W), N ≥ 1, with 1 or 3 channels and at least 2×2 pixels; got shape {shape}"
        )


def _check(x: Any, generator: Any) -> None:
    if not isinstance(x, Tensor) or x.dtype != torch.float32:
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise TypeError(f"x must be a float32 tensor of images in [0, 1]; got {got}")
    if not isinstance(generator, Generator):
        raise TypeError(f"generator must be a torch.Generator; got {type(generator).__name__}")
    if generator.device.type != "cpu":
        raise ValueError(f"generator must be one of the CPU, torch.Generator(); got one of {generator.device}")
    check_shape(tuple(x.shape))
    if not (x.min() >= 0 and x.max() <= 1):  # so that NaN is refused too
        raise ValueError(f"x must lie in [0, 1]; it covers [{x.min():.6g}, {x.max():.6g}]")


def _entry(
    name: str, family: str, function: Callable[..., Tensor], parameters: Any, source: str, description: str
) -> Corruption:
    each = tuple(p if isinstance(p, tuple) else (p,) for p in parameters)
    return Corruption(
        name=name,
        family=family,
        description=description,
        parameters=each,
        source=source,
        function=function,
        needs_colour=name == "saturation",
    )


# fmt: off
CORRUPTIONS: dict[str, Corruption] = {c.name: c for c in (
    _entry("gaussian-noise", "noise", filters.gaussian_noise, (.04, .06, .08, .09, .10), CIFAR_C,
           "normal noise; standard deviation"),
    _entry("shot-noise", "noise", filters.shot_noise, (500, 250, 100, 75, 50), CIFAR_C,
           "Poisson noise of few photons; photons at white"),
    _entry("impulse-noise", "noise", filters.impulse_noise, (.01, .02, .03, .05, .07), CIFAR_C,
           "salt and pepper; share of the values"),
    _entry("speckle-noise", "noise", filters.speckle_noise, (.06, .10, .12, .16, .20), CIFAR_C,
           "normal noise times the value; standard deviation"),
    _entry("gaussian-blur", "blur", filters.gaussian_blur, (.4, .6, .7, .8, 1.0), CIFAR_C,
           "standard deviation in pixels"),
    _entry("defocus-blur", "blur", filters.defocus_blur, ((.3, .4), (.4, .5), (.5, .6), (1.0, .2), (1.5, .1)), CIFAR_C,
           "a disk; radius and softness of its edge in pixels"),
    _entry("motion-blur", "blur", filters.motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)), CIFAR_C,
           "along a line of random slope; radius and standard deviation in pixels"),
    _entry("zoom-blur", "blur", filters.zoom_blur, (1.06, 1.11, 1.15, 1.20, 1.25), CIFAR_C,
           "mean of enlargements; the largest of them"),
    _entry("fog", "weather", filters.fog, ((.2, 3), (.5, 3), (.75, 2.5), (1.0, 2), (1.5, 1.75)),
           CIFAR_C + "; clouds of interpolated noise, not of diamonds and squares: our decision",
           "haze of clouds; density and decay of their octaves"),
    _entry("brightness", "weather", filters.brightness, (.05, .10, .15, .20, .30), CIFAR_C,
           "added to the value of HSV"),
    _entry("contrast", "digital", filters.contrast, (.75, .50, .40, .30, .15), CIFAR_C,
           "distance from the mean times a factor"),
    _entry("saturation", "digital", filters.saturation, ((.3, 0), (.1, 0), (1.5, 0), (2.0, .1), (2.5, .2)),
           CIFAR_C + "; paler at first, then stronger: severities are not ordered by distance",
           "saturation of HSV; factor and summand"),
    _entry("pixelate", "digital", filters.pixelate, (.95, .90, .85, .75, .65), CIFAR_C,
           "coarser pixels; share of the size"),
    _entry("jpeg", "digital", filters.jpeg, (80, 65, 58, 50, 40), CIFAR_C,
           "compression; quality"),
    _entry("elastic", "geometry", filters.elastic, (.01, .02, .03, .04, .05), OURS,
           "smooth random displacement; its size as a share of the image"),
    _entry("rotation", "geometry", filters.rotation, (5, 10, 15, 20, 30), OURS,
           "to either side; degrees"),
    _entry("translation", "geometry", filters.translation, (.03, .06, .09, .12, .18), OURS,
           "in any direction, the border mirrored; share of the image"),
)}
# fmt: on
