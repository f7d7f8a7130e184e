"""Projected gradient ascent on the input: the one attack loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from art_ext.attacks.objectives import Objective, get_objective
from art_ext.model import Surrogate, confirmed, evaluating, frozen, judge_of
from art_ext.processes import drawn_like
from art_ext.threat import ThreatModel, per_example

GAUSSIAN_START = 1e-3  # standard deviation of TRADES' start; an ℓ∞-uniform start is a full ε wide
STARTS = ("uniform", "gaussian")
BeforeStep = Callable[[Tensor, Tensor], Tensor]  # (x_adv, x) -> x_adv


class Geometry(Protocol):
    """What the loop asks of a threat model; see `art_ext.threat.ThreatModel` for each."""

    def radius(self, x: Tensor) -> float | Tensor:
        """ε around ``x``."""

    def bounds(self, x: Tensor) -> Any:
        """What `project_` needs to know of ``x``, computed once."""

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """The allowed point that belongs to ``x_adv``."""

    def project_(self, x_adv: Tensor, x: Tensor, bounds: Any) -> Tensor:
        """As `project`, in place where it can be."""

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A random allowed point."""

    def steepest(self, grad: Tensor) -> Tensor:
        """The unit step."""

    def select(self, index: Tensor) -> Geometry:
        """That of some of the examples."""


def pgd(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    threat: Geometry,
    steps: int = 10,
    step_size: float | Tensor | None = None,
    objective: str | Objective | Callable[[Tensor, Tensor], Tensor] = "ce",
    random_start: bool | str = True,
    restarts: int = 1,
    eot: int = 1,
    early_exit: bool = False,
    track_best: bool = False,
    generator: torch.Generator | None = None,
    start: Tensor | None = None,
    before_step: BeforeStep | None = None,
) -> Tensor:
    """Projected gradient descent (Madry et al. 2018, https://arxiv.org/abs/1706.06083).

    Only gradients with respect to the input are taken: the model runs in eval mode with its parameters frozen, both
    restored afterwards. Plain use costs ``steps * eot`` forwards and as many input-only backwards; an objective on the
    clean prediction (``"kl"``) costs one forward more, ``early_exit``, ``track_best`` and ``restarts > 1`` one more
    per restart, to judge the last iterate.

    Args:
        model: from inputs to logits (N, C).
        x: inputs (N, ...) of any shape, within ``threat.clip``; not modified.
        y: labels (N,), int64.
        threat: norm, ε and valid range.
        steps: iterations, at least 1.
        step_size: on the scale of the inputs, one number or one per example; default 2.5 · ε / steps (Madry et al.).
        objective: ``"ce"``, ``"kl"``, ``"margin"``, ``"dlr"``, an `Objective`, or a function (logits, y) -> (N,).
        random_start: True or ``"uniform"`` (in the ball), ``"gaussian"`` (standard deviation 0.001, TRADES), or False.
        restarts: independent starts; the best point of all is returned.
        eot: forward passes whose gradients are averaged in each step, for a randomised model.
        early_exit: stop working on an example once it is misclassified (evaluation only).
        track_best: return the best iterate instead of the last: misclassified first, then highest objective.
        generator: source of the random start, on ``x``'s device; default: torch's global one.
        start: where to begin, shaped like ``x``; projected onto the threat model, not modified. With
            ``random_start=False`` and one restart only.
        before_step: (x_adv, x) -> x_adv, what each step starts from instead, such as `art_ext.vit.patch_masking` gives.

    Returns:
        Adversarial inputs, shaped like ``x``, inside the threat model.

    Raises:
        ValueError: an argument out of its range.

    Example:
        >>> net = nn.Linear(4, 3)
        >>> x, y = torch.rand(8, 4), torch.arange(8) % 3
        >>> x_adv = pgd(net, x, y, threat=ThreatModel("linf", 0.1), steps=5)
        >>> bool((x_adv - x).abs().max() <= 0.1 + 1e-6)
        True
    """
    check_steps(steps=steps, restarts=restarts, eot=eot)
    _check_start(start, x, random_start, restarts)
    goal, kind, x = get_objective(objective), _start_of(random_start), x.detach()
    size = _step_size(2.5 * threat.radius(x) / steps if step_size is None else step_size, x)
    with evaluating(model), frozen(model):
        target = _reference(model, x) if goal.on_reference else y
        best = _Best(x) if early_exit or track_best or restarts > 1 else None
        loop = _Loop(model, threat, goal, steps, eot, best, early_exit, before_step)
        x_adv = x
        for _ in range(restarts):
            todo = best.open() if best is not None and early_exit else None
            if todo is not None and not len(todo):
                break
            first = _begin(x, threat, kind, generator) if start is None else threat.project(start.detach().to(x), x)
            x_adv = loop.run(x, y, target, size, first, todo)
    return x_adv if best is None else best.x


def fgsm(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, objective: str = "ce") -> Tensor:
    """Fast gradient sign method (Goodfellow et al. 2015, https://arxiv.org/abs/1412.6572): one step of size ε.

    Args and returns as `pgd`; for ℓ2 the step follows the normalised gradient.

    Example:
        >>> x = torch.rand(2, 4)
        >>> fgsm(nn.Linear(4, 3), x, torch.tensor([0, 1]), threat=ThreatModel("linf", 0.1)).shape
        torch.Size([2, 4])
    """
    size = threat.eps
    return pgd(model, x, y, threat=threat, steps=1, step_size=size, objective=objective, random_start=False)


def check_steps(**counts: int) -> None:
    """Refuse counts below one, by name."""
    for name, value in counts.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1; got {value!r}")


def input_gradient(
    model: nn.Module, x: Tensor, target: Tensor, objective: Objective, eot: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the objective with respect to ``x``, its values (N,) and the logits (N, C), averaged over ``eot``."""
    if eot > 1:
        return _averaged(model, x, target, objective, eot)
    leaf = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = model(leaf)
        values = objective(logits, target)
        grad = _gradient(values.sum(), leaf)
    return grad, values.detach(), logits.detach()


def _averaged(
    model: nn.Module, x: Tensor, target: Tensor, objective: Objective, draws: int
) -> tuple[Tensor, Tensor, Tensor]:
    def look(many_x: Tensor, many_targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return input_gradient(model, many_x, many_targets, objective)

    grad, values, logits = mean_over_draws(model, look, (x, target), draws)
    return grad, values, logits


def mean_over_draws(
    model: nn.Module, look: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], draws: int
) -> list[Tensor]:
    """Means over draws of what ``look`` finds for ``inputs`` (each (N, ...)), each of (N, ...).

    Several draws share a pass where ``model`` allows it, see `art_ext.model.Surrogate`.
    """
    n, sums = len(inputs[0]), list[Tensor]()
    rows = model.rows if isinstance(model, Surrogate) else 0
    together = min(max(rows // max(n, 1), 1), draws)
    for first in range(0, draws, together):
        copies = min(together, draws - first)
        found = look(*(t.repeat(copies, *[1] * (t.ndim - 1)) for t in inputs))
        parts = [part.unflatten(0, (copies, n)).sum(0) for part in found]
        sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else parts
    return [total / draws for total in sums]


def _gradient(value: Tensor, leaf: Tensor) -> Tensor:
    """Zero where ``value`` does not depend on ``leaf`` as far as autograd knows (a detached input, an argmax)."""
    grad = torch.autograd.grad(value, leaf, allow_unused=True)[0] if value.requires_grad else None
    return torch.zeros_like(leaf) if grad is None else grad


class _Best:
    """The best point found for each example: misclassified before not, then the higher objective."""

    def __init__(self, x: Tensor) -> None:
        self.x = x.clone()
        self.value = x.new_full((len(x),), float("-inf"))
        self.fooled = torch.zeros(len(x), dtype=torch.bool, device=x.device)

    def open(self) -> Tensor:
        return (~self.fooled).nonzero().squeeze(1)

    def update(self, index: Tensor | None, x_adv: Tensor, value: Tensor, fooled: Tensor) -> None:
        index = torch.arange(len(x_adv), device=x_adv.device) if index is None else index
        was, had = self.fooled[index], self.value[index]
        better = (fooled & ~was) | ((fooled == was) & (value > had))
        hit = index[better]
        self.x[hit], self.value[hit], self.fooled[hit] = x_adv[better], value[better].to(had), fooled[better]


class _Loop:
    """The iteration itself; with ``best`` it judges every iterate, else it only climbs."""

    def __init__(
        self,
        model: nn.Module,
        threat: Geometry,
        objective: Objective,
        steps: int,
        eot: int,
        best: _Best | None,
        early_exit: bool,
        before_step: BeforeStep | None,
    ) -> None:
        self.model, self.threat, self.objective, self.steps, self.eot = model, threat, objective, steps, eot
        self.best, self.early_exit, self.before_step = best, early_exit, before_step

    def run(
        self, x: Tensor, y: Tensor, target: Tensor, size: float | Tensor, x_adv: Tensor, index: Tensor | None
    ) -> Tensor:
        threat = self.threat
        if index is not None:
            threat, x, y, target, size, x_adv = _take(index, threat, x, y, target, size, x_adv)
        bounds = threat.bounds(x)
        for _ in range(self.steps):
            x_adv = x_adv if self.before_step is None else self.before_step(x_adv, x)
            grad, value, logits = input_gradient(self.model, x_adv, target, self.objective, self.eot)
            if self.best is not None:
                fooled = confirmed(self.model, x_adv, y, logits.argmax(1) != y)
                self.best.update(index, x_adv, value, fooled)
                if self.early_exit and bool(fooled.any()):
                    left = (~fooled).nonzero().squeeze(1)
                    index = left if index is None else index[left]
                    threat, x, y, target, size, x_adv = _take(left, threat, x, y, target, size, x_adv)
                    bounds, grad = threat.bounds(x), grad[left]
                if not len(x):
                    return x_adv
            x_adv = threat.project_(x_adv.add_(threat.steepest(grad).mul_(size)), x, bounds)
        if self.best is not None:
            with torch.no_grad():
                logits = judge_of(self.model)(x_adv)
            self.best.update(index, x_adv, self.objective(logits, target), logits.argmax(1) != y)
        return x_adv


def _take(
    index: Tensor, threat: Geometry, x: Tensor, y: Tensor, target: Tensor, size: float | Tensor, x_adv: Tensor
) -> tuple[Geometry, Tensor, Tensor, Tensor, float | Tensor, Tensor]:
    size = size[index] if isinstance(size, Tensor) else size
    return threat.select(index), x[index], y[index], target[index], size, x_adv[index]


def _reference(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(x)
    return logits


def _start_of(random_start: bool | str) -> str | None:
    if isinstance(random_start, str) and random_start not in STARTS:
        raise ValueError(f"random_start must be True, False or one of {', '.join(STARTS)}; got {random_start!r}")
    return "uniform" if random_start is True else random_start or None


def _check_start(start: Tensor | None, x: Tensor, random_start: bool | str, restarts: int) -> None:
    if start is None:
        return
    if random_start or restarts > 1:
        raise ValueError(
            "start takes the place of the random start: give random_start=False and restarts=1 with it; "
            f"got random_start={random_start!r} and restarts={restarts}"
        )
    if start.shape != x.shape:
        raise ValueError(f"start must have the shape of x, {tuple(x.shape)}; got {tuple(start.shape)}")


def _begin(x: Tensor, threat: Geometry, start: str | None, generator: torch.Generator | None) -> Tensor:
    if start is None:
        return x.clone()
    if start == "uniform":
        return threat.random_start(x, generator)
    noise = drawn_like(x, lambda t: t.normal_(std=GAUSSIAN_START, generator=generator), generator)
    return threat.project_(noise.add_(x), x, threat.bounds(x))


def _step_size(step_size: float | Tensor, x: Tensor) -> float | Tensor:
    if isinstance(step_size, Tensor) and step_size.ndim == 1:
        step_size = per_example(step_size.to(x), x)
    values = torch.as_tensor(step_size)
    if not bool(((values > 0) & values.isfinite()).all()):
        raise ValueError(
            f"step_size must be > 0 and finite (on the scale of the inputs, e.g. 2/255); got {step_size!r}"
        )
    return step_size
