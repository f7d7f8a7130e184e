"""`evaluate_purification`: a purified classifier under attacks that know all of it, beside controls that do not."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Generator, Tensor, nn

from art_ext.attacks import pgd, spatial
from art_ext.evaluation.corruptions import CorruptionReport, evaluate_corruptions
from art_ext.evaluation.evaluate import evaluate
from art_ext.evaluation.figures.drawing import svg
from art_ext.evaluation.figures.stages import Stages, stages
from art_ext.evaluation.native import FunctionAttack, PGDAttack
from art_ext.evaluation.report import RobustnessReport
from art_ext.isolation import seeded
from art_ext.model import DefendedModel
from art_ext.naming import lookup
from art_ext.nn.masking import Masking
from art_ext.nn.purification import Purification
from art_ext.scores import hard
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

Report = RobustnessReport | CorruptionReport
SHOWN = 8  # images
BOUND = ("PGD", "randomized", "skipped")  # attacks of the threat model itself: the lowest of them counts


@dataclass(frozen=True)
class Setting:
    """What the columns have in common."""

    model: DefendedModel
    threat: ThreatModel
    steps: int
    options: Mapping[str, Any]
    eot: int

    def judged(self, model: nn.Module, x: Images, y: Labels, suite: Any, threat: ThreatModel | None = None) -> Report:
        """A report on ``model``; indicators are left to `evaluate` on the whole defense."""
        given = {"threat": threat or self.threat, "suite": suite, "eot": self.eot, "indicators": False}
        return evaluate(model, x, y, **given, **self.options)

    @property
    def pgd(self) -> list[PGDAttack]:
        """PGD of so many steps."""
        return [PGDAttack(name=f"PGD-{self.steps}", steps=self.steps, relative_step=0.1)]


Column = Callable[[Setting, Images, Labels], Report]


def _skipped(s: Setting, x: Images, y: Labels) -> Report:
    network = without_purification(s.model)

    def skip(model: Any, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: Generator) -> Tensor:
        settings: dict[str, Any] = {"steps": s.steps, "objective": "margin", "generator": generator}
        return pgd(network, x, y, threat=threat, step_size=threat.eps / 10, **settings)

    return s.judged(s.model, x, y, [FunctionAttack(name="on the network alone", function=skip)])


def _l2(s: Setting, x: Images, y: Labels) -> Report:
    radius = s.threat.eps * x[0].size ** 0.5 / 4
    return s.judged(s.model, x, y, s.pgd, ThreatModel("l2", radius, s.threat.clip))


def _bent(s: Setting, x: Images, y: Labels) -> Report:
    attack = FunctionAttack(name="spatial", function=spatial, options={"max_shift": 1.5})
    return s.judged(s.model, x, y, [attack], ThreatModel("linf", 1.0, s.threat.clip))


COLUMNS: dict[str, tuple[str, Column]] = {
    "PGD": ("PGD through everything", lambda s, x, y: s.judged(s.model, x, y, s.pgd)),
    "randomized": (
        "APGD-CE and APGD-DLR through everything, AutoAttack's rand",
        lambda s, x, y: s.judged(s.model, x, y, "randomized"),
    ),
    "skipped": ("PGD on the network alone, tried on the defense: it does not know of the purifier", _skipped),
    "fixed": (
        "PGD where every pass has the same draw: nothing hides behind chance",
        lambda s, x, y: s.judged(with_fixed_draws(s.model), x, y, s.pgd),
    ),
    "l2": ("PGD within ε √pixels / 4 in ℓ2, which was not trained against", _l2),
    "spatial": ("images bent by at most a pixel and a half", _bent),
    "corruptions": ("blur, noise, weather and the like", lambda s, x, y: _corrupted(s, s.model, x, y)),
    "without": ("PGD on the network without the defense", lambda s, x, y: s.judged(_network(s), x, y, s.pgd)),
    "corruptions without": ("on the network without the defense", lambda s, x, y: _corrupted(s, _network(s), x, y)),
}


@dataclass(frozen=True)
class PurificationReport:
    """What `evaluate_purification` found, by column.

    Attributes:
        reports: a `RobustnessReport`, of corruptions a `CorruptionReport`, for each column.
        pictures: some images on their way through the purifier; None where there is no purifier.
    """

    reports: Mapping[str, Report]
    pictures: Stages | None = None

    @property
    def robust_accuracy(self) -> float:
        """The lowest accuracy under the attacks of the threat model, in [0, 1].

        Raises:
            ValueError: none of them was run.
        """
        found = [after(self.reports[name]) for name in BOUND if name in self.reports]
        if not found:
            raise ValueError(f"a robust accuracy needs one of the columns {', '.join(BOUND)}")
        return min(found)

    def to_json(self) -> str:
        """All reports, as a JSON object by column."""
        return json.dumps({name: json.loads(report.to_json()) for name, report in self.reports.items()})

    def to_html(self, path: str | os.PathLike[str], *, title: str = "") -> None:
        """Write the report of the strongest attack as a page, with the pictures, and what was not trained against.

        Args:
            path: the page, written atomically.
            title: its heading.

        Raises:
            ValueError: no column of the threat model's attacks.
            OSError: ``path`` cannot be written.
        """
        worst = min((self.reports[name] for name in BOUND if name in self.reports), key=after, default=None)
        if not isinstance(worst, RobustnessReport):
            raise ValueError(f"a page needs one of the columns {', '.join(BOUND)}")
        shown = [("Images on their way through the purifier", svg(self.pictures))] if self.pictures else []
        further = [self.reports[name] for name in ("l2", "spatial", "corruptions") if name in self.reports]
        worst.to_html(path, title=title, figures=shown, further=further)

    def __str__(self) -> str:
        """A line for each column: accuracy without attack and with it, and what it is."""
        lines = [f"{'':20} {'clean':>7} {'after':>7}"]
        for name, report in self.reports.items():
            lines.append(f"{name:20} {report.clean_accuracy:7.1%} {after(report):7.1%}  {COLUMNS[name][0]}")
        return "\n".join(lines)


def after(report: Report) -> float:
    """What is left under attack, or on average over corruptions, in [0, 1]."""
    return report.mean_corruption_accuracy if isinstance(report, CorruptionReport) else report.robust_accuracy


def evaluate_purification(
    classifier: PyTorchClassifier,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    columns: Sequence[str] = ("PGD", "randomized", "skipped", "fixed", "l2", "spatial", "corruptions", "without"),
    steps: int = 200,
    eot: int = 20,
    **options: Any,
) -> PurificationReport:
    """A purified classifier, or one behind random transforms, as the paper attacks it and with its controls.

    `evaluate` itself differentiates through everything and says whether its number is to be trusted. This tells where a
    number comes from: attacks that skip the purifier (they flatter it), draws that are held fixed, attacks that were
    not trained against, and the network without the defense. https://arxiv.org/abs/2401.16352

    Args:
        classifier: an ART classifier with a `PurifierPreprocessor` or a `RandomTransform`.
        x: images (N, C, H, W), float32 in the classifier's clip range.
        y: labels (N,) or one-hot (N, classes).
        threat: norm and ε of the columns ``PGD``, ``randomized``, ``skipped``, ``fixed`` and ``without``.
        columns: of `COLUMNS`.
        steps: of PGD; 200 (paper), of size ε / 10 (ours).
        eot: draws that a gradient averages; 20 (paper).
        **options: ``batch_size``, ``seed`` and ``progress`` of `evaluate`.

    Raises:
        TypeError: no `PyTorchClassifier`.
        ValueError: an unknown column (the nearest is proposed), no purifier or transform, and as `evaluate`.

    Example:
        >>> import numpy as np
        >>> from art_ext import RandomTransform
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        >>> given = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 2, clip_values=(0, 1),
        ...                           preprocessing_defences=[RandomTransform(kind="rt1")])
        >>> x, y = np.random.default_rng(0).random((4, 1, 8, 8), np.float32), np.array([0, 1, 0, 1])
        >>> found = evaluate_purification(given, x, y, threat=ThreatModel("linf", 0.1), columns=["PGD", "fixed"],
        ...                               steps=2, eot=2, progress=False)
        >>> list(found.reports)
        ['PGD', 'fixed']
    """
    chosen = {name: lookup(COLUMNS, name, what="column")[1] for name in columns}
    model = DefendedModel(classifier).eval()
    without_purification(model)
    setting = Setting(model, threat, steps, options, eot)
    reports = {name: column(setting, x, y) for name, column in chosen.items()}
    return PurificationReport(reports, _pictures(model, x, y, threat))


def _pictures(model: DefendedModel, x: Images, y: Labels, threat: ThreatModel) -> Stages | None:
    """Of the first images, before and after a short attack through everything."""
    found = [module for module in model.steps.modules() if isinstance(module, Purification)]
    if not found:
        return None
    images = torch.as_tensor(x[:SHOWN], device=model.device)
    with seeded(0):
        labels = hard(torch.as_tensor(y[:SHOWN], device=model.device))
        x_adv = pgd(model, images, labels, threat=threat, steps=20, step_size=threat.eps / 8, eot=4)
    return stages(found[0].purifier, found[0].transform, images, x_adv, note="PGD-20 through everything")


def without_purification(model: DefendedModel) -> DefendedModel:
    """The same network and preprocessors, less purifiers and random transforms.

    Raises:
        ValueError: there are none.
    """
    kept = nn.ModuleList(step for step in model.steps if not _purifies(step))
    if len(kept) == len(model.steps):
        raise ValueError("the classifier has neither a PurifierPreprocessor nor a RandomTransform to evaluate")
    return _around_steps(model, kept)


def with_fixed_draws(model: DefendedModel, seed: int = 0) -> DefendedModel:
    """The same model, whose random transforms draw the same in every pass; the network is shared, not copied."""
    steps = copy.deepcopy(model.steps)
    for module in steps.modules():
        if isinstance(module, Masking):
            module.seed = seed
    return _around_steps(model, steps)


def _purifies(step: nn.Module) -> bool:
    return any(isinstance(module, Masking | Purification) for module in step.modules())


def _around_steps(model: DefendedModel, steps: nn.ModuleList) -> DefendedModel:
    other = copy.copy(model)
    other._modules = {**model._modules, "steps": steps}
    return other


def _network(s: Setting) -> DefendedModel:
    return without_purification(s.model)


def _corrupted(s: Setting, model: nn.Module, x: Images, y: Labels) -> Report:
    return evaluate_corruptions(model, x, y, **s.options)
