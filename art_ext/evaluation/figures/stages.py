"""Images on their way through a purifier."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from art_ext.evaluation.figures.drawing import INK, small_print
from art_ext.isolation import seeded
from art_ext.model import evaluating
from art_ext.nn.masking import Masking, View
from art_ext.nn.purification import purified

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """Rows of images, a column for each: clean, adversarial, transformed, purified.

    Args:
        rows: images (N, C, H, W) in [0, 1] by the name of their stage, C 1 or 3; all of one shape.
        note: how they were made.

    Raises:
        ValueError: no rows, rows of different shapes, not 1 or 3 channels.

    Example:
        >>> x = torch.rand(3, 1, 8, 8)
        >>> len(Stages(rows={"clean": x, "purified": x}).figure().axes)
        6
    """

    rows: dict[str, Tensor]
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        shapes = {tuple(images.shape) for images in self.rows.values()}
        shape = next(iter(shapes), ())
        if len(shapes) != 1 or len(shape) != 4 or shape[1] not in (1, 3) or not shape[0]:
            told = ", ".join(map(str, sorted(shapes))) or "none"
            raise ValueError(f"rows must be images (N, C, H, W) of one shape, N ≥ 1 and C 1 or 3; got {told}")

    def figure(self) -> Figure:
        """A new figure with the grid."""
        from matplotlib.figure import Figure

        n, _, height, width = next(iter(self.rows.values())).shape
        side = 1.05
        size = (side * n + 1.0, len(self.rows) * side * height / width + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(self.rows), n, squeeze=False)
        for axes, (name, images) in zip(grid, self.rows.items(), strict=True):
            axes[0].set_ylabel(name.replace(", ", ",\n"), color=INK, fontsize=8)
            for one, image in zip(axes, images, strict=True):
                shown = image.detach().float().cpu().clamp(0, 1).movedim(0, -1).squeeze(-1)
                one.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                one.set(xticks=[], yticks=[])
                one.spines[:].set_visible(False)
        figure.supxlabel(small_print(self.note, figure.get_figwidth()), fontsize=7, color=INK)
        return figure


@torch.no_grad()
def stages(
    purifier: nn.Module,
    transform: Masking | None,
    x: Tensor,
    x_adv: Tensor | None = None,
    *,
    note: str = "",
    seed: int = 0,
) -> Stages:
    """What transform and purifier make of some images, in one draw; modes and random generators stay as they are.

    Args:
        purifier: (image, mask) → image, all in [0, 1].
        transform: before it; None for none.
        x: clean images (N, C, H, W) in [0, 1].
        x_adv: the same after an attack; None leaves those rows out.
        note: how they were made.
        seed: of the draw.

    Example:
        >>> from art_ext.nn.purifiers import UNet
        >>> x = torch.rand(2, 1, 8, 8)
        >>> list(stages(UNet(1, width=4), Masking("rt1", grid=4), x, x).rows)
        ['clean', 'purified', 'adversarial', 'adversarial, transformed', 'adversarial, purified']
    """
    rows = {"clean": x}
    with evaluating(purifier):
        with seeded(seed):
            rows["purified"] = purified(x, transform, purifier)[0]
        if x_adv is not None:
            with seeded(seed):
                views = [View(x_adv, torch.ones_like(x_adv[:, :1]))] if transform is None else transform.views(x_adv)
            with seeded(seed):
                made = purified(x_adv, transform, purifier)[0]
            rows |= {"adversarial": x_adv, "adversarial, transformed": views[0].image, "adversarial, purified": made}
    return Stages(rows=rows, note=note)
