"""Images that are bent instead of painted over."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.attacks.pgd import check_steps, pgd
from art_ext.model import judge_of
from art_ext.threat import ThreatModel


def spatial(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel | None = None,
    max_shift: float = 1.0,
    grid: int = 8,
    steps: int = 40,
    objective: str = "margin",
    eot: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Displaces pixels along a smooth field, found by PGD; after stAdv (https://arxiv.org/abs/1801.02612).

    No ball around the images bounds it: as an unseen attack it tells whether a defense has learnt more than its ε. For
    `art_ext.evaluate` it is ``FunctionAttack(name="spatial", function=spatial)`` under ``ThreatModel("linf", 1.0)``,
    which allows any image. Where stAdv has a flow for each pixel, a penalty on its roughness and L-BFGS, this has a
    coarse grid of displacements, interpolated between, and a bound on each (our decision).

    Args:
        model: from images to logits (N, C).
        x: images (N, C, H, W); not modified.
        y: labels (N,), int64.
        threat: not read; images keep their range by themselves.
        max_shift: the largest displacement along each axis, in pixels.
        grid: displacements along each side.
        steps: of PGD.
        objective: as of `art_ext.attacks.pgd`.
        eot: forward passes whose gradients are averaged in each step.
        generator: of the random start.

    Returns:
        Bent images, shaped like ``x``; what they are made of stays in the range of each image.

    Raises:
        ValueError: a count below 1, a shift that is not positive, no images.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> spatial(net, torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 0]), grid=2, steps=3).shape
        torch.Size([4, 1, 8, 8])
    """
    check_steps(steps=steps, grid=grid)
    if not max_shift > 0:
        raise ValueError(f"max_shift must be > 0 pixels; got {max_shift!r}")
    if x.ndim != 4:
        raise ValueError(f"x must be images (N, C, H, W); got shape {tuple(x.shape)}")
    still = x.new_zeros(len(x), 2, grid, grid)
    field = pgd(
        _Bent(judge_of(model), x),
        still,
        y,
        threat=ThreatModel("linf", max_shift, clip=None),
        steps=steps,
        objective=objective,
        eot=eot,
        generator=generator,
    )
    return bend(x, field)


def bend(x: Tensor, field: Tensor) -> Tensor:
    """Images whose pixels are taken from elsewhere, interpolated linearly; past the edge there is more of the edge.

    Args:
        x: images (N, C, H, W).
        field: displacements in pixels (N, 2, g, g), along the columns and along the rows.

    Example:
        >>> x = torch.arange(4.0).view(1, 1, 1, 4)
        >>> bend(x, torch.ones(1, 2, 1, 1)).flatten()
        tensor([1., 2., 3., 3.])
    """
    height, width = x.shape[-2:]
    whole = F.interpolate(field, size=(height, width), mode="bilinear", align_corners=False)
    rows = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] + whole[:, 1]
    columns = torch.arange(width, device=x.device, dtype=x.dtype) + whole[:, 0]
    # grid_sample counts from −1 to 1, edge to edge
    places = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), -1)
    return F.grid_sample(x, places, padding_mode="border", align_corners=False)


class _Bent(nn.Module):
    """Logits as a function of the displacements."""

    def __init__(self, model: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.model, self.x = model, x

    def forward(self, field: Tensor) -> Tensor:
        logits: Tensor = self.model(bend(self.x, field))
        return logits
