"""What each figure shows, and how it reads in this run."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import TypeVar

from art_ext.reproduce.piat_toy.judging import rise
from art_ext.reproduce.piat_toy.measures import MEASURES, largest_fall, swept
from art_ext.reproduce.piat_toy.results import Results
from art_ext.reproduce.piat_toy.settings import METHODS, Method

Key = TypeVar("Key")


def points(results: Results) -> str:
    """Of ``points.png``."""
    s = results.settings
    return (
        f"The test points of seed {results.shown} in three dimensions and from above, with the ideal boundary and the "
        f"balls of some points. ε is {s.eps / s.circles.margin:.0%} of the margin."
    )


def robust_accuracy(results: Results) -> str:
    """Of ``robust_accuracy.png``."""
    found = (next(r for r in results.runs if r.method == m and r.seed == results.shown) for m in METHODS.values())
    falls = {str(run.method): largest_fall(run.robust) for run in found}
    told = ", ".join(f"{name} {100 * fall:.1f} points (epoch {epoch})" for name, (epoch, fall) in falls.items())
    return (
        f"Robust accuracy after each epoch, 0 being the initial weights: on the left the trainings of seed "
        f"{results.shown}, on the right the mean of the seeds, with its standard deviation as a band. A jagged line is "
        f"the oscillation of which the paper speaks; the largest falls on the left: {told}."
    )


def boundaries(results: Results) -> str:
    """Of ``boundaries.png``."""
    runs = {str(run.method): run for run in results.runs if run.seed == results.shown}
    told = "; ".join(
        f"{name}, epoch {change.epoch}: {change.before:.1%} → {change.after:.1%}, and "
        f"{runs[name].moved[change.epoch - 1]:.1%} of the plane changes its class"
        for name, change in results.changes.items()
    )
    return (
        f"The epoch of each training (seed {results.shown}) in which most robust accuracy is lost: the boundary in the "
        "plane h = 0 before (dashed) and after it (black), and with PIAT as trained, before the interpolation "
        f"(dotted). Filled points were robust before and are not after. {told}."
    )


def weight_sweep(results: Results) -> str:
    """Of ``lambda.png``."""
    ends = _ends(results, results.settings.swept_weights)
    fixed = {weight: end for weight, end in ends.items() if weight is not None}
    best, worst = max(fixed, key=fixed.__getitem__), min(fixed, key=fixed.__getitem__)
    return (
        "Fixed λ against PIAT's schedule, with NMSE: over the epochs, at the end, and what is lost per epoch. At the "
        f"end the schedule has {ends[None]:.1%}, the best fixed λ ({best:g}) {fixed[best]:.1%}, the worst ({worst:g}) "
        f"{fixed[worst]:.1%}."
    )


def mu_sweep(results: Results) -> str:
    """Of ``mu.png``."""
    ends = _ends(results, results.settings.swept_mus)
    told = ", ".join(f"μ = {mu:g}: {end:.1%}" for mu, end in ends.items())
    return f"The weight μ of NMSE under PIAT's schedule; μ = 0 is PIAT alone. Robust accuracy at the end: {told}."


def landscape_weights(results: Results) -> str:
    """Of ``landscape_weights.png``."""
    told = ", ".join(f"{name} {rise(plane):.2f}" for name, plane in results.landscapes["weights"].items())
    return (
        "The loss on adversarial points, made for the final weights, where the weights are moved in two random "
        "directions (each row of a direction as long as the row of weights it changes; the paper takes them as drawn). "
        f"One scale for both. Mean rise above the middle, in nats: {told}."
    )


def landscape_inputs(results: Results) -> str:
    """Of ``landscape_inputs.png``."""
    told = ", ".join(f"{name} {rise(plane):.2f}" for name, plane in results.landscapes["inputs"].items())
    return (
        "The loss where the test points are moved towards the end of PGD and in a random direction, in ε. Mean rise "
        f"above the middle, in nats: {told}."
    )


def _ends(results: Results, methods: Mapping[Key, Method]) -> dict[Key, float]:
    """Robust accuracy at the end for each place of a sweep, mean over the seeds of the sweep."""
    of, tail = MEASURES["robust"].of, results.settings.tail
    found = {key: swept(results.runs, method, results.settings) for key, method in methods.items()}
    return {key: fmean(of(run, tail) for run in runs) for key, runs in found.items()}
