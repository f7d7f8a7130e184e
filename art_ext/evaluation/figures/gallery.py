"""Images before and after an attack, with what was changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf
from typing import TYPE_CHECKING, Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks.pgd import check_steps
from art_ext.evaluation.bench import Bench
from art_ext.evaluation.figures.drawing import INK, plain, small_print
from art_ext.evaluation.prepare import check_options, prepare
from art_ext.isolation import derive_seed, seeded
from art_ext.model import evaluating
from art_ext.naming import lookup
from art_ext.palette import PALETTE
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels, check_images

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RIGHT, WRONG = PALETTE[2], PALETTE[3]
CHANNELS = (1, 3)
SHOW = {
    "broken": "those first that the attack broke",
    "survived": "those first that it did not break",
    "given": "in the given order",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Gallery:
    """Clean and adversarial images side by side, with the perturbation magnified.

    Args:
        clean: images (N, C, H, W) in [0, 1], N ≥ 1, C 1 or 3.
        adversarial: the same after the attack.
        labels: the true labels (N,), int64.
        before: predicted for ``clean`` (N,), int64.
        after: predicted for ``adversarial`` (N,), int64.
        magnify: factor by which the perturbation is magnified; grey is no change.
        names: name of each class; empty: its number.
        note: how it was made.

    Raises:
        ValueError: tensors that do not fit together, not 1 or 3 channels, a factor not above 0, too few names.

    Example:
        >>> x, y = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
        >>> shown = Gallery(clean=x, adversarial=x, labels=y, before=y, after=1 - y, magnify=10)
        >>> len(shown.figure().axes)
        6
    """

    clean: Tensor
    adversarial: Tensor
    labels: Tensor
    before: Tensor
    after: Tensor
    magnify: float
    names: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        shape = tuple(self.clean.shape)
        if len(shape) != 4 or shape[1] not in CHANNELS or not shape[0]:
            raise ValueError(f"clean must be images (N, C, H, W) with N ≥ 1 and C 1 or 3; got shape {shape}")
        if self.adversarial.shape != shape:
            raise ValueError(f"adversarial must have the shape of clean, {shape}; got {tuple(self.adversarial.shape)}")
        for name in ("labels", "before", "after"):
            if (got := tuple(getattr(self, name).shape)) != shape[:1]:
                raise ValueError(f"{name} must have shape {shape[:1]}, one for each image; got {got}")
        highest = int(torch.stack((self.labels, self.before, self.after)).max())
        if self.names and len(self.names) <= highest:
            raise ValueError(f"names must name all classes up to {highest}; got {len(self.names)} names")
        if not 0 < self.magnify < inf:
            raise ValueError(f"magnify must be > 0 and finite; got {self.magnify!r}")

    def figure(self) -> Figure:
        """A new figure with the gallery."""
        from matplotlib.figure import Figure

        height, width = self.clean.shape[2:]
        side = 1.05
        size = (side * len(self.clean) + 1.0, 3 * side * height / width + 1.1)
        figure = Figure(figsize=size, layout="constrained")
        self.draw(figure)
        return figure

    def draw(self, figure: Figure) -> None:
        """Draw the gallery on an empty matplotlib ``figure``: a column for each image, with its label on top."""
        grid = figure.subplots(3, len(self.clean), squeeze=False)
        rows = ("clean", "adversarial", f"difference × {self.magnify:g}")
        difference = 0.5 + self.magnify * (self.adversarial - self.clean)
        for axes, name, images in zip(grid, rows, (self.clean, self.adversarial, difference), strict=True):
            axes[0].set_ylabel(name, color=INK, fontsize=8)
            for one, image in zip(axes, images, strict=True):
                _show(one, image)
        for column, label, before, after in zip(grid.T, self.labels, self.before, self.after, strict=True):
            column[0].set_title(plain(self._name(label)), fontsize=8, color=INK)
            _caption(column[0], self._name(before), right=bool(before == label))
            _caption(column[1], self._name(after), right=bool(after == label))
        figure.supxlabel(small_print(self.note, figure.get_figwidth()), fontsize=7, color=INK)

    def _name(self, label: Tensor) -> str:
        return self.names[int(label)] if self.names else str(int(label))


def gallery(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    x_adv: Images,
    *,
    n: int = 8,
    show: str = "broken",
    magnify: float | None = None,
    names: Sequence[str] = (),
    clip: tuple[float, float] = (0.0, 1.0),
    note: str = "",
    batch_size: int = 128,
    seed: int = 0,
) -> Gallery:
    """A gallery of some of the examples of an attack, predicted by the whole defense in eval mode.

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, C, H, W) and ``y`` (N,).
        x: images, within ``clip``; C is 1 or 3.
        y: labels.
        x_adv: the same images after the attack, in the same order.
        n: number of images; fewer where there are fewer.
        show: ``"broken"`` (right before and wrong after the attack first), ``"survived"`` (right before and after
            first) or ``"given"``; else in the given order.
        magnify: factor for the perturbation; default: the largest whole one with which no change is cut.
        names: name of each class.
        clip: lowest and highest valid value, shown as black and white.
        note: how the examples were made.
        batch_size: examples per pass.
        seed: of the model's random choices, where it has any.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> x, y = np.zeros((3, 1, 2, 2), np.float32), np.array([0, 1, 0])
        >>> gallery(net, x, y, x + 0.03125, n=2).magnify
        16
    """
    check_options(threat=(threat := ThreatModel("linf", 1.0, clip)), eot=1, batch_size=batch_size, seed=seed)
    check_steps(n=n)
    lookup(SHOW, show, what="show")
    bench = Bench.of(prepare(classifier, x, y, threat), threat, batch_size, seed)
    clean, truth = bench.x, bench.y
    adversarial = torch.from_numpy(check_adversarial(x_adv, clean.numpy(), clip))
    with seeded(derive_seed(seed, "gallery")), evaluating(bench.model):
        before, after = (bench.judge(images)[0] for images in (clean, adversarial))
    chosen = _first(show, before == truth, after == truth)[:n]
    low, high = threat.clip or clip
    clean, adversarial = ((z[chosen] - low) / (high - low) for z in (clean, adversarial))
    return Gallery(
        clean=clean,
        adversarial=adversarial,
        labels=truth[chosen],
        before=before[chosen],
        after=after[chosen],
        magnify=_factor(clean, adversarial) if magnify is None else magnify,
        names=tuple(names),
        note=note,
    )


def check_adversarial(x_adv: Any, x: Images, clip: tuple[float, float] | None) -> Images:
    """``x_adv`` as float32, if it is as many and as large as ``x``; the message of an error says ``x_adv``."""
    try:
        checked = check_images(x_adv, input_shape=x.shape[1:], clip=clip)
    except (TypeError, ValueError) as error:
        raise type(error)(f"x_adv: {error}") from error
    if len(checked) != len(x):
        raise ValueError(f"x_adv must have as many images as x, {len(x)}; got {len(checked)}")
    return checked


def _first(show: str, right_before: Tensor, right_after: Tensor) -> Tensor:
    """All indices, those that ``show`` asks for in front."""
    wanted = right_before & (right_after == (show == "survived"))
    return torch.arange(len(wanted)) if show == "given" else (~wanted).long().argsort(stable=True)


def _factor(clean: Tensor, adversarial: Tensor) -> float:
    largest = float((adversarial - clean).abs().max())
    return max(1, floor(0.5 / largest + 1e-3)) if largest else 1  # 8/255 is not exact in float32


def _show(axes: Axes, image: Tensor) -> None:
    shown = image.clamp(0, 1).movedim(0, -1).squeeze(-1)
    axes.imshow(shown.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _caption(axes: Axes, name: str, *, right: bool) -> None:
    axes.set_xlabel(f"{'✓' if right else '✗'} {plain(name)}", fontsize=8, color=RIGHT if right else WRONG, labelpad=2)
