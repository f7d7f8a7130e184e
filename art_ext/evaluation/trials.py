"""All attacks of a suite, one after the other, and what is left in the worst case."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.evaluation.bench import Bench
from art_ext.evaluation.progress import ProgressBar
from art_ext.evaluation.report import AttackResult
from art_ext.evaluation.runner import Outcome, majority, run_attack
from art_ext.evaluation.session import Session
from art_ext.evaluation.suites import Attack


@dataclass(frozen=True)
class Trial:
    """An attack's outcome on the examples ``index`` of all."""

    index: Tensor
    outcome: Outcome


def run_all(
    attacks: dict[str, Attack], bench: Bench, index: Tensor, session: Session, *, cascade: bool
) -> dict[str, Trial]:
    """Every attack on the examples ``index``, in a cascade on those that withstood the attacks before."""
    trials = {}
    with ProgressBar(len(attacks), len(index), len(bench.x), show=session.show) as bar:
        for label, attack in attacks.items():
            bar.begin(label, len(index))
            outcome = run_attack(label, attack, bench.take(index), session, bar.advance)
            trials[label] = Trial(index, outcome)
            if cascade:
                index = index[outcome.correct.any(0)]
    return trials


def broken_by(trial: Trial) -> set[int]:
    """The examples that it broke, as indices among all."""
    return set(trial.index[~majority(trial.outcome.correct)].tolist())


def result_of(trial: Trial, bench: Bench) -> AttackResult:
    """The line of the report."""
    outcome, cost, attacked = trial.outcome, trial.outcome.cost, max(len(trial.index), 1)
    shares = outcome.correct.sum(1).double() / len(bench.x)
    ran = outcome.error is None and not 0 < len(trial.index) == outcome.n_missed
    return AttackResult(
        accuracy=shares.mean().item() if ran else None,
        std=shares.std().item() if ran and len(shares) > 1 else None,
        seconds=cost.seconds,
        forwards=cost.forwards / attacked,
        backwards=cost.backwards / attacked,
        n_failed=outcome.n_failed,
        n_projected=outcome.n_projected,
        n_missed=outcome.n_missed,
        error=outcome.error,
        n_attacked=len(trial.index),
    )


def worst_case(clean: Tensor, y: Tensor, trials: dict[str, Trial]) -> Tensor:
    """Predicted labels (draws, N) under the attack that leaves an example least often right; clean where none helps."""
    worst, best_share = clean.clone(), (clean == y).float().mean(0)
    for trial in trials.values():
        share = trial.outcome.correct.float().mean(0)
        lower = share < best_share[trial.index]
        hit = trial.index[lower]
        worst[:, hit], best_share[hit] = trial.outcome.predictions[:, lower], share[lower]
    return worst


def survival_of(worst: Tensor, y: Tensor, attacked: Tensor) -> Tensor:
    """Share of the draws in which an example is right in the worst case, (N,); 0 for those misclassified anyway."""
    survival = torch.zeros(len(y))
    survival[attacked] = (worst == y).float().mean(0)[attacked]
    return survival
