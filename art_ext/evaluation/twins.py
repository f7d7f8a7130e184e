"""The undefended twin of a defense: the network inside it, which attacks can differentiate in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.isolation import seeded
from art_ext.model import DefendedModel, Surrogate, judge_of
from art_ext.threat import ThreatModel

AGREEMENT = 0.6  # share of predictions that a twin must have in common with the defense (our decision)


def undefended(model: DefendedModel, x: Tensor) -> nn.Module | None:
    """The largest part of a defense that classifies the same inputs much as the whole does, or None.

    That is the network behind the preprocessors, or a module inside the network that takes the inputs and gives
    logits of the same shape: what most input defenses are wrapped around.

    Args:
        model: the whole defense, in eval mode.
        x: some inputs (N, ...).

    Example:
        >>> from art.estimators.classification import PyTorchClassifier
        >>> inner = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> class Rounded(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.inner = inner
        ...     def forward(self, x):
        ...         return self.inner((x * 255).round() / 255)
        >>> whole = DefendedModel(PyTorchClassifier(Rounded(), nn.CrossEntropyLoss(), (3, 2, 2), 3))
        >>> undefended(whole, torch.rand(8, 3, 2, 2)) is inner
        True
    """
    with seeded(0), torch.no_grad():
        whole = model(x)
        for part in _parts(model):
            logits = _try(part, x)
            if logits is not None and logits.shape == whole.shape:
                agreement = (logits.argmax(1) == whole.argmax(1)).float().mean()
                if agreement >= AGREEMENT:
                    return part
    return None


def _parts(model: DefendedModel) -> Iterator[nn.Module]:
    """Modules inside, the outer ones first; the network itself only where preprocessors stand before it."""
    if len(model.steps):
        yield model.network
    yield from (m for m in model.network.modules() if m is not model.network and any(True for _ in m.parameters()))


def _try(module: nn.Module, x: Tensor) -> Tensor | None:
    try:
        out = module(x)
    except Exception:  # most parts of a network do not take its input, and each says so in its own way
        return None
    return out if isinstance(out, Tensor) and out.ndim == 2 else None


def through(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    generator: torch.Generator,
    source: nn.Module,
    attack: Callable[..., Tensor],
    **options: Any,
) -> Tensor:
    """An attack that differentiates ``source`` and asks ``model`` at every point of its way: transfer at its strongest.

    Args:
        model: the defense that is attacked.
        x: inputs (N, ...).
        y: labels (N,).
        threat: norm, ε and valid range.
        generator: source of random starts.
        source: another model of the same inputs and classes: the undefended twin, or one trained by itself.
        attack: such as `art_ext.attacks.apgd`, one that confirms its successes.
        **options: of the attack.
    """
    pair = Surrogate(source, judge_of(model), trusted=False)
    return attack(pair, x, y, threat=threat, generator=generator, **options)
