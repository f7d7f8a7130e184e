"""FAB-T: the smallest perturbation towards a class, by projections onto the linearised decision boundary."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.attacks.apgd import TOWARDS
from art_ext.attacks.hunt import Hunt, Rows, likely_targets
from art_ext.attacks.pgd import check_steps, input_gradient
from art_ext.model import evaluating, frozen, judge_of
from art_ext.threat import ThreatModel, per_example

ALPHA_MAX, OVERSHOOT, BACKWARD = 0.1, 1.05, 0.9  # α_max, η and β of the paper
NEAR = 1.1  # × ε: a point so near is also tried after a projection onto the ball (our decision)
_TINY, _FAR = 1e-12, 1e12


def fab(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    targets: int = 9,
    give_up: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Targeted fast adaptive boundary attack (Croce & Hein 2020, https://arxiv.org/abs/1907.02044).

    Each step projects the iterate and the clean input onto the boundary as it looks from the iterate, within the
    valid range, and moves to a point between the two, nearer to the clean input once it is across. The attack is
    deterministic and minimises the norm; an example is left alone as soon as it is fooled within ε. It works on the
    boundary itself, where a faster model of lower precision errs, so it takes its gradients from the exact one.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...) within ``threat.clip``; not modified.
        y: labels (N,), int64.
        threat: norm, ε and valid range.
        steps: iterations towards each target, at least 1 (paper: 100).
        targets: most likely wrong classes to try, at least 1 (AutoAttack: 9).
        give_up: after a fifth of the steps, leave alone what found the boundary no nearer than so many ε; None: go on
            to the end, as published (suite ``standard``: 1.5, our decision; on four networks later steps came at most
            1.3 times nearer).
        generator: not used; attacks of a suite all take one.

    Returns:
        Adversarial inputs, shaped like ``x``, inside the threat model; the clean input where the attack failed.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 3
        >>> x_adv = fab(net, x, y, threat=ThreatModel("l2", 0.5), steps=5)
        >>> bool((x_adv - x).norm(dim=1).max() <= 0.5 + 1e-6)
        True
    """
    check_steps(steps=steps, targets=targets)
    if give_up is not None and not give_up >= 1:
        raise ValueError(f"give_up must be None or at least 1; got {give_up!r}")
    model = judge_of(model)
    with evaluating(model), frozen(model):
        hunt = Hunt(model, x, y)
        with torch.no_grad():
            goals = likely_targets(model(x), y, targets)
        for goal in goals.unbind(1):
            if not len(hunt.open):
                break
            _Descent(model, threat, steps, give_up, hunt).run(x[hunt.open], y[hunt.open], goal[hunt.open])
    return hunt.found


@dataclass
class _State(Rows):
    """Where each example stands that is still open; ``pair`` is its label and its target."""

    index: Tensor
    x: Tensor
    pair: Tensor
    now: Tensor
    grad: Tensor
    value: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class _Descent:
    """One run towards one target of each open example."""

    model: nn.Module
    threat: ThreatModel
    steps: int
    give_up: float | None
    hunt: Hunt

    def run(self, x: Tensor, y: Tensor, target: Tensor) -> None:
        pair, far = torch.stack((y, target), 1), torch.full_like(x.flatten(1)[:, 0], torch.inf)
        grad, value, _ = input_gradient(self.model, x, pair, TOWARDS)
        state = _State(self.hunt.open, x, pair, x, grad, value, far)
        for step in range(self.steps):
            if step:
                state.grad, state.value, _ = input_gradient(self.model, state.now, state.pair, TOWARDS)
            state.now = self._towards_boundary(state)
            with torch.no_grad():
                across = self.model(state.now).argmax(1) != state.pair[:, 0]
            state = self._without_fooled(state, across)
            if self.give_up is not None and step == self.steps // 5:
                eps = torch.as_tensor(self.threat.select(state.index).eps).to(x)
                state = state.take(state.nearest <= self.give_up * eps)
            if not len(state.index):
                return

    def _towards_boundary(self, s: _State) -> Tensor:
        clip = self.threat.clip
        at_clean = s.value + (s.grad * (s.x - s.now)).flatten(1).sum(1)
        from_now = to_hyperplane(s.now, s.grad, s.value, norm=self.threat.norm, clip=clip)
        from_clean = to_hyperplane(s.x, s.grad, at_clean, norm=self.threat.norm, clip=clip)
        near, far = (per_example(self._size(d), s.x) for d in (from_now, from_clean))
        alpha = (near / (near + far)).clamp(max=ALPHA_MAX)
        ahead = (s.now + OVERSHOOT * from_now).lerp(s.x + OVERSHOOT * from_clean, alpha)
        return ahead if clip is None else ahead.clamp(*clip)

    def _size(self, delta: Tensor) -> Tensor:
        return self.threat.distance(delta, torch.zeros_like(delta)).clamp(min=1e-8)

    def _without_fooled(self, s: _State, across: Tensor) -> _State:
        """An example that is across the boundary within ε is done; one beyond it steps back towards the clean input.

        Every point near the ball is also tried after a projection onto it.
        """
        threat = self.threat.select(s.index)
        distance, eps = threat.distance(s.now, s.x), torch.as_tensor(threat.eps).to(s.x)
        fooled = self.hunt.ask(s.index, threat.project(s.now, s.x), distance <= NEAR * eps)
        s.nearest = torch.where(across, torch.minimum(s.nearest, distance), s.nearest)
        s.now = torch.where(per_example(across, s.x), s.x.lerp(s.now, BACKWARD), s.now)
        if not bool(fooled.any()):
            return s
        self.hunt.drop(s.index[fooled])
        return s.take(~fooled)


def to_hyperplane(x: Tensor, normal: Tensor, value: Tensor, *, norm: str, clip: tuple[float, float] | None) -> Tensor:
    """The smallest step from ``x`` to where a linear function is zero, within the valid range.

    The step of each element is −sign · min(τ · rate, room): at rate 1 in ℓ∞, at rate |normal| in ℓ2, until the range
    ends. The function falls concavely in τ, so Newton's method from τ = 0 never goes too far and ends exactly.
    Where even the corner of the range does not reach zero, the step to that corner comes back.

    Args:
        x: points (N, ...) within ``clip``.
        normal: gradient of the linear function, (N, ...).
        value: its value at ``x``, (N,).
        norm: ``"linf"`` or ``"l2"``, the size to keep small.
        clip: the valid range, or None.

    Returns:
        The step (N, ...), to be added to ``x``.

    Example:
        >>> x, normal = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, -1.0]])
        >>> to_hyperplane(x, normal, torch.tensor([0.4]), norm="linf", clip=(0.0, 1.0))
        tensor([[-0.3000,  0.1000]])
    """
    points = x.flatten(1)
    weights = normal.flatten(1) * torch.where(value < 0, -1.0, 1.0)[:, None]
    pull, goal = weights.abs(), value.abs()
    rate = None if norm == "linf" else pull  # None: 1; elements without a pull do not move anyway
    slope = pull if rate is None else pull * rate
    room = pull.new_tensor(torch.inf)
    if clip is not None:
        room = torch.where(weights > 0, points - clip[0], clip[1] - points)
    reach = goal / slope.sum(1).clamp(min=_TINY) if clip is None else _reach(pull, slope, rate, room, goal)
    return (-weights.sign() * _moved(rate, reach, room)).view_as(x)


def _moved(rate: Tensor | None, reach: Tensor, room: Tensor) -> Tensor:
    return torch.minimum(reach[:, None] if rate is None else rate * reach[:, None], room)


def _reach(pull: Tensor, slope: Tensor, rate: Tensor | None, room: Tensor, goal: Tensor) -> Tensor:
    """τ with Σ pull · min(τ · rate, room) = goal, too large for any room where there is none, (N,)."""
    reach = torch.zeros_like(goal)
    for _ in range(pull.shape[1] + 1):  # a segment less in each round; about five are enough
        moved = _moved(rate, reach, room)
        missing = goal - torch.linalg.vecdot(pull, moved)
        free = torch.linalg.vecdot(slope, (moved < room).to(pull))
        step = torch.where(free > 0, missing / free.clamp(min=_TINY), _FAR).clamp(min=0)
        short = (missing > 1e-6 * goal) & (reach < _FAR)
        if not bool(short.any()):
            break
        reach = torch.where(short, reach + step, reach)
    return reach
