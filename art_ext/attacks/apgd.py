"""Auto-PGD: projected gradient ascent with momentum that halves its step where it stops paying."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from art_ext.attacks.hunt import Hunt, Rows, likely_targets
from art_ext.attacks.objectives import OBJECTIVES, Objective, get_objective
from art_ext.attacks.pgd import check_steps, input_gradient
from art_ext.model import evaluating, frozen
from art_ext.scores import dlr_targeted, margin_towards
from art_ext.threat import ThreatModel, per_example

MOMENTUM = 0.75  # weight of the new step against the last one
TARGETED = Objective("dlr-targeted", "DLR towards one wrong class (AutoAttack)", dlr_targeted)
TOWARDS = Objective("margin-towards", "margin towards one wrong class", margin_towards)


def apgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: ThreatModel,
    steps: int = 100,
    objective: str | Objective | Callable[[Tensor, Tensor], Tensor] = "ce",
    targets: int = 0,
    restarts: int = 1,
    eot: int = 1,
    rho: float = 0.75,
    give_up: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Auto-PGD (Croce & Hein 2020, https://arxiv.org/abs/2003.01690), without parameters to tune.

    The step starts at 2 ε. At checkpoints it is halved, and the search goes on from the best point, where fewer than
    a share ``rho`` of the steps since the last checkpoint raised the objective, or where the best value has not
    changed although the step was not halved there. An example is left alone as soon as it is misclassified.

    Against a randomised model (``eot > 1``) one lucky draw proves nothing: nothing stops early, and the point of the
    highest averaged objective of all runs comes back.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...) within ``threat.clip``; not modified.
        y: labels (N,), int64.
        threat: norm, ε and valid range.
        steps: iterations of each run, at least 1 (paper: 100).
        objective: as in `pgd`, on labels (``"dlr"`` of two classes is the margin); not used with ``targets``.
        targets: run once towards each of so many most likely wrong classes, with the targeted DLR (below four classes
            with the margin); 0 for the untargeted attack.
        restarts: runs from another random start (of each target), for those that are left.
        eot: draws whose gradients are averaged.
        rho: see above (paper: 0.75).
        give_up: with ``targets`` and ``eot`` 1: at the second checkpoint (step 41 of 100), leave a target alone whose
            objective would not get above 0 if it rose by so many times what it gained since the first; None: go on to
            the end, as published (suites ``fast`` and ``standard``: 10, our decision).
        generator: source of the random starts, on ``x``'s device; default: torch's global one.

    Returns:
        Adversarial inputs, shaped like ``x``, inside the threat model; where the attack failed, its best point.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 3
        >>> x_adv = apgd(net, x, y, threat=ThreatModel("linf", 0.1), steps=5)
        >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
        True
    """
    check_steps(steps=steps, restarts=restarts, eot=eot)
    if not isinstance(targets, int) or targets < 0:
        raise ValueError(f"targets must be a whole number of at least 0; got {targets!r}")
    if give_up is not None and not (targets and give_up > 0):
        raise ValueError(f"give_up must be None, or > 0 with targets; got {give_up!r} with targets {targets}")
    with evaluating(model), frozen(model):
        goals, goal = _goals(model, x, y, objective, targets)
        hunt = Hunt(model, x, y)
        for target in [goal_of for goal_of in goals for _ in range(restarts)]:
            if not len(hunt.open):
                break
            index = hunt.open
            begin = threat.select(index).random_start(x[index], generator)
            _Ascent(model, threat, goal, steps, eot, rho, give_up, hunt).run(x[index], y[index], target[index], begin)
    return hunt.found


def _goals(
    model: nn.Module, x: Tensor, y: Tensor, objective: str | Objective | Callable[[Tensor, Tensor], Tensor], count: int
) -> tuple[list[Tensor], Objective]:
    """What the objective takes beside the logits, for each run, and the objective; the DLR needs enough classes."""
    if not count and (goal := get_objective(objective)).name != "dlr":
        return [y], goal
    with torch.no_grad():
        logits = model(x if count else x[:1])
    if not count:
        return [y], goal if logits.shape[1] > 2 else OBJECTIVES["margin"]
    pairs = [torch.stack((y, t), 1) for t in likely_targets(logits, y, count).unbind(1)]
    return pairs, TARGETED if logits.shape[1] > 3 else TOWARDS


@dataclass
class _State(Rows):
    """Where each example stands that is still open; ``index`` is its row in the hunt."""

    index: Tensor
    x: Tensor
    y: Tensor
    target: Tensor
    now: Tensor
    before: Tensor
    grad: Tensor
    value: Tensor
    best: Tensor
    best_grad: Tensor
    best_value: Tensor
    size: Tensor
    rises: Tensor
    checked: Tensor
    halved: Tensor


@dataclass(frozen=True)
class _Ascent:
    """One run over the open examples of a hunt."""

    model: nn.Module
    threat: ThreatModel
    objective: Objective
    steps: int
    eot: int
    rho: float
    give_up: float | None
    hunt: Hunt

    def run(self, x: Tensor, y: Tensor, target: Tensor, begin: Tensor) -> None:
        state, logits = self._start(x, y, target, begin)
        state = self._without_fooled(state, logits)
        period, since, checks = _share(0.22, self.steps), 0, 0
        for step in range(self.steps):
            if not len(state.index):
                return
            self._advance(state, MOMENTUM if step else 1.0)
            logits = self._look(state)
            state = self._without_fooled(state, logits)
            since += 1
            if since == period:
                checks += 1
                state = self._without_hopeless(state) if checks == 2 else state
                self._check(state, period)
                period, since = max(period - _share(0.03, self.steps), _share(0.06, self.steps)), 0
        self.hunt.settle(state.index, state.best, state.best_value, ask=self.eot == 1)

    def _start(self, x: Tensor, y: Tensor, target: Tensor, begin: Tensor) -> tuple[_State, Tensor]:
        grad, value, logits = input_gradient(self.model, begin, target, self.objective, self.eot)
        radius = self.threat.select(self.hunt.open).radius(x)
        size = torch.zeros_like(per_example(value, x)).to(x) + 2 * radius
        state = _State(
            index=self.hunt.open,
            x=x,
            y=y,
            target=target,
            now=begin,
            before=begin,
            grad=grad,
            value=value,
            best=begin.clone(),
            best_grad=grad.clone(),
            best_value=value.clone(),
            size=size,
            rises=torch.zeros_like(y),
            checked=value.clone(),
            halved=torch.ones_like(y, dtype=torch.bool),
        )
        return state, logits

    def _advance(self, s: _State, momentum: float) -> None:
        threat = self.threat.select(s.index)
        bounds = threat.bounds(s.x)
        ahead = threat.project_(threat.steepest(s.grad).mul_(s.size).add_(s.now), s.x, bounds)
        moved = ahead.sub_(s.now).mul_(momentum).add_(s.now).add_(s.now - s.before, alpha=1 - momentum)
        s.before, s.now = s.now, threat.project_(moved, s.x, bounds)

    def _look(self, s: _State) -> Tensor:
        s.grad, value, logits = input_gradient(self.model, s.now, s.target, self.objective, self.eot)
        s.rises += value > s.value
        s.value = value
        better = value > s.best_value
        s.best[better], s.best_grad[better], s.best_value[better] = s.now[better], s.grad[better], value[better]
        return logits

    def _check(self, s: _State, period: int) -> None:
        stuck = (s.rises <= self.rho * period) | (~s.halved & (s.checked >= s.best_value))
        s.size[stuck] /= 2
        s.now, s.grad = s.now.clone(), s.grad.clone()
        s.now[stuck], s.grad[stuck] = s.best[stuck], s.best_grad[stuck]
        s.halved, s.checked, s.rises = stuck, s.best_value.clone(), torch.zeros_like(s.rises)

    def _without_fooled(self, s: _State, logits: Tensor) -> _State:
        if self.eot > 1:
            return s
        fooled = self.hunt.confirm(s.index, s.now, logits.argmax(1) != s.y)
        if not bool(fooled.any()):
            return s
        self.hunt.drop(s.index[fooled])
        return s.take(~fooled)

    def _without_hopeless(self, s: _State) -> _State:
        if self.give_up is None or self.eot > 1:
            return s
        hopeful = s.best_value + self.give_up * (s.best_value - s.checked) > 0
        self.hunt.settle(s.index[~hopeful], s.best[~hopeful], s.best_value[~hopeful])
        return s.take(hopeful)


def _share(share: float, steps: int) -> int:
    return max(int(share * steps), 1)
