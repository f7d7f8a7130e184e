"""The report of an evaluation: as a table, as JSON, as a picture."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from math import isnan, nan
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from art_ext.evaluation.html import report_page
from art_ext.evaluation.latex import report_latex
from art_ext.evaluation.markdown import report_markdown
from art_ext.evaluation.plots import bar_chart
from art_ext.evaluation.robustbench import robustbench_entry
from art_ext.evaluation.stored import read_fields, write_fields
from art_ext.evaluation.table import render
from art_ext.evaluation.verdict import VERDICTS, Indicator, verdict
from art_ext.files import atomic_write
from art_ext.model import DefendedModel
from art_ext.threat import ThreatModel

if TYPE_CHECKING:
    from art_ext.evaluation.corruptions import CorruptionReport

LABELS = dict.fromkeys(("labels", "clean_predictions", "predictions"), torch.int64)
TENSORS = {"survivors": torch.bool, "survival": torch.float32} | LABELS
DERIVED = frozenset({"n_examples", "robust_accuracy", "verdict"})  # in the JSON for its readers, computed in the report


@dataclass(frozen=True, kw_only=True)
class AttackResult:
    """What one attack achieved.

    Args:
        accuracy: share of all examples that are classified correctly under this attack, in [0, 1]; None where it
            did not run (an error, no time left).
        seconds: the attack's own time, without judging its examples.
        forwards: examples passed forward through the network, per attacked example.
        backwards: the same for backward passes.
        n_failed: examples that the attack returned with NaN or infinity; the clean ones were judged instead.
        n_projected: examples that it returned outside the threat model; their projections were judged instead.
        error: why the attack did not run to its end, or None.
        std: of ``accuracy`` over the draws that judged a randomised defense; None for a deterministic one.
        n_attacked: examples that it attacked; fewer than are classified correctly where a suite is a cascade, in
            which each attack gets what the earlier ones left, and ``accuracy`` is what is left after all of them.
        n_missed: examples among those that it had no time for (``time_budget``); they count as not broken.
    """

    accuracy: float | None
    seconds: float
    forwards: float
    backwards: float
    n_failed: int = 0
    n_projected: int = 0
    error: str | None = None
    std: float | None = None
    n_attacked: int = 0
    n_missed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class RobustnessReport:
    """The result of `evaluate`; ``print(report)`` shows a table.

    Args:
        clean_accuracy: without attack, in [0, 1].
        survivors: bool (N,), on the CPU: classified correctly under every attack that ran (a randomised defense: in
            more than half of the draws that judge it).
        survival: share of those draws (N,) in the worst of the attacks; None for a deterministic model.
        attacks: result of each attack by label.
        threat: the threat model.
        suite: name of the suite, ``"custom"`` for a list.
        seed: of all random choices.
        eot: draws whose gradients native attacks averaged.
        randomised: two passes over the same batch disagreed.
        outcomes: of random choices that could be listed, all of which judged; 1 where there are none, or too many.
        bpda: parts of the defense that declare an approximate gradient, ``"Class: approximation"``.
        versions: of art_ext, torch, ART, numpy and Python.
        device: where the network was.
        precision: dtype of the network's weights.
        labels: the true labels (N,), int64.
        clean_predictions: predicted without attack (N,), int64.
        predictions: predicted in the worst case (N,), int64: what the first attack that broke an example made of it,
            the true label of a survivor; of a randomised defense in the first of the draws that judge.
        indicators: signs that the number is not to be trusted, flagged or not; empty where none was measured.
        command: what repeats the evaluation, as text.

    Example:
        >>> report = RobustnessReport(
        ...     clean_accuracy=1.0, survivors=torch.tensor([True, False]), threat=ThreatModel("linf", 0.1),
        ...     attacks={"FGSM": AttackResult(accuracy=0.5, seconds=0.1, forwards=1.0, backwards=1.0)},
        ... )
        >>> report.robust_accuracy
        0.5
        >>> RobustnessReport.from_json(report.to_json()).attacks["FGSM"].accuracy
        0.5
    """

    clean_accuracy: float
    survivors: Tensor
    attacks: dict[str, AttackResult]
    threat: ThreatModel
    suite: str = "custom"
    seed: int = 0
    eot: int = 1
    randomised: bool = False
    outcomes: int = 1
    bpda: tuple[str, ...] = ()
    versions: dict[str, str] | None = None
    device: str = "cpu"
    precision: str = "float32"
    survival: Tensor | None = None
    labels: Tensor | None = None
    clean_predictions: Tensor | None = None
    predictions: Tensor | None = None
    indicators: tuple[Indicator, ...] = ()
    command: str = ""

    @property
    def verdict(self) -> str:
        """``"trusted"``, ``"suspect"`` or ``"broken evaluation"``: the worst that a flagged indicator says.

        Where none was measured, it is ``"unchecked"``. Without a single attack that ran to its end, the evaluation is
        broken in any case.
        """
        return VERDICTS[-1] if isnan(self.robust_accuracy) else verdict(self.indicators)

    @property
    def n_examples(self) -> int:
        """Number of examples."""
        return len(self.survivors)

    @property
    def robust_accuracy(self) -> float:
        """Share of examples that no attack broke; NaN, not a good number, where no attack ran to its end."""
        if all(result.accuracy is None for result in self.attacks.values()):
            return nan
        held = self.survivors if self.survival is None else self.survival
        return held.sum().item() / self.n_examples

    def __str__(self) -> str:
        return render(self)

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON, one line for each field; also written to ``path``, atomically, if given.

        Raises:
            OSError: ``path`` cannot be written; an older file there is untouched.
        """
        robust = None if isnan(self.robust_accuracy) else self.robust_accuracy
        data: dict[str, Any] = {"n_examples": self.n_examples, "robust_accuracy": robust, "verdict": self.verdict}
        data |= {f.name: getattr(self, f.name) for f in fields(self)}
        data |= {name: None if data[name] is None else data[name].tolist() for name in TENSORS}
        data["indicators"] = [asdict(indicator) for indicator in self.indicators]
        data["attacks"] = {label: asdict(result) for label, result in self.attacks.items()}
        data["threat"] = _threat_to_dict(self.threat)
        return write_fields(data, path)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> RobustnessReport:
        """The report of a JSON text, or of a file that `to_json` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: not JSON, or not such a report; the message names the fields.
        """
        own = {f.name for f in fields(cls)}
        read = read_fields(source, own | DERIVED, what="RobustnessReport")
        data = {name: read[name] for name in own}
        data |= {
            name: None if data[name] is None else torch.tensor(data[name], dtype=TENSORS[name]) for name in TENSORS
        }
        data["indicators"] = tuple(Indicator(**indicator) for indicator in data["indicators"])
        data["attacks"] = {label: AttackResult(**result) for label, result in data["attacks"].items()}
        data["threat"] = ThreatModel(**data["threat"])
        data["bpda"] = tuple(data["bpda"])
        return cls(**data)

    def to_html(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "",
        figures: Sequence[tuple[str, str | bytes]] = (),
        further: Sequence[RobustnessReport | CorruptionReport] = (),
    ) -> None:
        """Write a page that needs no network and no script; see `art_ext.evaluation.html.report_page`.

        Args:
            path: the page, written atomically.
            title: its heading.
            figures: pairs of a caption and a picture, SVG as text or PNG as bytes.
            further: reports on the same model under other threat models, a line each: another ball, or corruptions.

        Raises:
            OSError: ``path`` cannot be written.
            ValueError: a picture is not SVG, or not PNG.
        """
        page = report_page(self, title=title, figures=figures, further=further)
        with atomic_write(path) as temporary:
            temporary.write_text(page, encoding="utf-8")

    def to_markdown(self) -> str:
        """Verdict, attacks and indicators as Markdown, for a model card or an issue."""
        return report_markdown(self)

    def to_latex(self) -> str:
        """The attacks as a LaTeX table; the document needs the package booktabs."""
        return report_latex(self)

    def to_robustbench(
        self,
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
        """The entry of a RobustBench leaderboard; `robustbench_entry` says what the fields are.

        Raises:
            ValueError: ε per example, or no attack that ran to its end.
        """
        return robustbench_entry(
            self,
            name=name,
            link=link,
            authors=authors,
            venue=venue,
            architecture=architecture,
            dataset=dataset,
            additional_data=additional_data,
            number_forward_passes=number_forward_passes,
            reported=reported,
        )

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a bar chart: clean, each attack, worst case. The format follows the suffix (``.png``, ``.svg``, …).

        Raises:
            OSError: ``path`` cannot be written.
        """
        bar_chart({"": self}, path)


def environment(model: DefendedModel) -> dict[str, Any]:
    """The fields of a report that say where and with what it was made."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    device = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else str(model.device)
    return {"versions": versions(), "device": device, "precision": str(dtype).removeprefix("torch.")}


def versions() -> dict[str, str]:
    """Of art_ext and what its numbers depend on."""
    from art_ext import __version__

    return {
        "art_ext": __version__,
        "torch": torch.__version__,
        "art": version("adversarial-robustness-toolbox"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


def _threat_to_dict(threat: ThreatModel) -> dict[str, Any]:
    eps = threat.eps.tolist() if isinstance(threat.eps, Tensor) else threat.eps
    return {"norm": threat.norm, "eps": eps, "clip": threat.clip}
