"""A report as an entry of RobustBench's leaderboards (https://github.com/RobustBench/robustbench)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import isnan
from typing import TYPE_CHECKING, Any

from torch import Tensor

from art_ext.evaluation.facts import eps_text, failed_attacks

if TYPE_CHECKING:
    from art_ext.evaluation.report import RobustnessReport

AUTOATTACK = "AutoAttack"
STANDARD_PARTS = frozenset({"apgd-ce", "apgd-t", "fab-t", "square"})
RELIABLE = frozenset({"trusted", "unchecked"})


def robustbench_entry(
    report: RobustnessReport,
    *,
    name: str,
    link: str = "",
    authors: str = "",
    venue: str = "",
    architecture: str = "",
    dataset: str = "",
    additional_data: bool = False,
    number_forward_passes: int = 1,
    reported: float | None = None,
) -> dict[str, Any]:
    """The fields of ``model_info/<dataset>/<threat model>/<model>.json``; accuracies are texts in percent.

    ``autoattack_acc`` is filled only where the genuine AutoAttack ran to its end: its version ``standard``, all four
    parts of it, or for a randomised defense its version ``rand``. Any other number, and a worst case below
    AutoAttack's, goes to ``external``; the footnote names the attacks.

    Args:
        report: the evaluation.
        name: title of the paper or model.
        link: address of the paper.
        authors: separated by commas.
        venue: e.g. ``"ICML 2020"``.
        architecture: e.g. ``"ResNet-18"``.
        dataset: RobustBench's name, ``"cifar10"``, ``"cifar100"`` or ``"imagenet"``.
        additional_data: the training used more than the data set.
        number_forward_passes: of one prediction of the model.
        reported: robust accuracy that the paper states, in [0, 1]; left out where it is None.

    Raises:
        ValueError: ε per example, or no attack that ran to its end: a leaderboard has no place for that.

    Example:
        >>> import torch
        >>> from art_ext.evaluation.report import AttackResult, RobustnessReport
        >>> from art_ext.threat import ThreatModel
        >>> fgsm = AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)
        >>> report = RobustnessReport(clean_accuracy=1.0, survivors=torch.tensor([True, False]),
        ...                           attacks={"FGSM": fgsm}, threat=ThreatModel("linf", 8 / 255))
        >>> entry = robustbench_entry(report, name="Mine")
        >>> entry["eps"], entry["clean_acc"], entry["external"], "autoattack_acc" in entry
        ('8/255', '100.00', '50.00', False)
    """
    if isinstance(report.threat.eps, Tensor):
        raise ValueError("a leaderboard has one ε; the report has one per example")
    if isnan(report.robust_accuracy):
        raise ValueError("no attack ran to its end: there is no robust accuracy to enter")
    return {
        "link": link,
        "name": name,
        "authors": authors,
        "additional_data": additional_data,
        "number_forward_passes": number_forward_passes,
        "dataset": dataset,
        "venue": venue,
        "architecture": architecture,
        "eps": eps_text(report.threat.eps),
        "clean_acc": _percent(report.clean_accuracy),
        **({} if reported is None else {"reported": _percent(reported)}),
        **_robust(report),
        "footnote": " ".join(_footnote(report)),
        "unreliable": report.verdict not in RELIABLE,
    }


def autoattack_accuracy(report: RobustnessReport) -> float | None:
    """The accuracy under the genuine, complete AutoAttack, or None where it did not run or not to its end."""
    ran = {
        label: result.accuracy
        for label, result in report.attacks.items()
        if label.startswith(AUTOATTACK) and result.accuracy is not None and not result.error
    }
    words = {word for label in ran for word in re.findall(r"[\w-]+", label.lower().removeprefix(AUTOATTACK.lower()))}
    whole = AUTOATTACK in ran or "standard" in words or words >= STANDARD_PARTS
    return min(ran.values()) if whole or ("rand" in words and report.randomised) else None


def _robust(report: RobustnessReport) -> dict[str, str]:
    by_autoattack = autoattack_accuracy(report)
    if by_autoattack is None:
        return {"external": _percent(report.robust_accuracy)}
    fields = {"autoattack_acc": _percent(by_autoattack)}
    if report.robust_accuracy < by_autoattack:
        fields["external"] = _percent(report.robust_accuracy)
    return fields


def _footnote(report: RobustnessReport) -> Iterable[str]:
    ran = [label for label, result in report.attacks.items() if result.accuracy is not None]
    failed = failed_attacks(report)
    if autoattack_accuracy(report) is None:
        yield "Not AutoAttack:"
    yield f"art_ext suite {report.suite} ({', '.join(ran)}) on {report.n_examples} images, seed {report.seed}."
    if failed:
        yield f"Failed: {', '.join(failed)}."
    if report.randomised:
        yield f"Randomised output; draws per gradient: {report.eot}."
    if report.verdict not in RELIABLE:
        yield f"Verdict: {report.verdict}."


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"
