"""What each input defense does to an image: the pictures of the pages in docs/defenses.

    python benchmarks/defense_pictures.py --out docs/defenses

Images: scikit-learn's two photographs (the one is the image, the other its background) and one of the package's
Fashion-MNIST.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from art_ext.data import load
from art_ext.files import atomic_write
from art_ext.nn.backgrounds import load_backgrounds
from art_ext.nn.interference import interfere
from art_ext.nn.masking import Masking
from art_ext.nn.noise import DISTRIBUTIONS, Noise
from art_ext.nn.quantization import SoftQuantizer
from art_ext.palette import PALETTE

SIZE = (3, 224, 224)
LEVELS, TEMPERATURES = (2, 8), ((0.1, 0.02), (0.03, 0.01))  # grey, colour
Panels = list[tuple[str, Tensor]]


def photographs() -> tuple[Tensor, Tensor]:
    """An image and a background, (1, 3, 224, 224) each."""
    first, second = load_backgrounds(input_shape=SIZE).split(1)
    return first, second


def interference() -> Panels:
    x, background = photographs()
    index = torch.zeros(1, dtype=torch.int64)

    def under(**weights: float) -> Tensor:
        off = {"alpha": 0.0, "beta": 0.0, "gamma": 0.0}
        return interfere(x, background, index, **off | weights, generator=torch.Generator().manual_seed(0))

    return [
        ("image", x),
        ("background b", background),
        ("α = 0.1", under(alpha=0.1)),
        ("β = 0.1", under(beta=0.1)),
        ("γ = 0.1", under(gamma=0.1)),
        ("all three", under(alpha=0.1, beta=0.1, gamma=0.1)),
    ]


def quantization() -> tuple[Panels, Panels]:
    grey = torch.from_numpy(load("fashion-mnist-5k")[0][:1])
    colour, _ = photographs()
    found = []
    for x, levels, temperatures in zip((grey, colour), LEVELS, TEMPERATURES, strict=True):
        soft = [(f"{levels} levels, T = {t:g}", SoftQuantizer(levels=levels, temperature=t)(x)) for t in temperatures]
        hard = (f"{levels} levels, hard", SoftQuantizer(levels=levels, hard=True)(x))
        found.append([("image", x), *soft, hard])
    return found[0], found[1]


def noises() -> Panels:
    x, _ = photographs()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [("image", x), *((f"{name}, 0.1", Noise(0.1, distribution=name)(x)) for name in DISTRIBUTIONS)]


def masks() -> Panels:
    x, _ = photographs()
    names = {"rt1": "RT1", "rt2": "RT2", "rt3": "RT3, mask"}
    found = [("image", x)]
    for kind, name in names.items():
        views = Masking(kind, seed=0).views(x)
        found += [(name if len(views) == 1 else f"{name} {i}", view.image) for i, view in enumerate(views, 1)]
    return found


def show(axes: Iterable[Any], panels: Panels) -> None:
    for axis, (title, image) in zip(axes, panels, strict=True):
        grey = image.shape[1] == 1
        axis.imshow(image[0, 0] if grey else image[0].permute(1, 2, 0), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title, fontsize="small")
        axis.axis("off")


def staircase(axis: Any, levels: int, temperatures: tuple[float, ...]) -> None:
    x = torch.linspace(0, 1, 1001)
    for t, colour in zip(temperatures, PALETTE, strict=False):
        axis.plot(x, SoftQuantizer(levels=levels, temperature=t)(x), color=colour, label=f"T = {t:g}")
    axis.plot(x, SoftQuantizer(levels=levels, hard=True)(x), ":", color="black", label="hard")
    axis.set(title=f"Q, {levels} levels", xlabel="pixel")
    axis.legend(frameon=False, fontsize="x-small")


def canvas(rows: int, columns: int) -> tuple[Any, Any]:
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    folder = parser.parse_args().out
    figures = {}
    for name, panels in (("inn", interference()), ("noise-injection", noises()), ("random-transform", masks())):
        figures[name], axes = canvas(1, len(panels))
        show(axes[0], panels)
    figures["soft-quantization"], axes = canvas(2, 5)
    for row, panels, levels, temperatures in zip(axes, quantization(), LEVELS, TEMPERATURES, strict=True):
        show(row[:-1], panels)
        staircase(row[-1], levels, temperatures)
    for name, figure in figures.items():
        with atomic_write(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=80, format="png")


if __name__ == "__main__":
    main()
