"""`evaluate`: clean and robust accuracy of a defended classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.evaluation.prepare import check_options, prepare
from art_ext.evaluation.progress import ProgressBar
from art_ext.evaluation.report import AttackResult, RobustnessReport, environment
from art_ext.evaluation.runner import Bench, Outcome, run_attack
from art_ext.evaluation.suites import Attack, Setting, build_suite
from art_ext.isolation import derive_seed, keeping_gradients, seeded
from art_ext.model import evaluating, frozen
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

RANDOMISED_EOT = 20  # draws per gradient against a randomised defense (AutoAttack's version "rand")


def evaluate(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    suite: str | Sequence[Any] = "fast",
    eot: int | str = "auto",
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> RobustnessReport:
    """Attack a classifier with a suite of attacks and report the accuracy that is left.

    The whole defense is attacked and judged: preprocessors and network (`DefendedModel`), in eval mode. Attacks run on
    the correctly classified examples; a misclassified one counts as broken by every attack. Robust accuracy is the
    per-example worst case: an example survives when no attack broke it.

    What an attack returns is not taken on trust. An example with NaN or infinity counts as a failure of the attack
    (``n_failed``), one outside the threat model is projected onto it before it is judged (``n_projected``): a
    minimum-norm attack such as CW gets credit for exactly what fits into the ball. An attack that raises, or returns
    another shape, is named in the report (``error``) with a warning, and the evaluation goes on without it.

    Modes, ``requires_grad`` and ``.grad`` of the model and the global random generators are afterwards as before.
    The same seed gives the same report on the CPU, and each attack the same result whatever else is in the suite.

    Args:
        classifier: an ART `PyTorchClassifier`, or a module from inputs to logits.
        x: inputs (N, C, H, W) or (N, D), float32 within ``threat.clip``; float64 is converted; not modified.
        y: integer labels (N,) or one-hot (N, classes).
        threat: norm, ε (finite; one number or one per example) and valid range.
        suite: ``"fast"`` (native, seconds to minutes), ``"standard"`` (AutoAttack; extra ``autoattack``), the name of
            one attack (``"pgd-20"``), or a list of names, native attacks, ART `EvasionAttack`s and (label, attack)
            pairs. ART attacks run once over all examples with their own ε and batch size.
        eot: draws whose gradients native attacks average; ``"auto"``: 20 where two passes over a batch disagree
            (randomised output), else 1. ART attacks do not average; one draw judges.
        batch_size: examples per pass, of native attacks and of the judge.
        seed: of all random choices.
        progress: show a progress bar with the attack and the accuracy so far.

    Raises:
        TypeError: an argument of the wrong kind, e.g. uint8 images or a torch tensor.
        ValueError: an argument out of its range, inputs that the model does not take, a name not known.
        ImportError: ``"standard"`` without the library it needs; the message says what to install.

    Example:
        >>> import numpy as np
        >>> net = nn.Linear(2, 2)
        >>> _ = net.weight.data.copy_(torch.eye(2)), net.bias.data.zero_()
        >>> x, y = np.array([[0.9, 0.1], [0.55, 0.5]], np.float32), np.array([0, 0])
        >>> report = evaluate(net, x, y, threat=ThreatModel("linf", 0.1), progress=False)
        >>> report.clean_accuracy, report.robust_accuracy, report.survivors.tolist()
        (1.0, 0.5, [True, False])
    """
    check_options(threat=threat, eot=eot, batch_size=batch_size, seed=seed)
    classifier, model, images, labels = prepare(classifier, x, y, threat)
    attacks = build_suite(suite, Setting(classifier, threat, batch_size, seed))
    bench = Bench(classifier, model, torch.from_numpy(images), torch.from_numpy(labels), threat, batch_size, 1, seed)
    with evaluating(model), frozen(model), keeping_gradients(model):
        randomised, correct = _look(bench)
        draws = int(eot) if eot != "auto" else RANDOMISED_EOT if randomised else 1
        outcomes = _run(attacks, replace(bench, eot=draws).take(correct), len(images), show=progress)
    return RobustnessReport(
        clean_accuracy=correct.sum().item() / len(images),
        survivors=_worst_case(correct, outcomes),
        attacks={label: _result(outcome, len(images)) for label, outcome in outcomes.items()},
        threat=threat,
        suite=suite if isinstance(suite, str) else "custom",
        seed=int(seed),
        eot=draws,
        randomised=randomised,
        **environment(model),
    )


def _look(bench: Bench) -> tuple[bool, Tensor]:
    """Whether the output is random, and which examples (N,) are classified correctly."""
    first = bench.x[: bench.batch_size].to(bench.model.device)
    with seeded(derive_seed(bench.seed, "clean")), torch.no_grad():
        one, two = bench.model(first), bench.model(first)
        predicted = torch.cat([bench.judge(bench.x[index]) for index in bench.batches()])
    # the distance between the logits of two passes, as in auto-attack's own checks (1e-4), relative for large logits
    distance = torch.linalg.vector_norm(one - two, dim=1)
    limit = 1e-4 * torch.linalg.vector_norm(one, dim=1).clamp(min=1)
    return bool((distance > limit).any()), predicted == bench.y


def _run(attacks: dict[str, Attack], bench: Bench, total: int, *, show: bool) -> dict[str, Outcome]:
    outcomes = {}
    with ProgressBar(len(attacks), len(bench.x), total, show=show) as bar:
        for label, attack in attacks.items():
            bar.begin(label)
            outcomes[label] = run_attack(label, attack, bench, bar.advance)
    return outcomes


def _result(outcome: Outcome, n_examples: int) -> AttackResult:
    attacked, cost = max(len(outcome.survivors), 1), outcome.cost
    return AttackResult(
        accuracy=None if outcome.error else outcome.survivors.sum().item() / n_examples,
        seconds=cost.seconds,
        forwards=cost.forwards / attacked,
        backwards=cost.backwards / attacked,
        n_failed=outcome.n_failed,
        n_projected=outcome.n_projected,
        error=outcome.error,
    )


def _worst_case(correct: Tensor, outcomes: dict[str, Outcome]) -> Tensor:
    survivors = correct.clone()
    for outcome in outcomes.values():
        survivors[correct] &= outcome.survivors
    return survivors
