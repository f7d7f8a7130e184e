"""Several reports on the same images side by side, with a test of each difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from art_ext.evaluation.facts import threat_text

if TYPE_CHECKING:
    from art_ext.evaluation.report import RobustnessReport
    from art_ext.threat import ThreatModel


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of a comparison.

    Args:
        label: the model's name.
        clean: accuracy without attack, in [0, 1].
        robust: accuracy in the worst case; None where no attack ran to its end.
        verdict: of the report, as in ``report.verdict``.
        attacks: accuracy under each attack of the comparison; None where this model was not attacked so, or in vain.
        difference: robust accuracy minus that of the first model; None for the first, and where one is not known.
        p_value: of the exact McNemar test against the first model; None where ``difference`` is.
    """

    label: str
    clean: float
    robust: float | None
    verdict: str
    attacks: dict[str, float | None]
    difference: float | None
    p_value: float | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """Models that were evaluated on the same images under the same threat model.

    Args:
        rows: one for each model; the first is the reference.
        attacks: labels of all attacks, in the order in which they occur.
        threat: the threat model of all.
        n_examples: number of examples of each.
        notes: what makes the models less comparable, in sentences.
    """

    rows: tuple[Row, ...]
    attacks: tuple[str, ...]
    threat: ThreatModel
    n_examples: int
    notes: tuple[str, ...]


def compare(reports: Mapping[str, RobustnessReport]) -> Comparison:
    """Put reports side by side; the first is what the others are compared with.

    Args:
        reports: report of each model by its label.

    Raises:
        ValueError: no report; or different threat models, numbers of examples or labels: such accuracies do not belong
            in one table. The message names what differs.

    Example:
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> def model(*survivors: bool) -> RobustnessReport:
        ...     attacks = {"FGSM": AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)}
        ...     return RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor(survivors), attacks=attacks,
        ...                             threat=ThreatModel("linf", 0.1))
        >>> _, second = compare({"a": model(True, False, False), "b": model(True, True, True)}).rows
        >>> round(second.difference, 3), second.p_value
        (0.667, 0.5)
    """
    if not reports:
        raise ValueError("reports must hold at least one report")
    first_label, first = next(iter(reports.items()))
    for label, report in reports.items():
        _check_same(first_label, first, label, report)
    attacks = tuple(dict.fromkeys(name for report in reports.values() for name in report.attacks))
    return Comparison(
        rows=tuple(_row(label, report, first, attacks) for label, report in reports.items()),
        attacks=attacks,
        threat=first.threat,
        n_examples=first.n_examples,
        notes=tuple(note for find in _NOTES for note in find(reports)),
    )


def mcnemar(first: Tensor, second: Tensor) -> float:
    """Two-sided p-value of the exact McNemar test: are as many examples lost as won?

    Of the examples on which the models differ, each model would hold half if they were equally robust: a binomial test,
    computed in whole numbers (McNemar 1947, https://doi.org/10.1007/BF02295996).

    Args:
        first: bool (N,), the survivors of one model.
        second: bool (N,), those of the other on the same examples.

    Example:
        >>> one, other = torch.tensor([True] * 6 + [False] * 2), torch.tensor([False] * 6 + [True, False])
        >>> mcnemar(one, other)
        0.125
    """
    lost, won = int((first & ~second).sum()), int((second & ~first).sum())
    n, term, tail = lost + won, 1, 0
    for k in range(min(lost, won) + 1):  # the sum of the binomial coefficients n over k
        tail += term
        term = term * (n - k) // (k + 1)
    return min(1.0, 2 * tail / 2**n)


def _row(label: str, report: RobustnessReport, first: RobustnessReport, attacks: tuple[str, ...]) -> Row:
    known = report is not first and not isnan(report.robust_accuracy) and not isnan(first.robust_accuracy)
    return Row(
        label=label,
        clean=report.clean_accuracy,
        robust=None if isnan(report.robust_accuracy) else report.robust_accuracy,
        verdict=report.verdict,
        attacks={name: report.attacks[name].accuracy if name in report.attacks else None for name in attacks},
        difference=report.robust_accuracy - first.robust_accuracy if known else None,
        p_value=mcnemar(first.survivors, report.survivors) if known else None,
    )


def _check_same(first_label: str, first: RobustnessReport, label: str, report: RobustnessReport) -> None:
    said = f"reports {first_label!r} and {label!r} cannot be compared: "
    if _threat_key(first.threat) != _threat_key(report.threat):
        one, other = (f"{threat_text(t)}, inputs in {t.clip}" for t in (first.threat, report.threat))
        raise ValueError(f"{said}different threat models, {one} and {other}")
    if first.n_examples != report.n_examples:
        raise ValueError(f"{said}different numbers of examples, {first.n_examples} and {report.n_examples}")
    if first.labels is not None and report.labels is not None and not torch.equal(first.labels, report.labels):
        n = int((first.labels != report.labels).sum()) if first.labels.shape == report.labels.shape else "all"
        raise ValueError(f"{said}different data, the labels of {n} examples differ")


def _threat_key(threat: ThreatModel) -> tuple[object, ...]:
    return threat.norm, threat.eps if isinstance(threat.eps, float) else tuple(threat.eps.tolist()), threat.clip


def _differing(field: str, consequence: str) -> Callable[[Mapping[str, RobustnessReport]], list[str]]:
    def find(reports: Mapping[str, RobustnessReport]) -> list[str]:
        values = {label: getattr(report, field) for label, report in reports.items()}
        if len(set(values.values())) < 2:
            return []
        return [f"The {field}s differ: {', '.join(f'{k} {v}' for k, v in values.items())}{consequence}."]

    return find


def _attacked_differently(reports: Mapping[str, RobustnessReport]) -> list[str]:
    sets = {tuple(sorted(n for n, r in report.attacks.items() if not r.error)) for report in reports.values()}
    return ["Not every model faced the same attacks: fewer attacks flatter a model."] if len(sets) > 1 else []


def _unlabelled(reports: Mapping[str, RobustnessReport]) -> list[str]:
    missing = [label for label, report in reports.items() if report.labels is None]
    if not missing or len(reports) < 2:
        return []
    return [f"That the images are the same could not be checked: no labels in {', '.join(missing)}."]


_NOTES = (_differing("suite", ""), _differing("seed", ""), _attacked_differently, _unlabelled)
