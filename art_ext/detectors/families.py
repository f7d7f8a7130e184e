"""Families of attacks, as a detector learns them: names, functions that craft, and sets of crafted images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from math import e, pi, sqrt
from typing import TypeAlias

import torch
from art.attacks.attack import EvasionAttack
from torch import Tensor, nn

from art_ext.attacks import cw, fgsm, pgd
from art_ext.isolation import derive_seed, keeping_gradients, seeded
from art_ext.model import evaluating
from art_ext.naming import lookup
from art_ext.progress import progress_bar
from art_ext.threat import ThreatModel

NONE = "none"
LEVELS = 255

Craft: TypeAlias = "Callable[..., Tensor] | EvasionAttack"
"""``(model, x, y, *, generator) -> x_adv`` on tensors, such as ``partial(pgd, threat=…)``; or an attack of ART."""


@dataclass(frozen=True)
class Family:
    """A family that detectors know by name; ``craft`` is ``(model, x, y, *, threat, generator) -> x_adv``."""

    name: str
    description: str
    craft: Callable[..., Tensor]


def _single_step(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    return fgsm(model, x, y, threat=in_norm("linf", threat, x))


def _iterated(
    norm: str, model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator
) -> Tensor:
    return pgd(model, x, y, threat=in_norm(norm, threat, x), generator=generator)


def _nearest(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    anywhere = ThreatModel("l2", 1e6, threat.clip)
    return cw(model, x, y, threat=anywhere, steps=40, learning_rate=0.1, searches=2, confidence=0.5)


FAMILIES = {
    family.name: family
    for family in (
        Family("fgsm", "one step in ℓ∞", _single_step),
        Family("pgd-linf", "ten steps in ℓ∞", partial(_iterated, "linf")),
        Family("pgd-l2", "ten steps in ℓ2, in a ball of the same volume", partial(_iterated, "l2")),
        Family("cw", "Carlini & Wagner's nearest point in ℓ2, at a margin of 0.5", _nearest),
    )
}


def attack_families(
    names: Iterable[str] = tuple(FAMILIES), *, threat: ThreatModel, weakest: float = 0.25
) -> dict[str, Craft]:
    """Functions ``(model, x, y, *, generator) -> x_adv`` by family.

    Args:
        names: in `FAMILIES`.
        threat: ε of the strongest attacks. A family of the other norm has the ball of the same volume
            (Araujo et al. 2020): ε₂ = ε∞ · √(2d / πe) in d dimensions. ``cw`` looks for the nearest point wherever
            it is.
        weakest: each image gets a radius drawn from [weakest · ε, ε] (our decision), so that weaker attacks are known
            too; 1 for ε alone.

    Raises:
        ValueError: an unknown name (the nearest is proposed), ``weakest`` outside (0, 1].

    Example:
        >>> crafts = attack_families(["fgsm"], threat=ThreatModel("linf", 0.1), weakest=1.0)
        >>> net, x = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), torch.full((2, 1, 2, 2), 0.5)
        >>> x_adv = crafts["fgsm"](net, x, torch.tensor([0, 1]), generator=torch.Generator())
        >>> (x_adv - x).abs().flatten().round(decimals=4).unique()
        tensor([0.1000])
    """
    if not 0 < weakest <= 1:
        raise ValueError(f"weakest must be in (0, 1], a share of ε; got {weakest!r}")
    return {n: partial(_drawn, lookup(FAMILIES, n, what="family").craft, threat, weakest) for n in names}


def _drawn(
    craft: Callable[..., Tensor],
    threat: ThreatModel,
    weakest: float,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    generator: torch.Generator,
) -> Tensor:
    shares = torch.rand(len(x), generator=generator, device=x.device) * (1 - weakest) + weakest
    return craft(model, x, y, threat=threat.with_eps(shares * threat.eps), generator=generator)


def in_norm(norm: str, threat: ThreatModel, x: Tensor) -> ThreatModel:
    """``threat``, or the ball of the other norm that has the same volume (approximately, Araujo et al. 2020).

    Example:
        >>> in_norm("l2", ThreatModel("linf", 0.0314), torch.zeros(1, 3, 32, 32)).eps  # the paper's pair: 0.83
        0.842...
    """
    if threat.norm == norm:
        return threat
    ratio = sqrt(2 * x[0].numel() / (pi * e))
    return ThreatModel(norm, threat.eps * ratio if norm == "l2" else threat.eps / ratio, threat.clip)


@dataclass(frozen=True)
class CraftedSet:
    """Images with the family of each.

    Args:
        x: images (M, C, H, W) in [0, 1], on the CPU.
        family: index of each, 0 for what nobody attacked, (M,) int64.
        source: number of the clean image that each was made of, (M,) int64.
    """

    x: Tensor
    family: Tensor
    source: Tensor


def crafted(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    crafts: Mapping[str, Craft],
    *,
    batch_size: int = 128,
    eight_bit: bool = True,
    seed: int = 0,
    progress: bool = False,
) -> CraftedSet:
    """Clean images, then each attacked by each family. What an attack left as it was is left out: nothing was done.

    Args:
        model: from images to logits, on any device; in eval mode while it is attacked.
        x: images (N, C, H, W) in [0, 1], on the CPU; not modified.
        y: labels (N,).
        crafts: by family; their order gives the indices 1, 2, ….
        batch_size: images per call of an attack.
        eight_bit: round to the 256 grey levels of a picture file.
        seed: of all random choices.
        progress: show a progress bar.
    """
    sets = [CraftedSet(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)))]
    with progress_bar(len(crafts) * len(x), "img", show=progress) as bar:
        for k, (name, craft) in enumerate(crafts.items(), 1):
            bar.set_description(name)
            x_adv = attacked(model, x, y, craft, batch_size=batch_size, eight_bit=eight_bit, seed=seed, name=name)
            changed = (x_adv != x).flatten(1).any(1).nonzero().squeeze(1)
            sets.append(CraftedSet(x_adv[changed], torch.full_like(changed, k), changed))
            bar.update(len(x))
    return CraftedSet(*(torch.cat([getattr(s, part) for s in sets]) for part in ("x", "family", "source")))


def attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    craft: Craft,
    *,
    batch_size: int = 128,
    eight_bit: bool = True,
    seed: int = 0,
    name: str = "",
) -> Tensor:
    """The images after one attack, on the CPU; model and random generators are afterwards as before."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(derive_seed(seed, f"{name} generator"))
    with ExitStack() as stack:
        for context in (evaluating(model), keeping_gradients(model), seeded(derive_seed(seed, name))):
            stack.enter_context(context)
        pairs = zip(x.split(batch_size), y.split(batch_size), strict=True)
        found = torch.cat([_one(craft, model, *pair, device, generator) for pair in pairs])
    if found.shape != x.shape or not bool(found.isfinite().all()):
        raise ValueError(f"the attack {name!r} must return finite images {tuple(x.shape)}; got {tuple(found.shape)}")
    found = found.clamp(0, 1)
    return to_levels(found) if eight_bit else found


def _one(
    craft: Craft, model: nn.Module, x: Tensor, y: Tensor, device: torch.device, generator: torch.Generator
) -> Tensor:
    if isinstance(craft, EvasionAttack):
        return torch.from_numpy(craft.generate(x.numpy(), y.numpy())).to(x)
    return craft(model, x.to(device), y.to(device), generator=generator).detach().to(x)


def to_levels(x: Tensor) -> Tensor:
    """Values in [0, 1] rounded to the 256 levels of a picture file.

    Example:
        >>> to_levels(torch.tensor([0.0, 0.1, 1.0])) * 255
        tensor([  0.,  26., 255.])
    """
    return (x * LEVELS).round() / LEVELS
