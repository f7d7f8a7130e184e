"""Square: a black-box attack by random search over squares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks.hunt import Hunt, Rows
from art_ext.attacks.pgd import check_steps, mean_over_draws
from art_ext.model import evaluating
from art_ext.scores import margin
from art_ext.threat import ThreatModel, per_example

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries after which the share of pixels is halved
_TINY = 1e-12


def square(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    queries: int = 5000,
    share: float = 0.8,
    eot: int = 1,
    give_up: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Square attack (Andriushchenko et al. 2020, https://arxiv.org/abs/1912.00049): it needs no gradient.

    Each query changes one square of the perturbation and keeps the change where the margin falls. The side of the
    square shrinks by the published schedule. An example is left alone as soon as it is fooled.

    Against a randomised model (``eot > 1``) one lucky draw proves nothing: margins are means over draws, nothing stops
    early, and the point of the lowest mean margin comes back.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...) within ``threat.clip``; images (N, C, H, W), anything else is treated as one row of pixels.
        y: labels (N,), int64.
        threat: norm, ε and valid range.
        queries: points that are tried for each example, at least 1 (AutoAttack: 5000).
        share: of the pixels in the first square, in (0, 1] (AutoAttack: 0.8).
        eot: draws whose margins are averaged: forward passes of each query.
        give_up: with ``eot`` 1: after a quarter of the queries, leave alone what would still be classified correctly if
            the margin rose by so many times what it gained in the last half of them; None: go on to the end, as
            published (suite ``standard``: 8, our decision; `benchmarks/give_up.py` saw it rise by 3 to 5 times that).
        generator: source of the random numbers, on ``x``'s device; default: torch's global one.

    Returns:
        Adversarial inputs, shaped like ``x``, inside the threat model; where the attack failed, its best point.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 3
        >>> x_adv = square(net, x, y, threat=ThreatModel("linf", 0.1), queries=5)
        >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
        True
    """
    check_steps(queries=queries, eot=eot)
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; got {share!r}")
    if give_up is not None and not give_up > 0:
        raise ValueError(f"give_up must be None or > 0; got {give_up!r}")
    search = (_Linf if threat.norm == "linf" else _L2)(model, threat, Hunt(model, x, y), generator, eot)
    with evaluating(model), torch.no_grad():
        search.run(x, y, queries, share, give_up if eot == 1 else None)
    return search.hunt.found


@dataclass
class _State(Rows):
    """Where each example stands that is still open; ``low`` and ``high`` bound its elements in ℓ∞."""

    index: Tensor
    x: Tensor
    low: Tensor
    high: Tensor
    y: Tensor
    best: Tensor
    value: Tensor
    before: Tensor


@dataclass(frozen=True)
class _Search(ABC):
    """The random search; a norm says where it starts and what it proposes, on images (N, C, H, W)."""

    model: nn.Module
    threat: ThreatModel
    hunt: Hunt
    generator: torch.Generator | None
    eot: int

    def run(self, x: Tensor, y: Tensor, queries: int, share: float, give_up: float | None) -> None:
        images = x if x.ndim == 4 else x.flatten(1)[:, None, None, :]
        shape = x.shape[1:]
        bounds = self.threat.bounds(images) or (images, images)
        nothing = torch.full_like(images.flatten(1)[:, 0], -torch.inf)
        s = _State(self.hunt.open, images, *bounds, y, images, nothing, nothing)
        for query in range(queries):
            threat = self.threat.select(s.index)
            proposal = self.begin(s, threat) if not query else self.propose(s, threat, side(share, query, images))
            value, wrong = self.look(proposal.view(-1, *shape), s.y)
            better = value > s.value
            s.best, s.value = torch.where(per_example(better, s.x), proposal, s.best), torch.maximum(value, s.value)
            s = self.without_fooled(s, proposal.view(-1, *shape), wrong)
            if give_up is not None and query == queries // 8:
                s.before = s.value
            if give_up is not None and 0 < query == queries // 4:
                hopeful = s.value + give_up * (s.value - s.before) > 0
                self.hunt.settle(s.index[~hopeful], s.best[~hopeful].view(-1, *shape), s.value[~hopeful])
                s = s.take(hopeful)
            if not len(s.index):
                return
        self.hunt.settle(s.index, s.best.view(-1, *shape), s.value, ask=self.eot == 1)

    def look(self, points: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Margins (N,) of the points, means over the draws, and which are misclassified in most of them."""

        def margins(x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.model(x)
            return margin(logits, labels), (logits.argmax(1) != labels).float()

        value, wrong = mean_over_draws(self.model, margins, (points, y), self.eot)
        return value, wrong > 0.5

    def without_fooled(self, s: _State, points: Tensor, believed: Tensor) -> _State:
        if self.eot > 1:
            return s
        fooled = self.hunt.confirm(s.index, points, believed)
        if not bool(fooled.any()):
            return s
        self.hunt.drop(s.index[fooled])
        return s.take(~fooled)

    @abstractmethod
    def begin(self, s: _State, threat: ThreatModel) -> Tensor:
        """The first points."""

    @abstractmethod
    def propose(self, s: _State, threat: ThreatModel, length: int) -> Tensor:
        """The best points, changed in a square of so many pixels a side."""

    def signs(self, *shape: int, like: Tensor) -> Tensor:
        drawn = torch.randint(2, shape, generator=self.generator, device=like.device)
        return drawn.to(like).mul_(2).sub_(1)

    def places(self, count: int, span: int, like: Tensor) -> Tensor:
        return torch.randint(span + 1, (count,), generator=self.generator, device=like.device)

    def window(self, s: _State, length: int) -> Tensor:
        """One square for each example, anywhere in the image: bool (N, 1, H, W)."""
        inside = []
        for size in s.x.shape[2:]:
            edge = min(length, size)
            first = self.places(len(s.x), size - edge, s.x)[:, None]
            place = torch.arange(size, device=s.x.device)
            inside.append((place >= first) & (place < first + edge))
        return inside[0][:, None, :, None] & inside[1][:, None, None, :]


class _Linf(_Search):
    """Every pixel at a corner of the ball; stripes to begin with."""

    def begin(self, s: _State, threat: ThreatModel) -> Tensor:
        n, c, _, w = s.x.shape
        return torch.where(self.signs(n, c, 1, w, like=s.x) > 0, s.high, s.low)

    def propose(self, s: _State, threat: ThreatModel, length: int) -> Tensor:
        corner = torch.where(self.signs(len(s.x), s.x.shape[1], 1, 1, like=s.x) > 0, s.high, s.low)
        return torch.where(self.window(s, length), corner, s.best)


class _L2(_Search):
    """Bumps that decay from their centre; a proposal moves the budget of one square into another."""

    def begin(self, s: _State, threat: ThreatModel) -> Tensor:
        n, c, h, w = s.x.shape
        edge, delta = max(min(h, w) // 5, 1), torch.zeros_like(s.x)
        bump = self._bump(edge, edge, s.x)
        for top in range((h % edge) // 2, h - edge + 1, edge):
            for left in range((w % edge) // 2, w - edge + 1, edge):
                delta[:, :, top : top + edge, left : left + edge] += bump * self.signs(n, c, 1, 1, like=s.x)
        return self._sized(s, threat, delta)

    def propose(self, s: _State, threat: ThreatModel, length: int) -> Tensor:
        (n, c, h, w), delta = s.x.shape, s.best - s.x
        rows, columns = (min(max(length, 3) | 1, size) for size in (h, w))
        new, emptied = (self._slices(rows, columns, s.x) for _ in range(2))
        both = torch.zeros_like(s.x[:1, :1], dtype=torch.bool)
        both[new], both[emptied] = True, True
        spare = (per_example(torch.as_tensor(threat.eps).to(s.x).expand(n), s.x) ** 2 - _squares(delta, 3)).clamp(min=0)
        budget = (spare / c + _squares(delta * both, 2)).sqrt()
        bump = self._bump(rows, columns, s.x) * self.signs(n, c, 1, 1, like=s.x)
        here = delta[new]
        bump = bump + here / _squares(here, 2).sqrt().clamp(min=_TINY)
        delta[emptied] = 0
        delta[new] = bump / _squares(bump, 2).sqrt().clamp(min=_TINY) * budget
        return self._sized(s, threat, delta)

    def _slices(self, rows: int, columns: int, like: Tensor) -> tuple[Any, ...]:
        """One square for the whole batch, as published, as an index."""
        spans = zip((rows, columns), like.shape[2:], strict=True)
        firsts = [(int(self.places(1, size - edge, like)), edge) for edge, size in spans]
        (top, height), (left, width) = firsts
        return ..., slice(top, top + height), slice(left, left + width)

    def _sized(self, s: _State, threat: ThreatModel, delta: Tensor) -> Tensor:
        moved = s.x + threat.steepest(delta) * threat.radius(s.x)
        return threat.project(moved, s.x)

    def _bump(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """Half of the square up, half of it down, in either direction; of norm 1."""
        flip = bool(self.places(1, 1, like))
        rows, columns = (columns, rows) if flip else (rows, columns)
        half = rows // 2
        bump = torch.cat((_peak(half, columns, like), -_peak(rows - half, columns, like)))
        bump = bump / torch.linalg.vector_norm(bump).clamp(min=_TINY)
        return bump.T if flip else bump


def side(share: float, query: int, images: Tensor) -> int:
    """Side of the square at this query, in pixels (the schedule of the paper for 10 000 queries, not rescaled).

    Example:
        >>> [side(0.8, query, torch.zeros(1, 3, 32, 32)) for query in (1, 100, 4500)]
        [29, 14, 3]
    """
    height, width = images.shape[2:]
    now = share / 2 ** sum(query > limit for limit in _HALVINGS)
    return max(round((now * height * width) ** 0.5), 1)


def _squares(delta: Tensor, dims: int) -> Tensor:
    return delta.square().sum(tuple(range(-dims, 0)), keepdim=True)


def _peak(rows: int, columns: int, like: Tensor) -> Tensor:
    """A pyramid over (rows, columns): rings of weight 1/k² around the centre, of norm 1."""
    peak = torch.zeros(rows, columns).to(like)
    for ring in range(max(rows, columns) // 2 + 1):
        top, left = rows // 2 - ring, columns // 2 - ring
        bottom, right = rows // 2 + ring + 1, columns // 2 + ring + 1
        peak[max(top, 0) : bottom, max(left, 0) : right] += 1 / (ring + 1) ** 2
    return peak / torch.linalg.vector_norm(peak).clamp(min=_TINY)
