"""Purification: a random transform, and a network that makes a whole image of what it left."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from art_ext.nn.masking import Masking, View
from art_ext.nn.ranges import check_count


class Purification(nn.Module):
    """Images → their purified version, differentiable all the way, with a fresh draw of the transform in each pass.

    Args:
        purifier: a module (image, mask) → image, such as `art_ext.nn.purifiers.UNet`.
        transform: before it; None for none, so that the purifier sees all.
        steps: how often in a row the image is transformed and purified.
        vote: draws whose purified images are averaged. For the mean of their probabilities, put the network behind it
            into a `art_ext.nn.soft_vote.SoftVote` with this as its transform.

    Raises:
        ValueError: a count below 1; in `forward`, a purifier that changes shape, or leaves [0, 1].

    Example:
        >>> from art_ext.nn.purifiers import UNet
        >>> purification = Purification(UNet(1, width=8), Masking("rt3"))
        >>> purification(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, purifier: nn.Module, transform: Masking | None, *, steps: int = 1, vote: int = 1) -> None:
        super().__init__()
        check_count(1, steps=steps, vote=vote)
        self.purifier, self.transform, self.steps, self.vote = purifier, transform, int(steps), int(vote)

    def forward(self, x: Tensor) -> Tensor:
        """Purified images (N, C, H, W) in [0, 1] of images (N, C, H, W) in [0, 1]."""
        total = self._purified(x)
        for _ in range(self.vote - 1):
            total = total + self._purified(x)
        return total / self.vote

    def _purified(self, x: Tensor) -> Tensor:
        for _ in range(self.steps):
            x, _ = purified(x, self.transform, self.purifier)
        return x

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"{type(self.purifier).__name__}, {self.transform}, steps={self.steps}, vote={self.vote}"


def purified(x: Tensor, transform: Masking | None, purifier: nn.Module) -> tuple[Tensor, Tensor]:
    """One pass through transform and purifier.

    Args:
        x: images (N, C, H, W) in [0, 1].
        transform: None for a mask without holes.
        purifier: (image, mask) → image.

    Returns:
        The purified images, and the mask (N, 1, H, W) of what the purifier saw: where each hole was filled from the
        rest, of nothing.

    Raises:
        ValueError: the purifier changes the shape.
    """
    views = [View(x, torch.ones_like(x[:, :1]))] if transform is None else transform.views(x)
    precision = next((p.dtype for p in purifier.parameters()), x.dtype)
    images = [purifier(view.image.to(precision), view.mask.to(precision)).to(x.dtype) for view in views]
    if images[0].shape != x.shape:
        raise ValueError(f"the purifier made {tuple(images[0].shape)} of images {tuple(x.shape)}; it must keep shapes")
    if transform is None or len(views) == 1:
        return images[0], views[0].mask
    return transform.merge(views, images), torch.zeros_like(views[0].mask)
