"""What every epoch of a training is worth: accuracies, the way the boundary goes, the loss around the weights."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.evaluation.figures import Landscape, parameter_landscape
from art_ext.isolation import derive_seed
from art_ext.reproduce.piat_toy.settings import METHODS, Method, Settings
from art_ext.reproduce.piat_toy.training import Trained, points, with_weights

PER_SIDE = 9  # points of the grid in a ball, along each coordinate
CHUNK = 100  # balls that are looked at together
REACH, PLACES = 2.5, 61  # the plane of the boundary: its half side, and points along a side
SPAN, PLANE = 0.5, 21  # the landscape of the weights: half side in lengths of the weights, points along a side


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training in numbers; accuracies and shares in [0, 1].

    Args:
        method: how it was trained.
        seed: of everything that was drawn.
        clean: accuracy on the test points after each epoch; first of all that of the initial weights.
        robust: the same under PGD, of points that are right without it.
        moved: share of the plane h = 0, |x₁|, |x₂| ≤ 2.5, that each epoch has given to the other class.
        exhaustive: robust accuracy of the last epoch where a grid of 9³ points of each ball was tried beside PGD.
        rise: mean rise of the loss on the plane of `weights_around`; None where it was not measured.
        seconds: of the training.
    """

    method: Method
    seed: int
    clean: tuple[float, ...]
    robust: tuple[float, ...]
    moved: tuple[float, ...]
    exhaustive: float
    rise: float | None
    seconds: float


def judge(trained: Trained, method: Method, seed: int, settings: Settings) -> Run:
    """Judge every epoch on the test points of that seed."""
    x, y = test_points(settings, seed)
    networks = [with_weights(trained.network, page) for page in trained.album.kept]
    held = [held_by(network, x, y, settings, seed) for network in networks]
    sides = [_classes(network, plane_points()[1]) for network in networks]
    last = held[-1][1] & survives_grid(trained.network, x, y, eps=settings.eps)
    return Run(
        method=method,
        seed=seed,
        clean=tuple(_share(clean) for clean, _ in held),
        robust=tuple(_share(robust) for _, robust in held),
        moved=tuple(_share(a != b) for a, b in pairwise(sides)),
        exhaustive=_share(last),
        rise=rise(weights_around(trained.network, seed, settings)) if method in METHODS.values() else None,
        seconds=trained.seconds,
    )


def test_points(settings: Settings, seed: int) -> tuple[Tensor, Tensor]:
    """The test points of a seed as tensors."""
    x, y = points(settings, seed, "test")
    return torch.from_numpy(x), torch.from_numpy(y)


def held_by(network: nn.Module, x: Tensor, y: Tensor, settings: Settings, seed: int) -> tuple[Tensor, Tensor]:
    """Which points are classified rightly, and which of them also under PGD: two masks (N,)."""
    clean = _classes(network, x) == y
    return clean, clean & (_classes(network, adversarial(network, x, y, settings, seed)) == y)


def adversarial(network: nn.Module, x: Tensor, y: Tensor, settings: Settings, seed: int) -> Tensor:
    """The points as PGD leaves them; the random starts of a seed are the same for every network."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "toy, judging"))
    return pgd(network, x, y, threat=settings.threat, steps=settings.judging_steps, generator=generator)


def survives_grid(network: nn.Module, x: Tensor, y: Tensor, *, eps: float, per_side: int = PER_SIDE) -> Tensor:
    """Which points (N, 3) are classified rightly on a whole grid in their ℓ∞ ball, its corners among them, (N,).

    In three dimensions everything can be tried: gradients that mislead PGD do not mislead this.

    Example:
        >>> above = nn.Linear(3, 2)
        >>> _ = above.load_state_dict({"weight": torch.tensor([[0.0, 0, 0], [1, 0, 0]]), "bias": torch.zeros(2)})
        >>> survives_grid(above, torch.tensor([[0.3, 0, 0], [0.1, 0, 0]]), torch.tensor([1, 1]), eps=0.2)
        tensor([ True, False])
    """
    line = torch.linspace(-eps, eps, per_side)
    grid = torch.cartesian_prod(line, line, line)
    balls = zip(x.split(CHUNK), y.split(CHUNK), strict=True)
    found = [
        _classes(network, (some[:, None] + grid).flatten(0, 1)).view(len(some), -1) == of[:, None] for some, of in balls
    ]
    return torch.cat(found).all(1)


def weights_around(network: nn.Module, seed: int, settings: Settings) -> Landscape:
    """The loss on the test points, as PGD changes them for these very weights, on a plane through the weights."""
    x, y = test_points(settings, seed)
    x_adv = adversarial(network, x, y, settings, seed).numpy()
    return parameter_landscape(
        network, x_adv, y.numpy(), seed=seed, span=SPAN, steps=PLANE, clip=None, batch_size=len(x_adv)
    )


def rise(plane: Landscape) -> float:
    """By how much the values of a landscape are above that in its middle, on average: 0 on flat ground.

    Example:
        >>> places, values = (-1.0, 0.0, 1.0), ((3.0, 1.0, 3.0),) * 3
        >>> valley = Landscape(title="", x_label="", y_label="", z_label="", x=places, y=places, values=values)
        >>> round(rise(valley), 2)
        1.33
    """
    values = torch.tensor(plane.values, dtype=torch.float64)
    return (values - values[len(plane.y) // 2, len(plane.x) // 2]).mean().item()


def plane_points() -> tuple[Tensor, Tensor]:
    """Places along a side of the plane h = 0, (P,), and the points on it, (P², 3), x₁ running fastest."""
    line = torch.linspace(-REACH, REACH, PLACES)
    flat = torch.cartesian_prod(line, line).flip(1)
    return line, torch.cat((flat, torch.zeros(len(flat), 1)), 1)


@torch.no_grad()
def _classes(network: nn.Module, x: Tensor) -> Tensor:
    classes: Tensor = network(x).argmax(1)
    return classes


def _share(mask: Tensor) -> float:
    return mask.double().mean().item()
