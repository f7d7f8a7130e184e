"""What is left of a detector against an attacker who does not know of it, and against one who does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import torch
from torch import Tensor

from art_ext.attacks import pgd
from art_ext.detectors.adaptive import check_counts, evade
from art_ext.detectors.forensics import AttackForensics
from art_ext.detectors.subjects import Judged, Subjects, subjects
from art_ext.evaluation.facts import eps_text
from art_ext.evaluation.figures.curve import Curve, ascending
from art_ext.evaluation.figures.drawing import figure_of
from art_ext.evaluation.report import environment
from art_ext.evaluation.stored import read_fields, write_fields
from art_ext.evaluation.table import aligned, percent
from art_ext.isolation import derive_seed, seeded
from art_ext.model import evaluating
from art_ext.progress import progress_bar
from art_ext.threat import ThreatModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

UNAWARE, AWARE = "unaware", "aware"
TOLD = {UNAWARE: "does not know of the detector", AWARE: "knows the detector"}


@dataclass(frozen=True, kw_only=True)
class EvasionReport:
    """The result of `evasion`; ``print(report)`` shows a table. Shares are of attacked images, for each ε, in [0, 1].

    Args:
        norm: of the attacks, ``"linf"`` or ``"l2"``.
        eps: radii, ascending.
        fooled: by attacker (``"unaware"``, ``"aware"``), the images that the classifier gets wrong.
        detected: those that are taken for attacked.
        evaded: those that the classifier gets wrong and that are not taken for attacked: where the attacker wins.
        false_positive_rate: that the threshold was chosen for.
        false_positives: share of clean images that are taken for attacked.
        n_examples: attacked images, those that the classifier gets right.
        steps: of each run of PGD.
        seed: of all random choices.
        versions: of art_ext, torch, ART, numpy and Python.
        device: where the networks were.
        precision: dtype of their weights.

    Example:
        >>> report = EvasionReport(
        ...     norm="linf", eps=(8 / 255, 0.1), fooled={"unaware": (0.5, 1.0), "aware": (0.4, 0.9)},
        ...     detected={"unaware": (1.0, 1.0), "aware": (0.2, 0.1)},
        ...     evaded={"unaware": (0.0, 0.0), "aware": (0.4, 0.9)}, false_positive_rate=0.05, false_positives=0.06,
        ...     n_examples=100, steps=150,
        ... )
        >>> print(report)
        attacker                       ε      fools  detected   evades
        does not know of the detector  8/255  50.00 %  100.00 %   0.00 %
        does not know of the detector  0.1   100.00 %  100.00 %   0.00 %
        knows the detector             8/255  40.00 %   20.00 %  40.00 %
        knows the detector             0.1    90.00 %   10.00 %  90.00 %
        PGD-150, ℓ∞; threshold for 5.00 % false alarms, 6.00 % of clean images here; 100 images; seed 0
        >>> EvasionReport.from_json(report.to_json()) == report
        True
    """

    norm: str
    eps: tuple[float, ...]
    fooled: dict[str, tuple[float, ...]]
    detected: dict[str, tuple[float, ...]]
    evaded: dict[str, tuple[float, ...]]
    false_positive_rate: float
    false_positives: float
    n_examples: int
    steps: int
    seed: int = 0
    versions: dict[str, str] | None = None
    device: str = "cpu"
    precision: str = "float32"

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [("attacker", "ε", "fools", "detected", "evades")]
        for attacker, told in TOLD.items():
            shares = zip(self.fooled[attacker], self.detected[attacker], self.evaded[attacker], strict=True)
            pairs = zip(self.eps, shares, strict=True)
            rows += [(told, eps_text(eps), *map(percent, found)) for eps, found in pairs]
        return "\n".join([*aligned(rows, left=(0, 1)), self._note()])

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; also written to ``path``, atomically, if given.

        Raises:
            OSError: ``path`` cannot be written; an older file there is untouched.
        """
        return write_fields(asdict(self), path)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> EvasionReport:
        """The report of a JSON text, or of a file that `to_json` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: not JSON, or not such a report; the message names the fields.
        """
        data = read_fields(source, {f.name for f in fields(cls)}, what="EvasionReport")
        for name in ("fooled", "detected", "evaded"):
            data[name] = {attacker: tuple(shares) for attacker, shares in data[name].items()}
        return cls(**data | {"eps": tuple(data["eps"])})

    def figure(self) -> Figure:
        """Curves over ε."""
        return figure_of(self.draw)

    def draw(self, axes: Axes) -> None:
        """Draw on matplotlib ``axes`` how often the classifier is fooled, and how often without a report."""
        lines = {
            "fools, whatever the detector says": self.fooled[UNAWARE],
            "evades, does not know of it": self.evaded[UNAWARE],
            "evades, knows it": self.evaded[AWARE],
        }
        title, note = "Attacks that go past classifier and detector", self._note()
        Curve(title=title, x_label="ε", x=self.eps, lines=lines, y_label="share of images", note=note).draw(axes)
        axes.set_ylim(-0.02, 1.02)
        axes.yaxis.set_major_formatter("{x:.0%}")

    def _note(self) -> str:
        norm, rate = {"linf": "ℓ∞", "l2": "ℓ2"}[self.norm], percent(self.false_positive_rate)
        alarms = f"threshold for {rate} false alarms, {percent(self.false_positives)} of clean images here"
        return f"PGD-{self.steps}, {norm}; {alarms}; {self.n_examples} images; seed {self.seed}"


def evasion(
    detector: AttackForensics,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    eps: Sequence[float],
    norm: str = "linf",
    steps: int = 150,
    restarts: int = 1,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> EvasionReport:
    """How often attackers fool the classifier without being detected, over ε.

    One does not know of the detector: PGD on the classifier's cross entropy. The other attacks both
    (`art_ext.detectors.adaptive.evade`); of all numbers about a detector, its success is the one that counts
    (Carlini & Wagner 2017, https://arxiv.org/abs/1705.07263). Both have as many steps, and their images are judged as
    picture files hold them where the detector works on such: choose whole 255ths for ε.

    Args:
        detector: fitted; none of ``x`` should have been trained on.
        x: images (N, C, H, W) in [0, 1]; not modified.
        y: labels, (N,) or one-hot.
        eps: radii, ascending.
        norm: ``"linf"`` or ``"l2"``.
        steps: of each run.
        restarts: rounds of the one who knows.
        batch_size: images per call of an attack.
        seed: of all random choices.
        progress: show a progress bar.

    Raises:
        sklearn.exceptions.NotFittedError: before `AttackForensics.fit`.
        TypeError: an argument of the wrong kind.
        ValueError: bad images or labels, an argument out of its range, a classifier that gets none of ``x`` right.

    Example:
        >>> import numpy as np
        >>> from art.estimators.classification import PyTorchClassifier
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 3, clip_values=(0, 1))
        >>> threat = ThreatModel("linf", 0.1)
        >>> detector = AttackForensics(classifier, threat=threat, families=["fgsm"], progress=False)
        >>> x, y = np.random.default_rng(0).random((100, 1, 8, 8), np.float32), np.arange(100) % 3
        >>> detector.fit(x, y, nb_epochs=1)
        >>> report = evasion(detector, x, y, eps=[0.1], steps=3, progress=False)
        >>> sorted(report.evaded)
        ['aware', 'unaware']
    """
    check_counts(steps=steps, restarts=restarts)
    balls = [ThreatModel(norm, value) for value in ascending("eps", eps, least=0)]
    found = subjects(detector, x, y, batch_size=batch_size, seed=seed)
    clean = found.judge(found.x, found.y)
    if bool(clean.wrong.all()):
        raise ValueError(f"x must hold images that the classifier gets right; it gets none of {len(found.x)} right")
    attackers = _attackers(found, steps, restarts)
    outcomes: dict[str, list[Judged]] = {name: [] for name in attackers}
    with progress_bar(len(attackers) * len(balls) * int((~clean.wrong).sum()), "img", show=progress) as bar:
        for name, attack in attackers.items():
            for ball in balls:
                bar.set_description(f"{name}, {ball}")
                outcomes[name].append(_judged(found, attack, ball, f"{name} {ball.eps}", bar))
    return EvasionReport(
        norm=balls[0].norm,
        eps=tuple(float(ball.eps) for ball in balls),
        fooled={name: _shares([o.wrong for o in told]) for name, told in outcomes.items()},
        detected={name: _shares([o.family > 0 for o in told]) for name, told in outcomes.items()},
        evaded={name: _shares([o.wrong & (o.family == 0) for o in told]) for name, told in outcomes.items()},
        false_positive_rate=float(detector.false_positive_rate),
        false_positives=float((clean.family > 0).double().mean()),
        n_examples=int((~clean.wrong).sum()),
        steps=steps,
        seed=int(seed),
        **environment(found.model),
    )


Attack = Callable[..., Tensor]


def _attackers(found: Subjects, steps: int, restarts: int) -> dict[str, Attack]:
    def unaware(x: Tensor, y: Tensor, ball: ThreatModel, generator: torch.Generator) -> Tensor:
        return pgd(found.model, x, y, threat=ball, steps=steps, generator=generator)

    def aware(x: Tensor, y: Tensor, ball: ThreatModel, generator: torch.Generator) -> Tensor:
        return evade(found.guarded, x, y, threat=ball, steps=steps, restarts=restarts, generator=generator)

    return {UNAWARE: unaware, AWARE: aware}


def _judged(found: Subjects, attack: Attack, ball: ThreatModel, label: str, bar: Any) -> Judged:
    right, device = found.right, found.model.device
    generator, parts = torch.Generator(device).manual_seed(derive_seed(found.seed, f"{label} generator")), []
    with seeded(derive_seed(found.seed, label)), evaluating(found.guarded):
        for x, y in zip(*(t[right].split(found.batch_size) for t in (found.x, found.y)), strict=True):
            parts.append(attack(x.to(device), y.to(device), ball, generator).cpu())
            bar.update(len(x))
    return found.judge(torch.cat(parts), found.y[right])


def _shares(masks: list[Tensor]) -> tuple[float, ...]:
    return tuple(float(mask.double().mean()) for mask in masks)
