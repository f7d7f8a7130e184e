"""Running one attack: its examples are made, inspected, and judged by the whole defense."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from torch import Tensor

from art_ext.evaluation.bench import Bench
from art_ext.evaluation.cost import Cost, counting
from art_ext.evaluation.suites import Attack
from art_ext.isolation import derive_seed, seeded
from art_ext.threat import ThreatModel, per_example

logger = logging.getLogger(__name__)
TOLERANCE = 1e-5  # what float32 arithmetic may put an example outside the ball


class AttackFailedWarning(UserWarning):
    """An attack raised, or returned something that is no set of examples: it is missing from the worst case."""


@dataclass
class Outcome:
    """What one attack did to the N examples of its bench: the predicted labels in each draw (draws, N)."""

    predictions: Tensor
    y: Tensor
    cost: Cost = field(default_factory=Cost)
    n_failed: int = 0
    n_projected: int = 0
    error: str | None = None

    @property
    def correct(self) -> Tensor:
        """Which examples are classified correctly in which draw, (draws, N) bool."""
        return self.predictions == self.y


def run_attack(label: str, attack: Attack, bench: Bench, advance: Callable[[int, int], None]) -> Outcome:
    """Attack every example of ``bench``.

    Args:
        label: the attack's name, which also selects its random numbers.
        attack: a native attack or an ART `EvasionAttack`.
        bench: the examples, all of them classified correctly.
        advance: called after each batch with the number of examples done and of those that fell in it.

    Returns:
        What was predicted and what it cost. An attack that raised has ``error`` set and broke nothing.
    """
    outcome = Outcome(bench.y.repeat(bench.draws, 1), bench.y)
    if not len(bench.x):
        return outcome
    try:
        with seeded(derive_seed(bench.seed, label)):
            for index, x_adv in _examples(label, attack, bench, outcome):
                checked, failed, projected = inspect(x_adv, bench.x[index].to(x_adv.device), bench.threat.select(index))
                outcome.predictions[:, index] = bench.judge(checked)
                outcome.n_failed += failed
                outcome.n_projected += projected
                advance(len(index), len(index) - int(majority(outcome.correct[:, index]).sum()))
    except Exception as error:  # foreign code may raise anything; one broken attack must not cost the others' results
        logger.debug("attack %s failed", label, exc_info=True)
        text = f"{type(error).__name__}: {error}"
        told = f"attack {label!r} failed and is not in the worst case: {text}"
        warnings.warn(told, AttackFailedWarning, stacklevel=4)
        return Outcome(bench.y.repeat(bench.draws, 1), bench.y, outcome.cost, error=text)
    return outcome


def majority(correct: Tensor) -> Tensor:
    """Which examples (N,) are right in more than half of the draws (draws, N)."""
    return correct.float().mean(0) > 0.5


def _examples(label: str, attack: Attack, bench: Bench, outcome: Outcome) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of indices and adversarial examples."""
    if isinstance(attack, EvasionAttack):
        x_adv = _generate(attack, bench, outcome)
        yield from ((index, x_adv[index]) for index in bench.batches())
        return
    device = bench.model.device
    generator = torch.Generator(device).manual_seed(derive_seed(bench.seed, label))
    model = bench.attacked if bench.attacked is not None and getattr(attack, "confirms", False) else bench.model
    copies = () if bench.copy is None else (bench.copy,)
    for index in bench.batches():
        x, y, threat = bench.x[index].to(device), bench.y[index].to(device), bench.threat.select(index)
        with counting(bench.classifier.model, outcome.cost, also=copies):
            x_adv = attack.run(model, x, y, threat=threat, eot=bench.eot, generator=generator)
        yield index, _as_examples(x_adv, bench.x[index])


def _generate(attack: EvasionAttack, bench: Bench, outcome: Outcome) -> Tensor:
    """One call for all examples, as ART's users make it: the attack has its own batch size and own progress bar."""
    one_hot = np.eye(bench.classifier.nb_classes, dtype=np.float32)[bench.y.numpy()]
    with counting(bench.classifier.model, outcome.cost), torch.enable_grad():
        x_adv = attack.generate(x=bench.x.numpy().copy(), y=one_hot)
    # the adapters repair their own examples, and count them
    outcome.n_failed += _count(attack, "n_failed")
    outcome.n_projected += _count(attack, "n_projected")
    return _as_examples(x_adv, bench.x)


def _count(attack: Any, name: str) -> int:
    value = getattr(attack, name, 0)
    return value if isinstance(value, int) else 0


def _as_examples(x_adv: Any, like: Tensor) -> Tensor:
    if not isinstance(x_adv, Tensor | np.ndarray):
        raise TypeError(f"the attack returned {type(x_adv).__name__}, not an array of examples")
    examples = torch.as_tensor(x_adv).detach()
    if examples.shape != like.shape:
        raise ValueError(f"the attack returned shape {tuple(examples.shape)} for examples of shape {tuple(like.shape)}")
    if not examples.is_floating_point():
        raise TypeError(f"the attack returned {examples.dtype}, not floating point")
    return examples.to(like.dtype)


def inspect(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> tuple[Tensor, int, int]:
    """Examples that may be judged: non-finite ones are replaced by ``x``, those outside the threat model projected.

    Returns:
        The examples, how many were replaced, and how many projected (beyond a tolerance of 1e-5).

    Example:
        >>> x_adv, x = torch.tensor([[0.5], [float("nan")], [0.9]]), torch.full((3, 1), 0.5)
        >>> checked, n_failed, n_projected = inspect(x_adv, x, ThreatModel("linf", 0.25))
        >>> checked.squeeze(1).tolist(), n_failed, n_projected
        ([0.5, 0.5, 0.75], 1, 1)
    """
    finite = x_adv.flatten(1).isfinite().all(1)
    checked = torch.where(per_example(finite, x), x_adv, x)
    outside = ~_allowed(checked, x, threat)
    checked[outside] = threat.select(outside).project(checked[outside], x[outside])
    return checked, int((~finite).sum()), int(outside.sum())


def _allowed(x_adv: Tensor, x: Tensor, threat: ThreatModel) -> Tensor:
    radius = threat.eps if isinstance(threat.eps, float) else threat.eps.to(x)
    inside = threat.distance(x_adv, x) <= radius + TOLERANCE
    if threat.clip is not None:
        low, high = threat.clip
        inside &= ((x_adv >= low - TOLERANCE) & (x_adv <= high + TOLERANCE)).flatten(1).all(1)
    return inside
