"""The signs of masked gradients, measured on a few examples after the attacks of a suite.

Each check is a function of a `Case` that returns an `Indicator`; `CHECKS` is the list, and anyone can extend it.
Thresholds come from the source that each names; "our decision" are those that no paper gives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from art_ext.attacks import OBJECTIVES, pgd, square
from art_ext.attacks.pgd import input_gradient
from art_ext.evaluation.probes import autograd_calls, pgd_values, smoothed_pgd
from art_ext.evaluation.verdict import Indicator
from art_ext.isolation import derive_seed, seeded
from art_ext.threat import ThreatModel

CROCE = "Croce and Hein 2020, checks of auto-attack"
CARLINI = "Carlini et al. 2019, On Evaluating Adversarial Robustness"
PINTOR = "Pintor et al. 2022, Indicators of Attack Failure"
ATHALYE = "Athalye et al. 2018, Obfuscated Gradients"
OURS = "our decision"
BROKEN, SUSPECT = "broken evaluation", "suspect"
PROBED, SURVIVORS = 16, 16  # examples that the checks look at
FEW = 2  # examples: fewer prove nothing


@dataclass(frozen=True)
class Case:
    """What the checks look at: some correctly classified examples, and some that survived the suite.

    Args:
        model: the whole defense, in eval mode, parameters frozen.
        attacked: what attacks differentiate: a faster `Surrogate` of it, or the model itself.
        x: correctly classified inputs (P, ...), on the model's device; ``y`` their labels, ``threat`` theirs.
        left: which of them (P,) the suite did not break.
        broken: indices that each attack of the suite broke, by label, among all ``n`` examples.
        single: labels of the attacks of a single step.
        randomised: two passes disagree.
        averaged: every attack averaged its gradients over enough draws.
        seed: of the checks' own random choices.
    """

    model: nn.Module
    attacked: nn.Module
    x: Tensor
    y: Tensor
    threat: ThreatModel
    left: Tensor
    broken: Mapping[str, set[int]]
    single: frozenset[str]
    n: int
    randomised: bool
    averaged: bool
    seed: int

    def survivors(self, count: int) -> tuple[Tensor, Tensor, ThreatModel]:
        """Up to so many examples that the suite did not break."""
        index = self.left.nonzero().squeeze(1)[:count]
        return self.x[index], self.y[index], self.threat.select(index)

    def first(self, count: int) -> tuple[Tensor, Tensor, ThreatModel]:
        """Up to so many correctly classified examples, broken or not."""
        index = torch.arange(min(count, len(self.x)), device=self.x.device)
        return self.x[index], self.y[index], self.threat.select(index)

    def generator(self, label: str) -> torch.Generator:
        """Random numbers of their own for each check."""
        return torch.Generator(self.x.device).manual_seed(derive_seed(self.seed, f"indicator {label}"))

    def fooled(self, x_adv: Tensor, y: Tensor) -> int:
        """How many examples the model gets wrong."""
        with torch.no_grad():
            return int((self.model(x_adv).argmax(1) != y).sum()) if len(y) else 0


def chosen(attacked: Tensor, standing: Tensor) -> Tensor:
    """Which of the ``attacked`` examples (indices) a case holds: the first ones, then the first still ``standing``."""
    first, rest = attacked[:PROBED], standing[:SURVIVORS]
    return torch.cat((first, rest[~torch.isin(rest, first)]))


Check = Callable[[Case], Indicator | tuple[Indicator, ...]]


def measure(case: Case) -> tuple[Indicator, ...]:
    """All indicators; one that cannot be measured has no value and is not flagged."""
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
    calls = autograd_calls(case.model, x) if len(x) else 0
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
    share = like.float().mean().item() if len(x) else 0.0
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


def zero_gradients(case: Case) -> Indicator:
    """The margin has no gradient with respect to the input, or no finite one."""
    share, _ = _dead(case, "margin")
    return Indicator(
        name="zero gradients",
        value=share,
        threshold=0.05,
        flagged=share > 0.05,
        severity=BROKEN,
        source=f"{ATHALYE}; threshold {OURS}",
        explanation="share of examples whose margin has a zero, NaN or infinite input gradient: no attack by gradients",
        proposal="declare a BPDA gradient, or attack black-box and by transfer (escalate=True)",
    )


def vanishing_cross_entropy(case: Case) -> Indicator:
    """As above, of cross entropy: a saturated softmax hides a gradient that the logits still have."""
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


def dead_pixels(case: Case) -> Indicator:
    """Most input elements do not move the margin at all."""
    _, pixels = _dead(case, "margin")
    return Indicator(
        name="dead pixels",
        value=pixels,
        threshold=0.9,
        flagged=pixels > 0.9,
        severity=SUSPECT,
        source=OURS,
        explanation="share of input elements with a gradient of exactly zero",
        proposal="a BPDA gradient for the layer that loses them; black-box attacks",
    )


def _dead(case: Case, objective: str) -> tuple[float, float]:
    """Share of the examples without a usable gradient, and of elements without one among the others."""
    x, y, _ = case.first(PROBED)
    if not len(x):
        return 0.0, 0.0
    grad = input_gradient(case.model, x, y, OBJECTIVES[objective])[0].flatten(1)
    dead = ~grad.isfinite().all(1) | (grad == 0).all(1)
    rest = grad[~dead]
    return dead.float().mean().item(), (rest == 0).float().mean().item() if len(rest) else 1.0


def precision_of_gradients(case: Case) -> Indicator:
    """Gradients in float32 point elsewhere than those in float64: rounding has destroyed them."""
    x, y, _ = case.first(PROBED // 2)
    value = None
    if len(x) and not case.randomised:
        value = _disagreement(case.model, x, y)
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
        flagged=share is not None and share > 0.01 and len(alone) >= FEW,
        severity=BROKEN,
        source=f"{CARLINI}; threshold {OURS}",
        explanation="share of all examples that FGSM broke and no iterative attack did",
        proposal="more steps, other step sizes, several restarts (suite 'strong')",
    )


def black_box(case: Case) -> Indicator:
    """Random search breaks what gradients could not."""
    x, y, threat = case.survivors(SURVIVORS)
    x_adv = (
        square(case.attacked, x, y, threat=threat, queries=50, generator=case.generator("black box")) if len(x) else x
    )
    return _share(
        case.fooled(x_adv, y),
        len(x),
        name="black box beats white box",
        severity=BROKEN,
        source=f"{CROCE}; {CARLINI}",
        explanation="share of survivors that 50 random queries (Square) break",
        proposal="Square with 5000 queries; transfer attacks (escalate=True)",
    )


def more_steps(case: Case) -> Indicator:
    """Twice the steps break what the suite did not."""
    x, y, threat = case.survivors(SURVIVORS)
    x_adv = x
    if len(x):
        generator = case.generator("steps")
        x_adv = pgd(
            case.attacked, x, y, threat=threat, steps=40, objective="margin", early_exit=True, generator=generator
        )
    return _share(
        case.fooled(x_adv, y),
        len(x),
        name="more steps help",
        severity=SUSPECT,
        source=CARLINI,
        explanation="share of survivors that PGD on the margin breaks with 40 steps",
        proposal="suite 'strong': 100 steps with adapted step sizes",
    )


def smoothed_gradient(case: Case) -> Indicator:
    """Gradients averaged over a neighbourhood break what plain ones did not: the surface is rough."""
    x, y, threat = case.survivors(PROBED)
    x_adv = smoothed_pgd(case.attacked, x, y, threat=threat, generator=case.generator("smoothed")) if len(x) else x
    return _share(
        case.fooled(x_adv, y),
        len(x),
        name="smoothed gradients help",
        severity=BROKEN,
        source=f"{ATHALYE} (EOT on a model that claims to be deterministic)",
        explanation="share of survivors that PGD breaks once each gradient is the mean over noisy copies of the input",
        proposal="gradients averaged over noise, black-box and transfer attacks (escalate=True)",
    )


def unlimited_radius(case: Case) -> Indicator:
    """Examples survive although the attack may change the image as it likes."""
    x, y, threat = case.first(PROBED)
    share = None
    if len(x):
        wide = threat.with_eps(_everything(threat, x))
        options: dict[str, Any] = {"steps": 20, "objective": "margin", "early_exit": True}
        x_adv = pgd(case.attacked, x, y, threat=wide, generator=case.generator("unlimited"), **options)
        share = 1 - case.fooled(x_adv, y) / len(x)
    return Indicator(
        name="survivors at unlimited ε",
        value=share,
        threshold=0.1,
        flagged=share is not None and share > 0.1,
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
    value = None
    if len(x):
        counts = []
        for factor in (0.5, 2.0):
            wider = threat.with_eps(torch.as_tensor(threat.eps) * factor)
            options: dict[str, Any] = {"steps": 10, "objective": "margin", "early_exit": True}
            x_adv = pgd(case.attacked, x, y, threat=wider, generator=case.generator("monotone"), **options)
            counts.append(case.fooled(x_adv, y))
        value = max(counts[0] - counts[1], 0) / len(x)
    few = FEW / max(len(x), 1)
    return Indicator(
        name="accuracy not monotone in ε",
        value=value,
        threshold=0.05,
        flagged=value is not None and value > 0.05 and value >= few,
        severity=SUSPECT,
        source=f"{CARLINI}; threshold {OURS}",
        explanation="share of examples by which PGD-10 breaks fewer at 2 ε than at ε / 2",
        proposal="a curve over ε; smaller steps, restarts",
    )


def path_of_the_attack(case: Case) -> tuple[Indicator, Indicator]:
    """What one run of PGD-20 tells of itself: silent successes, and whether it had converged."""
    x, y, threat = case.first(PROBED)
    if not len(x):
        return _silent(0.0), _rising(None)
    values, wrong = pgd_values(case.attacked, x, y, threat=threat, generator=case.generator("path"))
    silent = (wrong[:-1].any(0) & ~wrong[-1]).float().mean().item()
    standing = ~wrong.any(0)
    gain = values.cummax(0).values
    total, late = gain[-1] - gain[0], gain[-1] - gain[-6]
    share = late > 0.25 * total.clamp(min=1e-12)
    return _silent(silent), _rising(share[standing].float().mean().item() if int(standing.sum()) >= FEW else None)


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
        proposal="suite 'strong': 100 steps with adapted step sizes",
    )


def _share(count: int, of: int, **texts: str) -> Indicator:
    """An indicator on survivors that a stronger attack breaks."""
    value = count / of if of else None
    return Indicator(
        value=value,
        threshold=0.05,
        flagged=count >= FEW and count > 0.05 * of,
        **texts,
    )


CHECKS: list[Check] = [
    randomised_output,
    optimisation_at_test_time,
    probabilities,
    zero_gradients,
    vanishing_cross_entropy,
    dead_pixels,
    precision_of_gradients,
    single_step,
    black_box,
    more_steps,
    smoothed_gradient,
    unlimited_radius,
    not_monotone,
    path_of_the_attack,
]
