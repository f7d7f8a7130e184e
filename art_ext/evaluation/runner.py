"""Running one attack: its examples are made, inspected, and judged by the whole defense."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from art.attacks.attack import EvasionAttack
from torch import Tensor, nn

from art_ext.evaluation.bench import Bench
from art_ext.evaluation.cost import Cost, counting
from art_ext.evaluation.draws import enumerating
from art_ext.evaluation.journal import JournalError, Piece
from art_ext.evaluation.memory import in_halves, out_of_memory
from art_ext.evaluation.native import PGDAttack
from art_ext.evaluation.session import Session
from art_ext.evaluation.suites import Attack
from art_ext.isolation import derive_seed, seeded
from art_ext.model import Surrogate
from art_ext.processes import Processes
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
    n_missed: int = 0
    error: str | None = None

    @classmethod
    def untouched(cls, bench: Bench) -> Outcome:
        """Of an attack that has not begun."""
        return cls(bench.y.repeat(bench.draws, 1), bench.y)

    @property
    def correct(self) -> Tensor:
        """Which examples are classified correctly in which draw, (draws, N) bool."""
        return self.predictions == self.y

    def add(self, index: Tensor, piece: Piece) -> None:
        """Take over what was done to the examples ``index``."""
        self.predictions[:, index] = torch.tensor(piece.predictions)
        self.cost.seconds += piece.seconds
        self.cost.forwards += piece.forwards
        self.cost.backwards += piece.backwards
        self.n_failed += piece.n_failed
        self.n_projected += piece.n_projected


@dataclass
class _Share:
    """What this process did of an attack: pieces with the rows of the bench that they are of."""

    pieces: list[tuple[list[int], Piece]] = field(default_factory=list)
    n_missed: int = 0
    error: str | None = None


def run_attack(
    label: str, attack: Attack, bench: Bench, session: Session, advance: Callable[[int, int], None]
) -> Outcome:
    """Attack every example of ``bench``, in this process and those beside it.

    Args:
        label: the attack's name, which also selects its random numbers.
        attack: a native attack or an ART `EvasionAttack`.
        bench: the examples, all of them classified correctly.
        session: what was done before, who shares the work, and when to stop.
        advance: called after each batch with the number of examples done and of those that fell in it.

    Returns:
        What was predicted and what it cost. An attack that raised has ``error`` set and broke nothing; one that ran
        out of time has examples left over (``n_missed``).
    """
    share = _Share()
    try:
        for index in _batches(attack, bench, session.processes):
            in_halves(partial(_work, label, attack, bench, session, advance, share), index)
    except JournalError:
        raise
    except Exception as error:  # foreign code may raise anything; one broken attack must not cost the others' results
        logger.debug("attack %s failed", label, exc_info=True)
        share.error = f"{type(error).__name__}: {error}"
    outcome, shares = Outcome.untouched(bench), session.processes.gather(share)
    for rows, piece in [pair for s in shares for pair in s.pieces]:
        outcome.add(torch.tensor(rows), piece)
    outcome.n_missed = sum(s.n_missed for s in shares)
    failures = [s.error for s in shares if s.error]
    if not failures:
        return outcome
    told = f"attack {label!r} failed and is not in the worst case: {failures[0]}"
    warnings.warn(told, AttackFailedWarning, stacklevel=4)
    return replace(Outcome.untouched(bench), cost=outcome.cost, error=failures[0])


def _batches(attack: Attack, bench: Bench, processes: Processes) -> Iterator[Tensor]:
    """The share of this process. ART's attacks get all of it at once, as their users call them."""
    every = torch.arange(len(bench.x))
    foreign = isinstance(attack, EvasionAttack)
    batches = every.tensor_split(processes.count) if foreign else every.split(bench.batch_size)
    yield from (index for index in batches[processes.rank :: processes.count] if len(index))


def _work(
    label: str,
    attack: Attack,
    bench: Bench,
    session: Session,
    advance: Callable[[int, int], None],
    share: _Share,
    index: Tensor,
) -> None:
    """One batch: as it was kept, or attacked now, or left over for lack of time."""
    rows = bench.rows[index].tolist()
    piece = session.journal.find(label, rows)
    if piece is None and session.out_of_time():
        share.n_missed += len(index)
        return
    if piece is None:
        piece = _attack_batch(label, attack, bench.take(index))
        session.journal.keep(label, piece)
    share.pieces.append((index.tolist(), piece))
    left = majority(torch.tensor(piece.predictions) == bench.y[index])
    advance(len(index), len(index) - int(left.sum()))


def _attack_batch(label: str, attack: Attack, bench: Bench) -> Piece:
    """Attack all of ``bench`` and judge it; the random numbers are those of the attack and the first example."""
    seed, cost = derive_seed(bench.seed, f"{label} {int(bench.rows[0])}"), Cost()
    make = _generate if isinstance(attack, EvasionAttack) else _run
    with seeded(seed):
        with enumerating(bench.model) if bench.outcomes > 1 else nullcontext():
            x_adv, failed, projected = make(attack, bench, cost)
        checked, replaced, outside = inspect(x_adv, bench.x.to(x_adv.device), bench.threat)
        predictions = bench.judge(checked)
    return Piece(
        rows=bench.rows.tolist(),
        predictions=predictions.tolist(),
        seconds=cost.seconds,
        forwards=cost.forwards,
        backwards=cost.backwards,
        n_failed=failed + replaced,
        n_projected=projected + outside,
    )


def majority(correct: Tensor) -> Tensor:
    """Which examples (N,) are right in more than half of the draws (draws, N)."""
    return correct.float().mean(0) > 0.5


def _run(attack: Any, bench: Bench, cost: Cost) -> tuple[Tensor, int, int]:
    """The examples of a native attack, which have no failures and projections of their own."""
    device = bench.model.device
    # not the numbers that the defense draws from the global generator
    seed = int(torch.randint(2**32, ()))
    fast = bench.attacked if getattr(attack, "confirms", False) else None
    model: nn.Module = bench.model if fast is None else fast
    if bench.draws > 1 and isinstance(attack, PGDAttack):
        attack = replace(attack, early_exit=False)  # whatever eot is: fresh draws judge, not the one that it stopped at
    x, y = bench.x.to(device), bench.y.to(device)
    with counting(bench.classifier.model, cost, also=() if bench.copy is None else (bench.copy,)):
        try:
            x_adv = attack.run(model, x, y, threat=bench.threat, eot=bench.eot, generator=_generator(device, seed))
        except RuntimeError as error:
            if fast is None or not fast.rows or not out_of_memory(error):
                raise
            model = Surrogate(fast.fast, fast.exact)  # one draw in each pass
            x_adv = attack.run(model, x, y, threat=bench.threat, eot=bench.eot, generator=_generator(device, seed))
    return _as_examples(x_adv, bench.x), 0, 0


def _generator(device: torch.device, seed: int) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed)


def _generate(attack: EvasionAttack, bench: Bench, cost: Cost) -> tuple[Tensor, int, int]:
    """The examples of one of ART's, which has its own batch size; adapters repair and count theirs themselves."""
    one_hot = np.eye(bench.classifier.nb_classes, dtype=np.float32)[bench.y.numpy()]
    with counting(bench.classifier.model, cost), torch.enable_grad():
        x_adv = attack.generate(x=bench.x.numpy().copy(), y=one_hot)
    return _as_examples(x_adv, bench.x), _count(attack, "n_failed"), _count(attack, "n_projected")


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
