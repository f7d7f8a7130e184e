"""Everything that comes out of the study, as a value and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from art_ext.evaluation.figures import Landscape
from art_ext.evaluation.report import versions
from art_ext.reproduce.piat_toy.claims import Claim
from art_ext.reproduce.piat_toy.judging import Run
from art_ext.reproduce.piat_toy.planes import Change
from art_ext.reproduce.piat_toy.settings import Settings

PAPER = "https://arxiv.org/abs/2511.00836"


@dataclass(frozen=True, kw_only=True, eq=False)
class Results:
    """What came out, and what went in.

    Args:
        settings: all numbers that went in.
        command: that makes the same again.
        runs: every training.
        claims: the paper's, judged.
        ideal: share of the test points of each seed that the ideal boundary holds under attack.
        shown: seed of the trainings that are drawn alone.
        changes: their worst epoch, by method.
        landscapes: theirs, around ``"weights"`` and ``"inputs"``, by method.
    """

    settings: Settings
    command: str
    runs: Sequence[Run]
    claims: Sequence[Claim]
    ideal: Sequence[float]
    shown: int
    changes: Mapping[str, Change]
    landscapes: Mapping[str, Mapping[str, Landscape]]

    def to_dict(self) -> dict[str, Any]:
        """All of it, for `json.dumps`: what each figure was drawn of, and the weights behind the boundaries."""
        return {
            "study": "piat-toy",
            "paper": PAPER,
            "command": self.command,
            "versions": versions(),
            "settings": asdict(self.settings) | {"margin": self.settings.circles.margin},
            "ideal_robust_accuracy": list(self.ideal),
            "runs": [_run(run) for run in self.runs],
            "claims": [asdict(claim) for claim in self.claims],
            "shown_seed": self.shown,
            "boundaries": {name: _change(change) for name, change in self.changes.items()},
            "landscapes": {
                where: {name: asdict(plane) for name, plane in planes.items()}
                for where, planes in self.landscapes.items()
            },
        }


def _run(run: Run) -> dict[str, Any]:
    fields = asdict(run)
    del fields["method"]
    weight = "dynamic" if run.method.weight is None else run.method.weight
    return {"method": str(run.method), "mu": run.method.mu, "lambda": weight, **fields}


def _change(change: Change) -> dict[str, Any]:
    stages = {stage: {name: t.tolist() for name, t in weights.items()} for stage, weights in change.stages.items()}
    return {"epoch": change.epoch, "robust_before": change.before, "robust_after": change.after, "weights": stages}
