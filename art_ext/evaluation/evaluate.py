"""`evaluate`: clean and robust accuracy of a defended classifier."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.bpda import declared
from art_ext.evaluation.adaptive import default_suite
from art_ext.evaluation.adaptive.randomness import Averaged
from art_ext.evaluation.bench import (
    JUDGING_DRAWS,
    Bench,
    drawing_at_once,
    draws_apart,
    in_precision,
    is_random,
    listed,
)
from art_ext.evaluation.case import Case, chosen
from art_ext.evaluation.draws import enumerating
from art_ext.evaluation.escalation import escalation
from art_ext.evaluation.indicators import measure, out_of_time
from art_ext.evaluation.journal import Journal, weights_of
from art_ext.evaluation.native import NativeAttack
from art_ext.evaluation.prepare import check_extent, check_options, check_sources, prepare
from art_ext.evaluation.report import RobustnessReport, environment, versions
from art_ext.evaluation.runner import majority
from art_ext.evaluation.session import Session, deadline_in
from art_ext.evaluation.suites import RANDOMIZED, Attack, Setting, build_suite, is_cascade, unused
from art_ext.evaluation.trials import Trial, broken_by, result_of, run_all, survival_of, worst_case
from art_ext.evaluation.verdict import Indicator
from art_ext.isolation import fingerprint, keeping_gradients
from art_ext.model import evaluating, frozen
from art_ext.naming import described
from art_ext.processes import Processes
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

RANDOMISED_EOT = 20  # draws per gradient against a randomised defense (AutoAttack's version "rand")


def evaluate(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    suite: str | Sequence[Any] | None = None,
    eot: int | str = "auto",
    batch_size: int = 128,
    seed: int = 0,
    precision: str = "auto",
    indicators: bool = True,
    escalate: bool = False,
    sources: Sequence[nn.Module] = (),
    n_examples: int | None = None,
    time_budget: float | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> RobustnessReport:
    """Attack a classifier with a suite of attacks and report the accuracy that is left.

    The whole defense is attacked and judged: preprocessors and network (`DefendedModel`), in eval mode. Attacks run on
    the correctly classified examples; a misclassified one counts as broken by every attack. Robust accuracy is the
    per-example worst case: an example survives when no attack broke it. A randomised defense (two passes disagree) is
    judged by 20 fresh passes; each example counts with the share of them that is right, in the worst of the attacks.
    Where its random choices can be listed (`FiniteRandomness`), gradients and judgement take all of them instead.

    What an attack returns is not taken on trust. An example with NaN or infinity counts as a failure of the attack
    (``n_failed``), one outside the threat model is projected onto it before it is judged (``n_projected``): a
    minimum-norm attack such as CW gets credit for exactly what fits into the ball. An attack that raises, or returns
    another shape, is named in the report (``error``) with a warning, and the evaluation goes on without it.

    Modes, ``requires_grad`` and ``.grad`` of the model and the global random generators are afterwards as before.
    The same seed gives the same report on the CPU, and each attack the same result whatever else is in the suite, but
    for the suites ``standard`` and ``exhaustive``, where each attack gets what the earlier ones left.

    Under ``torchrun`` or ``accelerate launch`` the processes deal out the batches among each other; each of them calls
    `evaluate` with the same arguments (and its own device) and gets the whole report, the same as one process alone
    makes, except that an ART attack with random choices makes others. A batch that does not fit into memory is done in
    halves, with a warning.

    Args:
        classifier: an ART `PyTorchClassifier`, or a module from inputs to logits.
        x: inputs (N, C, H, W) or (N, D), float32 within ``threat.clip``; float64 is converted; not modified.
        y: integer labels (N,) or one-hot (N, classes).
        threat: norm, ε (finite; one number or one per example) and valid range.
        suite: None for ``"fast"`` and what the defenses inside have to face: the adaptive suites of ours
            (`art_ext.preprocessors`, `art_ext.nn.soft_vote.SoftVote`) and of any module or preprocessor with a method
            ``adaptive_suite(threat)``. Else exactly what is given: ``"fast"`` (seconds to minutes), ``"standard"``
            (AutoAttack's parts, native), ``"autoattack"`` (the genuine one; extra ``autoattack``), ``"randomized"``,
            ``"exhaustive"``, the name of one attack (``"apgd-t"``), or a list of names, native attacks, ART
            `EvasionAttack`s and (label, attack) pairs. ART attacks run once over all examples with their own ε and
            batch size.
        eot: draws whose gradients native attacks average; ``"auto"``: 20 where two passes over a batch disagree
            (randomised output), or all outcomes that can be listed, else 1. ART attacks do not average.
        batch_size: examples per pass, of native attacks and of the judge.
        seed: of all random choices.
        precision: of the gradients of native attacks, ``"auto"`` (bf16 where the hardware has it), ``"bf16"`` or
            ``"fp32"``. Every success is confirmed by the undisturbed model, in any case.
        indicators: measure the signs of masked gradients on a few examples after the attacks (`art_ext.evaluation.
            indicators`); they make the report's verdict.
        escalate: where something is flagged, also run what the indicators propose on the examples that are left:
            attacks through the undefended twin, on smoothed gradients, in float64, black-box. The lower number counts.
        sources: further models (inputs to logits) that an escalation attacks through.
        n_examples: attack the first so many of ``x`` only.
        time_budget: in seconds, from the call on: after it no batch of an attack begins (one of ART's is a single
            batch). The report says which examples and attacks are left over, and its verdict is at best "suspect".
        resume: a folder that keeps each finished batch; after a kill, or when the time was up, the same call goes on
            from there and gives the same report.
        progress: show a progress bar with the attack and the accuracy so far.

    Raises:
        TypeError: an argument of the wrong kind, e.g. uint8 images or a torch tensor.
        ValueError: an argument out of its range, inputs that the model does not take, a name not known, a folder with
            another evaluation's batches.
        OSError: ``resume`` cannot be read or written.
        ImportError: ``"autoattack"`` without the library it needs; the message says what to install.

    Example:
        >>> import numpy as np
        >>> net = nn.Linear(2, 2)
        >>> _ = net.weight.data.copy_(torch.eye(2)), net.bias.data.zero_()
        >>> x, y = np.array([[0.9, 0.1], [0.55, 0.5]], np.float32), np.array([0, 0])
        >>> report = evaluate(net, x, y, threat=ThreatModel("linf", 0.1), progress=False)
        >>> report.clean_accuracy, report.robust_accuracy, report.survivors.tolist()
        (1.0, 0.5, [True, False])
    """
    check_options(threat=threat, eot=eot, batch_size=batch_size, seed=seed, precision=precision)
    check_extent(n_examples=n_examples, time_budget=time_budget)
    check_sources(sources)
    deadline = deadline_in(time_budget)
    bench = Bench.of(prepare(classifier, x, y, threat), threat, batch_size, seed)
    bench = bench.take(bench.rows[:n_examples])
    model = bench.model
    told, suite = (
        default_suite(model, threat) if suite is None else (suite if isinstance(suite, str) else "custom", suite)
    )
    attacks = build_suite(suite, Setting(bench.classifier, bench.threat, batch_size, seed))
    processes = Processes.launched()
    with evaluating(model), frozen(model), keeping_gradients(model):
        outcomes, draws, needed = processes.agree(_draws(bench))
        randomised = draws > 1
        bench = replace(bench, eot=needed if eot == "auto" else int(eot), draws=draws, outcomes=outcomes)
        clean = processes.agree(bench.predict("clean"))
        attacked = majority(clean == bench.y).nonzero().squeeze(1)
        fast = in_precision(bench, precision)
        identity = _identity(fast, attacks, sources, clean) if resume else {}
        session = Session(
            journal=Journal(resume, identity, processes.rank),
            processes=processes,
            deadline=deadline,
            show=progress and processes.rank == 0,
        )
        if randomised and outcomes == 1 and bench.eot > 1 and processes.agree(draws_apart(bench)):
            fast = drawing_at_once(fast)
        cascade = is_cascade(suite)
        trials = run_all(attacks, fast, attacked, session, cascade=cascade)
        signs: tuple[Indicator, ...] = ()
        if indicators or escalate:
            averaged = not randomised or (bench.eot >= needed and set(RANDOMIZED) <= _covered(attacks))
            single = frozenset() if cascade else frozenset(k for k, a in attacks.items() if getattr(a, "steps", 0) == 1)
            signs = processes.agree(_signs(fast, clean, attacked, single, trials, randomised, averaged))
        if escalate:
            extra = _labelled(escalation(model, bench.tried(), signs, sources=sources), trials)
            left = attacked[survival_of(worst_case(clean, bench.y, trials), bench.y, attacked)[attacked] > 0]
            trials |= run_all(extra, bench, left, session, cascade=True)
    worst = worst_case(clean, bench.y, trials)
    survival = survival_of(worst, bench.y, attacked)
    return RobustnessReport(
        clean_accuracy=_mean(clean == bench.y),
        survivors=survival > 0.5,
        survival=survival if randomised else None,
        attacks={label: result_of(trial, bench) for label, trial in trials.items()},
        threat=bench.threat,
        suite=told,
        seed=int(seed),
        eot=bench.eot,
        randomised=randomised,
        outcomes=outcomes,
        bpda=declared(model),
        labels=bench.y,
        clean_predictions=clean[0],
        predictions=worst[0],
        indicators=(*signs, *out_of_time(trials)),
        **environment(model),
    )


def _draws(bench: Bench) -> tuple[int, int, int]:
    """How many outcomes the model's random choices have, how many draws judge it, and how many a gradient needs."""
    outcomes = listed(bench)
    if outcomes > 1:
        return outcomes, outcomes, outcomes
    return (1, JUDGING_DRAWS, RANDOMISED_EOT) if is_random(bench) else (1, 1, 1)


def _covered(attacks: dict[str, Attack]) -> set[str]:
    """Labels of the attacks, and the names of those that others are averages of."""
    return set(attacks) | {attack.attack.name for attack in attacks.values() if isinstance(attack, Averaged)}


def _identity(bench: Bench, attacks: dict[str, Attack], sources: Sequence[nn.Module], clean: Tensor) -> dict[str, Any]:
    """What must be the same for finished batches to count."""
    eps = torch.as_tensor(bench.threat.eps).tolist()
    return {
        "model": described(bench.model),
        "weights": weights_of(bench.model),
        "clean predictions": fingerprint(clean),  # of what neither weights nor a description tell
        "sources": [weights_of(source) for source in sources],
        "x": fingerprint(bench.x),
        "y": fingerprint(bench.y),
        "threat": json.dumps([bench.threat.norm, eps, bench.threat.clip]),
        "suite": {label: described(attack) for label, attack in attacks.items()},
        "batch_size": bench.batch_size,
        "eot": bench.eot,
        "seed": int(bench.seed),
        "precision": "fp32" if bench.attacked is None else "bf16",
        "versions": versions(),
    }


def _labelled(extra: Sequence[NativeAttack], taken: Collection[str]) -> dict[str, Attack]:
    """The attacks of an escalation by label, told apart from those of the suite and from each other."""
    labelled: dict[str, Attack] = {}
    for attack in extra:
        labelled[unused(f"escalated: {attack.name}", {*taken, *labelled})] = attack
    return labelled


def _signs(
    bench: Bench,
    clean: Tensor,
    attacked: Tensor,
    single: frozenset[str],
    trials: dict[str, Trial],
    randomised: bool,
    averaged: bool,
) -> tuple[Indicator, ...]:
    """The indicators, measured on the first examples that were attacked and on the first that survived."""
    survival = survival_of(worst_case(clean, bench.y, trials), bench.y, attacked)
    index = chosen(attacked, attacked[survival[attacked] > 0.5])
    device = bench.model.device
    whole = {label: trial for label, trial in trials.items() if not (trial.outcome.error or trial.outcome.n_missed)}
    with enumerating(bench.model) if bench.outcomes > 1 else nullcontext():
        return measure(
            Case(
                model=bench.model,
                attacked=bench.attacked or bench.model,
                x=bench.x[index].to(device),
                y=bench.y[index].to(device),
                threat=bench.threat.select(index),
                left=(survival[index] > 0.5).to(device),
                broken={label: broken_by(trial) for label, trial in whole.items()},
                single=single,
                n=len(bench.x),
                randomised=randomised,
                averaged=averaged,
                seed=bench.seed,
                most=bench.batch_size,
            )
        )


def _mean(correct: Tensor) -> float:
    return correct.sum().item() / correct.numel()
