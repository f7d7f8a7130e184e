"""Which family a detector takes which attack for, among them attacks that it has never seen."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from art_ext.detectors.checks import check_crafts
from art_ext.detectors.families import NONE, Craft, attacked
from art_ext.detectors.forensics import AttackForensics
from art_ext.detectors.subjects import Judged, Subjects, subjects
from art_ext.detectors.unseen import unseen_attacks
from art_ext.evaluation.figures.drawing import INK, decorate, figure_of, plain
from art_ext.evaluation.report import environment
from art_ext.evaluation.stored import read_fields, write_fields
from art_ext.evaluation.table import aligned, percent
from art_ext.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TAKEN = "taken for, in % of the row"


@dataclass(frozen=True, kw_only=True)
class ConfusionReport:
    """The result of `confusion`; ``print(report)`` shows a table.

    Args:
        families: what a detector can say, ``"none"`` first, (F,).
        counts: for each row of images, by name, how many of them were taken for which family; ``"none"`` are the clean
            images, the others those that an attack changed.
        fooled: how many of each row the classifier gets wrong.
        caught: how many of those are taken for attacked.
        seen: rows whose attack the detector was trained on.
        false_positive_rate: that the threshold was chosen for.
        threat: of the attacks that have one.
        n_examples: images, of which the attacks got those that the classifier gets right.
        seed: of all random choices.
        versions: of art_ext, torch, ART, numpy and Python.
        device: where the networks were.
        precision: dtype of their weights.

    Example:
        >>> report = ConfusionReport(
        ...     families=("none", "fgsm"), counts={"none": (95, 5), "fgsm": (10, 70), "deepfool": (60, 20)},
        ...     fooled={"none": 20, "fgsm": 50, "deepfool": 80}, caught={"none": 2, "fgsm": 45, "deepfool": 20},
        ...     seen=("fgsm",), false_positive_rate=0.05, threat="ℓ∞ ε=0.1", n_examples=100,
        ... )
        >>> print(report)
        images               n     none     fgsm  detected   fools  of those detected
        none               100  95.00 %   5.00 %    5.00 %      20            10.00 %
        fgsm                80  12.50 %  87.50 %   87.50 %      50            90.00 %
        deepfool (unseen)   80  75.00 %  25.00 %   25.00 %      80            25.00 %
        taken for, in % of the row; threshold for 5.00 % false alarms; ℓ∞ ε=0.1; 100 images; seed 0
        >>> ConfusionReport.from_json(report.to_json()) == report
        True
    """

    families: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    fooled: dict[str, int]
    caught: dict[str, int]
    seen: tuple[str, ...]
    false_positive_rate: float
    threat: str
    n_examples: int
    seed: int = 0
    versions: dict[str, str] | None = None
    device: str = "cpu"
    precision: str = "float32"

    def detected(self, row: str) -> float:
        """Share of a row's images that are taken for attacked; NaN where there are none."""
        total = sum(self.counts[row])
        return 1 - self.counts[row][0] / total if total else float("nan")

    def __str__(self) -> str:
        head = ("images", "n", *self.families, "detected", "fools", "of those detected")
        return "\n".join([*aligned([head, *map(self._line, self.counts)]), f"{TAKEN}; {self._note()}"])

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """The report as JSON; also written to ``path``, atomically, if given.

        Raises:
            OSError: ``path`` cannot be written; an older file there is untouched.
        """
        return write_fields(asdict(self), path)

    @classmethod
    def from_json(cls, source: str | os.PathLike[str]) -> ConfusionReport:
        """The report of a JSON text, or of a file that `to_json` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: not JSON, or not such a report; the message names the fields.
        """
        data = read_fields(source, {f.name for f in fields(cls)}, what="ConfusionReport")
        data |= {name: tuple(data[name]) for name in ("families", "seen")}
        return cls(**data | {"counts": {row: tuple(counts) for row, counts in data["counts"].items()}})

    def figure(self) -> Figure:
        """A heat map."""
        return figure_of(self.draw, size=(2.9 + 0.7 * len(self.families), 1.9 + 0.34 * len(self.counts)))

    def draw(self, axes: Axes) -> None:
        """Paint the heat map on matplotlib ``axes``, each row as shares of its images."""
        shares = [self._shares(row) for row in self.counts]
        decorate(axes, title=TAKEN.capitalize(), x_label="", y_label="", note=self._note())
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(self.families)), [plain(f) for f in self.families], rotation=30, ha="right")
        axes.set_yticks(range(len(self.counts)), [plain(self._told(row)) for row in self.counts])
        axes.spines[:].set_visible(False)
        for i, row in enumerate(shares):
            for j, share in enumerate(row):
                colour = "white" if share > 0.5 else "0.25"
                axes.text(j, i, f"{100 * share:.0f}", ha="center", va="center", fontsize=8, color=colour)
        axes.axhline(len(self.seen) + 0.5, color=INK, linewidth=1)  # below it, what the detector has not seen

    def _shares(self, row: str) -> list[float]:
        total = sum(self.counts[row])
        return [count / total if total else float("nan") for count in self.counts[row]]

    def _told(self, row: str) -> str:
        return row if row in (NONE, *self.seen) else f"{row} (unseen)"

    def _line(self, row: str) -> tuple[str, ...]:
        fooled, shares = self.fooled[row], map(percent, self._shares(row))
        of_those = percent(self.caught[row] / fooled if fooled else None)
        total = str(sum(self.counts[row]))
        return (self._told(row), total, *shares, percent(self.detected(row)), str(fooled), of_those)

    def _note(self) -> str:
        rate = f"threshold for {percent(self.false_positive_rate)} false alarms"
        return f"{rate}; {self.threat}; {self.n_examples} images; seed {self.seed}"


def confusion(
    detector: AttackForensics,
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    attacks: Mapping[str, Craft] | None = None,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> ConfusionReport:
    """What a detector takes clean images, each of its families and attacks that it has never seen for.

    Clean images are all of ``x``, so that the first row tells the rate of false alarms. The others are made of those
    that the classifier gets right; images that an attack gave back unchanged are in no row.

    Args:
        detector: fitted; none of ``x`` should have been trained on.
        x: images (N, C, H, W) in [0, 1]; not modified.
        y: labels, (N,) or one-hot.
        attacks: that it has not seen, by name; functions ``(model, x, y, *, generator) -> x_adv`` or ART attacks.
            Default: `unseen_attacks`.
        batch_size: images per call of an attack.
        seed: of all random choices.
        progress: show a progress bar.

    Raises:
        sklearn.exceptions.NotFittedError: before `AttackForensics.fit`.
        TypeError: an argument of the wrong kind.
        ValueError: bad images or labels; an attack with the name of a family.

    Example:
        >>> import numpy as np
        >>> from art.estimators.classification import PyTorchClassifier
        >>> from torch import nn
        >>> from art_ext.threat import ThreatModel
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 8, 8), 3, clip_values=(0, 1))
        >>> detector = AttackForensics(
        ...     classifier, threat=ThreatModel("linf", 0.1), families=["fgsm"], held_out=0.4, progress=False
        ... )
        >>> x, y = np.random.default_rng(0).random((60, 1, 8, 8), np.float32), np.arange(60) % 3
        >>> detector.fit(x, y, nb_epochs=1)
        >>> list(confusion(detector, x, y, attacks={}, progress=False).counts)
        ['none', 'fgsm']
    """
    found = subjects(detector, x, y, batch_size=batch_size, seed=seed)
    given = unseen_attacks(detector.classifier, threat=detector.threat) if attacks is None else dict(attacks)
    check_crafts("attacks", given, taken=detector.families)
    rows = {NONE: found.judge(found.x, found.y)}
    crafts = detector.crafts | given
    with progress_bar(len(crafts), "attack", show=progress) as bar:
        for name, craft in crafts.items():
            bar.set_description(name)
            rows[name] = _row(found, name, craft)
            bar.update()
    return ConfusionReport(
        families=detector.families,
        counts={name: judged.counts(len(detector.families)) for name, judged in rows.items()},
        fooled={name: int(judged.wrong.sum()) for name, judged in rows.items()},
        caught={name: int((judged.wrong & (judged.family > 0)).sum()) for name, judged in rows.items()},
        seen=tuple(detector.crafts),
        false_positive_rate=float(detector.false_positive_rate),
        threat=str(detector.threat),
        n_examples=len(found.x),
        seed=int(seed),
        **environment(found.model),
    )


def _row(found: Subjects, name: str, craft: Craft) -> Judged:
    x, y = found.x[found.right], found.y[found.right]
    x_adv = attacked(
        found.model,
        x,
        y,
        craft,
        batch_size=found.batch_size,
        eight_bit=found.eight_bit,
        seed=found.seed,
        name=f"test {name}",
    )
    changed = (x_adv != x).flatten(1).any(1)
    return found.judge(x_adv[changed], y[changed])
