"""Adversarial weight perturbation (Wu et al. 2020, https://arxiv.org/abs/2004.05884)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.technique import Technique
from art_ext.techniques.base import register


@register("awp", "the loss is taken at the worst weights nearby", paper="https://arxiv.org/abs/2004.05884")
class AWP(Technique):
    """The loss and its gradient are taken at w + v, where v raises the loss on x' most, ‖v‖ = γ ‖w‖ in each layer.

    One step of gradient ascent, scaled layer by layer as in the authors' code, for weights of two or more dimensions;
    the weights are put back bit for bit before the optimizer's step (the code steps first, which differs by the
    weight decay of v). A step costs the loss's forwards and one backward more. BatchNorm's statistics see the loss's
    own forwards only. With parts of a batch (``accumulate``) each has its v; processes share one.

    Args:
        gamma: γ, 0.005 (authors' code: 0.005 for TRADES, 0.01 for PGD-AT).
        after: epochs before it begins; 10 (authors' code; of 200).

    Raises:
        ValueError: γ not in (0, 1), or ``after`` below 0.

    Example:
        >>> AWP(gamma=0.01, after=0)
        AWP(gamma=0.01, after=0)
    """

    changes_network = True

    def __init__(self, *, gamma: float = 0.005, after: float = 10) -> None:
        if not 0 < gamma < 1:
            raise ValueError(f"gamma must be in (0, 1), a share of the norm of each layer's weights; got {gamma!r}")
        if not after >= 0:
            raise ValueError(f"after must be ≥ 0, epochs before the perturbation begins; got {after!r}")
        self.gamma, self.after = gamma, after
        self._done = 0.0

    def __repr__(self) -> str:
        """With its settings."""
        return f"AWP(gamma={self.gamma!r}, after={self.after!r})"

    def before_batch(self, done: float, epochs: int) -> None:
        """Remember how far the training is."""
        self._done = done

    @contextmanager
    def perturbing(
        self, model: nn.Module, loss: Any, x: Tensor, x_adv: Tensor, y: Tensor, progress: float
    ) -> Iterator[None]:
        """The weights are the worst ones nearby."""
        if self._done < self.after:
            yield
            return
        weights: list[Tensor] = [p for p in self.network.parameters() if p.ndim > 1 and p.requires_grad]
        saved = [w.detach().clone() for w in weights]
        with keeping_buffers(self.network), torch.enable_grad():
            value = loss.compute(model, x, x_adv, y, progress=progress).value
            found = torch.autograd.grad(value, weights, allow_unused=True)
        grads = [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]
        for grad in grads if self.processes.count > 1 else ():
            grad.copy_(self.processes.sum(grad))
        perturb(weights, grads, self.gamma)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, saved)


@torch.no_grad()
def perturb(weights: Sequence[Tensor], grads: Sequence[Tensor], gamma: float) -> None:
    """Add γ ‖w‖ g / ‖g‖ to each weight in place; nothing where the gradient is zero."""
    for weight, grad in zip(weights, grads, strict=True):
        norm = grad.norm()
        scale = torch.where(norm > 0, gamma * weight.norm() / norm.clamp(min=torch.finfo(norm.dtype).tiny), 0.0)
        weight.addcmul_(grad, scale)


@contextmanager
def keeping_buffers(network: nn.Module) -> Iterator[None]:
    """Give every buffer the values back that it had: BatchNorm's statistics change in each forward of training.

    Example:
        >>> norm = nn.BatchNorm1d(2)
        >>> with keeping_buffers(norm):
        ...     _ = norm(torch.rand(4, 2))
        >>> norm.num_batches_tracked.item()
        0
    """
    saved = [(b, b.detach().clone()) for b in network.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
