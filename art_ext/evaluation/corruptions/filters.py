"""What the corruptions of `art_ext.evaluation.corruptions.kinds` do to images, in torch.

Each function takes images (N, C, H, W) in [0, 1], a generator of the CPU and the parameters of one severity, and
returns a new tensor, not yet clamped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from art_ext.threat import per_example


def _per_image(x: Tensor, generator: Generator, draw: Callable[[Tensor, Generator], Tensor]) -> Tensor:
    """``draw(image, its own generator)`` of each image (C, H, W), stacked; on the CPU, so that no device matters."""
    seeds = torch.randint(2**62, (len(x),), generator=generator).tolist()
    drawn = [draw(image, Generator().manual_seed(seed)) for image, seed in zip(x.cpu(), seeds, strict=True)]
    return torch.stack(drawn).to(x.device)


def _numbers(x: Tensor, generator: Generator, low: float = -1.0, high: float = 1.0) -> Tensor:
    """One uniform number for each image, (N,)."""
    return _per_image(x, generator, lambda _, g: torch.rand((), generator=g)) * (high - low) + low


def _scale(x: Tensor) -> float:
    """What lengths given for 32 pixels are multiplied by."""
    return max(1.0, min(x.shape[2:]) / 32)


def gaussian_noise(x: Tensor, generator: Generator, sigma: float) -> Tensor:
    """Normal noise of standard deviation ``sigma``, for each channel its own."""
    return x + sigma * _per_image(x, generator, lambda image, g: torch.randn(image.shape, generator=g))


def speckle_noise(x: Tensor, generator: Generator, sigma: float) -> Tensor:
    """Normal noise in proportion to the value."""
    return x + x * sigma * _per_image(x, generator, lambda image, g: torch.randn(image.shape, generator=g))


def shot_noise(x: Tensor, generator: Generator, photons: float) -> Tensor:
    """A Poisson count for each value; ``photons`` are expected where it is 1."""
    return _per_image(x, generator, lambda image, g: torch.poisson(image * photons, generator=g)) / photons


def impulse_noise(x: Tensor, generator: Generator, share: float) -> Tensor:
    """That share of the values becomes 0 or 1, as likely the one as the other."""
    u = _per_image(x, generator, lambda image, g: torch.rand(image.shape, generator=g))
    return torch.where(u < share, (u < share / 2).to(x), x)


def gaussian_blur(x: Tensor, generator: Generator, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, cut at four sigma."""
    from torchvision.transforms.v2.functional import gaussian_blur as torchvision_blur

    sigma *= _scale(x)
    reach = min(int(4 * sigma + 0.5), min(x.shape[2:]) - 1)
    return torchvision_blur(x, [2 * reach + 1] * 2, [sigma] * 2)


def defocus_blur(x: Tensor, generator: Generator, radius: float, softness: float) -> Tensor:
    """A disk as kernel, its edge softened by a 3×3 Gaussian of ``softness`` pixels."""
    radius *= _scale(x)
    reach = min(math.floor(radius) + 1, min(x.shape[2:]) - 1)  # one more than the disk, for its soft edge
    line = torch.arange(-reach, reach + 1)
    disk = (line[:, None] ** 2 + line**2 <= radius**2).float()[None, None]
    edge = torch.exp(-(torch.arange(-1, 2) ** 2) / (2 * softness**2))
    kernel = F.conv2d(disk, torch.outer(edge, edge)[None, None], padding=1).to(x)
    weight = (kernel / kernel.sum()).expand(x.shape[1], -1, -1, -1)
    return F.conv2d(F.pad(x, (reach,) * 4, mode="reflect"), weight, groups=x.shape[1])


def motion_blur(x: Tensor, generator: Generator, radius: float, sigma: float) -> Tensor:
    """Weighted mean along a line within 45° of the horizontal, from each pixel on to one side, as in ImageMagick."""
    angle = _numbers(x, generator, -math.pi / 4, math.pi / 4)
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)[:, :, None, None]
    sigma *= _scale(x)
    reach = int(min(2 * radius * _scale(x), 4 * sigma))  # the weights beyond are nothing
    weights = torch.exp(-(torch.arange(reach + 1) ** 2) / (2 * sigma**2))
    blurred = torch.zeros_like(x)
    for pixels, weight in enumerate((weights / weights.sum()).tolist()):
        blurred += weight * _warp(x, direction * pixels)
    return blurred


def zoom_blur(x: Tensor, generator: Generator, largest: float) -> Tensor:
    """Mean of the image and of its enlargements by 1, 1.01, … up to ``largest``."""
    factors = [1 + 0.01 * i for i in range(round(100 * (largest - 1)) + 1)]
    place = _centred(x)
    return (x + sum(_warp(x, place / factor - place) for factor in factors)) / (len(factors) + 1)


def brightness(x: Tensor, generator: Generator, more: float) -> Tensor:
    """``more`` on the value of HSV; hue and saturation stay."""
    value = x.amax(1, keepdim=True)
    raised = (value + more).clamp(max=1)
    return torch.where(value > 0, x * raised / value.clamp(min=1e-12), raised)


def contrast(x: Tensor, generator: Generator, factor: float) -> Tensor:
    """The distance from the mean of each channel, times ``factor``."""
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * factor + mean


def saturation(x: Tensor, generator: Generator, factor: float, more: float) -> Tensor:
    """Saturation of HSV becomes ``factor`` times itself plus ``more``; grey has no hue and stays grey."""
    value = x.amax(1, keepdim=True)
    old = (value - x.amin(1, keepdim=True)) / value.clamp(min=1e-12)
    new = (old * factor + more).clamp(0, 1)
    return torch.where(old > 0, value - (value - x) * new / old.clamp(min=1e-12), x)


def fog(x: Tensor, generator: Generator, density: float, decay: float) -> Tensor:
    """Bright clouds are added, and the result is brought back to the brightest value that the image had."""
    clouds = _per_image(x, generator, lambda image, g: _clouds(image.shape[1:], decay, g))
    brightest = x.amax((1, 2, 3), keepdim=True)
    return (x + density * clouds) * brightest / (brightest + density)


def _clouds(size: torch.Size, decay: float, generator: Generator) -> Tensor:
    """Octaves of uniform noise (1, H, W) in [0, 1]; each is twice as fine as the last and ``decay`` times weaker."""
    clouds = torch.zeros(1, 1, *size)
    for octave in range(1, math.ceil(math.log2(max(size))) + 1):
        coarse = torch.rand(1, 1, 2**octave, 2**octave, generator=generator)
        clouds += F.interpolate(coarse, size=tuple(size), mode="bilinear", align_corners=True) / decay**octave
    clouds -= clouds.min()
    return clouds[0] / clouds.max()


def pixelate(x: Tensor, generator: Generator, factor: float) -> Tensor:
    """Down to ``factor`` of the size and up again, both with Pillow's box filter."""
    there = [_box(size, max(1, int(size * factor))) for size in x.shape[2:]]
    back = [_box(max(1, int(size * factor)), size) for size in x.shape[2:]]
    return (back[0] @ there[0]).to(x) @ x @ (back[1] @ there[1]).to(x).T


def _box(inp: int, out: int) -> Tensor:
    """Weights (out, inp) of Pillow's box filter: an output is the mean of the inputs whose centres lie in its box."""
    scale = inp / out
    place = (torch.arange(inp, dtype=torch.float64) + 0.5)[None] - (torch.arange(out)[:, None] + 0.5) * scale
    inside = ((place / max(scale, 1) > -0.5) & (place / max(scale, 1) <= 0.5)).double()
    return inside / inside.sum(1, keepdim=True)


def jpeg(x: Tensor, generator: Generator, quality: float) -> Tensor:
    """Rounded to 8 bits, encoded and decoded by Pillow."""
    pixels = (x * 255).round().to(torch.uint8).cpu()
    return torch.stack([_through_jpeg(image, int(quality)) for image in pixels]).to(x) / 255


def _through_jpeg(pixels: Tensor, quality: int) -> Tensor:
    """8-bit (C, H, W) → the same after compression."""
    from PIL import Image

    file = BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).squeeze(2).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.atleast_3d(np.array(Image.open(file)))).permute(2, 0, 1)


def elastic(x: Tensor, generator: Generator, share: float) -> Tensor:
    """A smooth random displacement; its standard deviation at 5×5 places is that share of the shorter side."""
    coarse = _per_image(x, generator, lambda image, g: torch.randn(2, 5, 5, generator=g))
    field = F.interpolate(coarse, size=x.shape[2:], mode="bicubic", align_corners=True)
    return _warp(x, field * share * min(x.shape[2:]))


def rotation(x: Tensor, generator: Generator, degrees: float) -> Tensor:
    """Turned by so many degrees, to the left or to the right."""
    angle = math.radians(degrees) * _numbers(x, generator).sign()
    cos, sin = per_example(angle.cos(), x), per_example(angle.sin(), x)
    place = _centred(x)
    columns, rows = place[:, :1], place[:, 1:]
    return _warp(x, torch.cat([cos * columns - sin * rows, sin * columns + cos * rows], dim=1) - place)


def translation(x: Tensor, generator: Generator, share: float) -> Tensor:
    """Moved by that share of the shorter side, in any direction."""
    angle = _numbers(x, generator, -math.pi, math.pi)
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)[:, :, None, None]
    return _warp(x, direction * share * min(x.shape[2:]))


def _centred(x: Tensor) -> Tensor:
    """Column and row of each pixel, seen from the centre of the image, (1, 2, H, W)."""
    height, width = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns - (width - 1) / 2, rows - (height - 1) / 2])[None].to(x)


def _warp(x: Tensor, offset: Tensor) -> Tensor:
    """The image at each pixel + ``offset`` (N or 1, 2: columns and rows, H or 1, W or 1), the border mirrored."""
    size = torch.tensor([x.shape[3], x.shape[2]]).view(1, 2, 1, 1).to(x)
    grid = (2 * (_centred(x) + offset) / size).permute(0, 2, 3, 1)
    return F.grid_sample(x, grid.expand(len(x), -1, -1, -1), padding_mode="reflection", align_corners=False)
