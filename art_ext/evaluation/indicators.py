"""The signs of masked gradients, measured on a few examples after the attacks of a suite.

Each check is a function of a `Case` that returns an `Indicator`; `CHECKS` is the list, and anyone can extend it.
Thresholds come from the source that each names; "our decision" are those that no paper gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from math import comb

import torch
from torch import Tensor, nn

from art_ext.attacks import OBJECTIVES, pgd, square
from art_ext.attacks.pgd import input_gradient
from art_ext.evaluation.case import PROBED, SURVIVORS, Case
from art_ext.evaluation.probes import autograd_calls, pgd_values, smoothed_pgd
from art_ext.evaluation.trials import Trial
from art_ext.evaluation.verdict import Indicator
from art_ext.isolation import derive_seed, seeded
from art_ext.threat import ThreatModel

CROCE = "Croce and Hein 2020, checks of auto-attack"
CARLINI = "Carlini et al. 2019, On Evaluating Adversarial Robustness"
PINTOR = "Pintor et al. 2022, Indicators of Attack Failure"
ATHALYE = "Athalye et al. 2018, Obfuscated Gradients"
OURS = "our decision"
BROKEN, SUSPECT = "broken evaluation", "suspect"
CHANCE = 0.05  # level of the test that a share exceeds its threshold, on the few examples that are looked at

Check = Callable[[Case], Indicator | tuple[Indicator, ...]]


def measure(case: Case) -> tuple[Indicator, ...]:
    """All indicators; one that cannot be measured has no value and is not flagged. None at all without an example."""
    if not len(case.x):
        return ()
    found: list[Indicator] = []
    for check in CHECKS:
        with seeded(derive_seed(case.seed, check.__name__)):
            signs = check(case)
        found += signs if isinstance(signs, tuple) else (signs,)
    return tuple(found)


def randomised_output(case: Case) -> Indicator:
    """Two passes over the same batch disagree, and the attacks did not average enough of them."""
    return Indicator(
        name="randomised output",
        value=float(case.randomised),
        threshold=0.0,
        flagged=case.randomised and not case.averaged,
        severity=SUSPECT,
        source=CROCE,
        explanation="two passes over the same images disagree: attacks must average gradients over draws (EOT)",
        proposal="suite 'randomized': every attack averages 20 draws, and fresh draws judge",
    )


def optimisation_at_test_time(case: Case) -> Indicator:
    """The model itself takes gradients when it predicts."""
    x, _, _ = case.first(1)
    calls = autograd_calls(case.model, x)
    return Indicator(
        name="optimisation at test time",
        value=float(calls),
        threshold=0.0,
        flagged=calls > 0,
        severity=SUSPECT,
        source=CROCE,
        explanation="calls of autograd inside the forward pass: an attack does not differentiate through them",
        proposal="attack the network without the inner optimisation and transfer (escalate=True)",
    )


def probabilities(case: Case) -> Indicator:
    """The outputs are probabilities, so cross entropy takes a softmax of a softmax."""
    x, _, _ = case.first(PROBED)
    with torch.no_grad():
        out = case.model(x)
    like = (out >= 0).all(1) & ((out.sum(1) - 1).abs() < 1e-3)
    share = like.float().mean().item()
    return Indicator(
        name="probabilities for logits",
        value=share,
        threshold=0.5,
        flagged=share > 0.5,
        severity=SUSPECT,
        source=CROCE,
        explanation="share of outputs that are non-negative and sum to 1: a second softmax flattens the gradients",
        proposal="remove the softmax from the network; the margin objective does not mind it",
    )


def gradients_of_the_margin(case: Case) -> tuple[Indicator, Indicator]:
    """The margin has no gradient with respect to the input, or no finite one, or only in a few elements."""
    share, pixels = _dead(case, "margin")
    return (
        Indicator(
            name="zero gradients",
            value=share,
            threshold=0.05,
            flagged=share > 0.05,
            severity=BROKEN,
            source=f"{ATHALYE}; threshold {OURS}",
            explanation="share of examples whose margin has a zero, NaN or infinite input gradient",
            proposal="declare a BPDA gradient, or attack black-box and by transfer (escalate=True)",
        ),
        Indicator(
            name="dead pixels",
            value=pixels,
            threshold=0.9,
            flagged=pixels > 0.9,
            severity=SUSPECT,
            source=OURS,
            explanation="share of input elements with a gradient of exactly zero",
            proposal="a BPDA gradient for the layer that loses them; black-box attacks",
        ),
    )


def vanishing_cross_entropy(case: Case) -> Indicator:
    """Cross entropy has none: a saturated softmax hides a gradient that the logits still have."""
    share, _ = _dead(case, "ce")
    return Indicator(
        name="vanishing cross entropy",
        value=share,
        threshold=0.05,
        flagged=share > 0.05,
        severity=SUSPECT,
        source=f"{CROCE}; threshold {OURS}",
        explanation="share of examples whose cross entropy has a zero, NaN or infinite input gradient (saturation)",
        proposal="objectives on the logits: margin, DLR",
    )


def _dead(case: Case, objective: str) -> tuple[float, float]:
    """Share of the examples without a usable gradient, and of elements without one among the others."""
    x, y, _ = case.first(PROBED)
    grad = input_gradient(case.model, x, y, OBJECTIVES[objective])[0].flatten(1)
    dead = ~grad.isfinite().all(1) | (grad == 0).all(1)
    rest = grad[~dead]
    return dead.float().mean().item(), (rest == 0).float().mean().item() if len(rest) else 1.0


def precision_of_gradients(case: Case) -> Indicator:
    """Gradients in float32 point elsewhere than those in float64: rounding has destroyed them."""
    x, y, _ = case.first(PROBED // 2)
    value = None if case.randomised else _disagreement(case.model, x, y)
    return Indicator(
        name="float32 against float64",
        value=value,
        threshold=0.5,
        flagged=value is not None and value > 0.5,
        severity=SUSPECT,
        source=OURS,
        explanation="share of examples whose margin has another gradient in float64 than in float32 (cosine < 0.9)",
        proposal="attack a copy of the network in float64, or with a rescaled objective",
    )


def _disagreement(model: nn.Module, x: Tensor, y: Tensor) -> float | None:
    try:
        double = copy.deepcopy(model).double()
        exact = input_gradient(double, x.double(), y, OBJECTIVES["margin"])[0].flatten(1)
    except (RuntimeError, TypeError, ValueError):  # not copyable, or it insists on float32
        return None
    single = input_gradient(model, x, y, OBJECTIVES["margin"])[0].flatten(1).double()
    cosine = torch.nn.functional.cosine_similarity(exact, single)
    return ((cosine < 0.9) & exact.isfinite().all(1) & (exact != 0).any(1)).float().mean().item()


def single_step(case: Case) -> Indicator:
    """An attack of one step broke examples that no iterative one broke."""
    rest = set[int]().union(*(b for label, b in case.broken.items() if label not in case.single))
    alone = set[int]().union(*(b for label, b in case.broken.items() if label in case.single)) - rest
    compared = bool(case.single) and len(case.single) < len(case.broken)
    share = len(alone) / case.n if compared else None
    return Indicator(
        name="single step beats iterative",
        value=share,
        threshold=0.01,
        flagged=compared and _exceeds(len(alone), case.n, 0.01),
        severity=BROKEN,
        source=f"{CARLINI}; threshold {OURS}",
        explanation="share of all examples that FGSM broke and no iterative attack did",
        proposal="more steps, other step sizes, several restarts (suite 'standard')",
    )


def black_box(case: Case) -> Indicator:
    """Random search breaks what gradients could not."""
    return _fallen(
        case,
        partial(square, queries=50),
        name="black box beats white box",
        severity=BROKEN,
        source=f"{CROCE}; {CARLINI}",
        explanation="share of survivors that 50 random queries (Square) break",
        proposal="Square with 5000 queries; transfer attacks (escalate=True)",
    )


def more_steps(case: Case) -> Indicator:
    """Another start and 40 steps break what the suite did not."""
    return _fallen(
        case,
        partial(pgd, steps=40, objective="margin", early_exit=True),
        name="more steps help",
        severity=SUSPECT,
        source=CARLINI,
        explanation="share of survivors that PGD on the margin breaks with 40 steps",
        proposal="suite 'standard': 100 steps with adapted step sizes",
    )


def smoothed_gradient(case: Case) -> Indicator:
    """Gradients averaged over a neighbourhood break what plain ones did not: the surface is rough."""
    return _fallen(
        case,
        smoothed_pgd,
        name="smoothed gradients help",
        severity=BROKEN,
        source=f"{ATHALYE} (EOT on a model that claims to be deterministic)",
        explanation="share of survivors that PGD breaks once each gradient is the mean over noisy copies of the input",
        proposal="gradients averaged over noise, black-box and transfer attacks (escalate=True)",
    )


def unlimited_radius(case: Case) -> Indicator:
    """Examples survive although the attack may change the image as it likes."""
    x, y, threat = case.first(PROBED)
    wide = threat.with_eps(_everything(threat, x))
    attack = partial(pgd, steps=20, objective="margin", early_exit=True)
    share = 1 - _broken(case, attack, x, y, wide, "unlimited") / len(x)
    return Indicator(
        name="survivors at unlimited ε",
        value=share,
        threshold=0.1,
        flagged=share > 0.1,
        severity=BROKEN,
        source=f"{CARLINI}; {PINTOR}; threshold {OURS}",
        explanation="share of examples that withstand 20 steps of PGD without a limit on the perturbation",
        proposal="the gradients lead nowhere: black-box and transfer attacks (escalate=True)",
    )


def _everything(threat: ThreatModel, x: Tensor) -> float:
    if threat.clip is None:
        return 100 * float(torch.as_tensor(threat.eps).max())
    width = threat.clip[1] - threat.clip[0]
    return width if threat.norm == "linf" else width * float(x[0].numel()) ** 0.5


def not_monotone(case: Case) -> Indicator:
    """A larger ball leaves more survivors than a smaller one."""
    x, y, threat = case.first(PROBED)
    attack = partial(pgd, steps=10, objective="margin", early_exit=True)
    near, far = (
        _broken(case, attack, x, y, threat.with_eps(torch.as_tensor(threat.eps) * factor), "monotone")
        for factor in (0.5, 2.0)
    )
    more = max(near - far, 0)
    return Indicator(
        name="accuracy not monotone in ε",
        value=more / len(x),
        threshold=0.05,
        flagged=_exceeds(more, len(x), 0.05),
        severity=SUSPECT,
        source=f"{CARLINI}; threshold {OURS}",
        explanation="share of examples by which PGD-10 breaks fewer at 2 ε than at ε / 2",
        proposal="a curve over ε; smaller steps, restarts",
    )


def path_of_the_attack(case: Case) -> tuple[Indicator, Indicator]:
    """What one run of PGD-20 tells of itself: silent successes, and whether it had converged."""
    x, y, threat = case.first(PROBED)
    values, wrong = pgd_values(case.attacked, x, y, threat=threat, generator=case.generator("path"))
    silent = (wrong[:-1].any(0) & ~wrong[-1]).float().mean().item()
    standing = ~wrong.any(0)
    gain = values.cummax(0).values
    total, late = gain[-1] - gain[0], gain[-1] - gain[-6]
    share = late > 0.25 * total.clamp(min=1e-12)
    return _silent(silent), _rising(share[standing].float().mean().item() if int(standing.sum()) > 1 else None)


def _silent(value: float) -> Indicator:
    return Indicator(
        name="silent success",
        value=value,
        threshold=0.25,
        flagged=value > 0.25,
        severity=SUSPECT,
        source=f"{PINTOR}; threshold {OURS}",
        explanation="share of examples that PGD-20 fooled on its way and no longer at its end: a rough surface",
        proposal="attacks that keep their best iterate (all native ones do)",
    )


def _rising(value: float | None) -> Indicator:
    return Indicator(
        name="objective still rising",
        value=value,
        threshold=0.5,
        flagged=value is not None and value > 0.5,
        severity=SUSPECT,
        source=f"{PINTOR}; threshold {OURS}",
        explanation="share of survivors whose margin gains over a quarter of its rise in the last 5 of 20 steps of PGD",
        proposal="suite 'standard': 100 steps with adapted step sizes",
    )


def out_of_time(trials: Mapping[str, Trial]) -> tuple[Indicator, ...]:
    """What a time budget has left over; nothing where all was done."""
    missed = sum(trial.outcome.n_missed for trial in trials.values())
    if not missed:
        return ()
    planned = sum(len(trial.index) for trial in trials.values())
    return (
        Indicator(
            name="stopped by the time budget",
            value=missed / planned,
            threshold=0.0,
            flagged=True,
            severity=SUSPECT,
            source=OURS,
            explanation="share of the attacks on single examples that there was no time for",
            proposal="the same call with the same folder in resume= goes on from there",
        ),
    )


def _fallen(case: Case, attack: Callable[..., Tensor], *, name: str, **texts: str) -> Indicator:
    """An indicator on survivors of the suite that another attack breaks."""
    x, y, threat = case.survivors(SURVIVORS)
    count = _broken(case, attack, x, y, threat, name)
    return Indicator(
        name=name,
        value=count / len(x) if len(x) else None,
        threshold=0.05,
        flagged=_exceeds(count, len(x), 0.05),
        **texts,
    )


def _broken(case: Case, attack: Callable[..., Tensor], x: Tensor, y: Tensor, threat: ThreatModel, label: str) -> int:
    """How many of these examples the attack breaks."""
    return case.fooled(attack(case.attacked, x, y, threat=threat, generator=case.generator(label)), y) if len(x) else 0


def _exceeds(count: int, of: int, threshold: float) -> bool:
    """Whether ``count`` of ``of`` is more than a share of ``threshold`` explains: one-sided binomial test.

    Example:
        >>> [_exceeds(count, 16, 0.05) for count in (1, 2, 3)]
        [False, False, True]
    """
    below = sum(comb(of, k) * threshold**k * (1 - threshold) ** (of - k) for k in range(count))
    return 1 - below < CHANCE


CHECKS: list[Check] = [
    randomised_output,
    optimisation_at_test_time,
    probabilities,
    gradients_of_the_margin,
    vanishing_cross_entropy,
    precision_of_gradients,
    single_step,
    black_box,
    more_steps,
    smoothed_gradient,
    unlimited_radius,
    not_monotone,
    path_of_the_attack,
]
