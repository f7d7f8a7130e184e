"""Attacks that are made on one model and tried on another: the matrix of sources and targets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.evaluation.bench import Bench
from art_ext.evaluation.facts import interval
from art_ext.evaluation.figures.drawing import decorate, figure_of, plain
from art_ext.evaluation.native import NativeAttack, PGDAttack
from art_ext.evaluation.prepare import check_options, prepare
from art_ext.evaluation.runner import inspect
from art_ext.evaluation.table import aligned, percent
from art_ext.evaluation.twins import undefended
from art_ext.isolation import derive_seed, seeded
from art_ext.model import evaluating, frozen
from art_ext.progress import progress_bar
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# all steps, also where the source has fallen long ago: a point far behind its boundary crosses that of another model
TRANSFERRED = PGDAttack(name="PGD-50 on the margin", steps=50, relative_step=0.1, objective="margin", early_exit=False)


@dataclass(frozen=True, kw_only=True)
class TransferMatrix:
    """Accuracy of each target on the examples made on each source; ``print(matrix)`` shows a table.

    Args:
        sources: names of the models that were attacked, (S,).
        targets: names of the models that the examples were tried on, (T,).
        accuracies: share of all examples that the target classifies correctly, S rows of T numbers in [0, 1].
        clean: accuracy of each target without attack, (T,).
        attack: name of the attack.
        threat: norm, ε and valid range.
        n_examples: number of examples.
        seed: of all random choices.

    Example:
        >>> matrix = TransferMatrix(
        ...     sources=("a", "b"), targets=("a", "b"), accuracies=((0.1, 0.6), (0.5, 0.3)), clean=(0.9, 0.8),
        ...     attack="PGD", threat=ThreatModel("linf", 0.1), n_examples=10, seed=0,
        ... )
        >>> print(matrix)
        source        a        b
        clean   90.00 %  80.00 %
        a       10.00 %  60.00 %
        b       50.00 %  30.00 %
        PGD; ℓ∞ ε=0.1; 10 images; seed 0
        >>> matrix.stronger_than_own()
        {}
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    accuracies: tuple[tuple[float, ...], ...]
    clean: tuple[float, ...]
    attack: str
    threat: ThreatModel
    n_examples: int
    seed: int

    def stronger_than_own(self) -> dict[str, str]:
        """Targets that examples of another source fool more often than their own do, with the strongest such source.

        That is a sign of masked gradients (Carlini et al. 2019): the attack that knows the model must be the strongest.
        A difference within the 95 % interval of the own accuracy does not count.
        """
        rows = dict(zip(self.sources, self.accuracies, strict=True))
        found = {}
        for j, target in enumerate(self.targets):
            best = min(rows, key=lambda name: rows[name][j])
            if target in rows and rows[best][j] < interval(rows[target][j], self.n_examples)[0]:
                found[target] = best
        return found

    def __str__(self) -> str:
        lines = {"clean": self.clean, **dict(zip(self.sources, self.accuracies, strict=True))}
        rows = [(name, *map(percent, shares)) for name, shares in lines.items()]
        return "\n".join([*aligned([("source", *self.targets), *rows]), self._note()])

    def figure(self) -> Figure:
        """A heat map."""
        return figure_of(self._draw, size=(2.6 + 0.7 * len(self.targets), 2.2 + 0.45 * len(self.sources)))

    def _draw(self, axes: Axes) -> None:
        decorate(axes, title="Accuracy under transfer, in %", x_label="target", y_label="source", note=self._note())
        axes.imshow(self.accuracies, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(self.targets)), [plain(t) for t in self.targets], rotation=30, ha="right")
        axes.set_yticks(range(len(self.sources)), [plain(s) for s in self.sources])
        axes.spines[:].set_visible(False)
        for i, row in enumerate(self.accuracies):
            for j, share in enumerate(row):
                colour = "white" if share > 0.5 else "0.25"
                axes.text(j, i, f"{100 * share:.1f}", ha="center", va="center", fontsize=8, color=colour)

    def _note(self) -> str:
        return f"{self.attack}; {self.threat}; {self.n_examples} images; seed {self.seed}"


def transfer_matrix(
    models: Mapping[str, PyTorchClassifier | nn.Module],
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    attack: NativeAttack = TRANSFERRED,
    twins: bool = True,
    batch_size: int = 128,
    seed: int = 0,
    progress: bool = True,
) -> TransferMatrix:
    """Attack each model and try the examples on every other one.

    All examples are attacked, whether the source classifies them correctly or not. A randomised target is judged by
    one pass.

    Args:
        models: by name, as in `evaluate`, all of the same inputs and classes.
        x: inputs (N, ...), as in `evaluate`.
        y: labels, as in `evaluate`.
        threat: norm, ε and valid range.
        attack: on each source; by default PGD that takes all of its 50 steps.
        twins: also attack the undefended network inside each defense, where there is one.
        batch_size: examples per pass.
        seed: of all random choices.
        progress: show a progress bar.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: no model, or an argument out of its range.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((4, 6), np.float32), np.arange(4) % 2
        >>> nets = {"a": nn.Linear(6, 2), "b": nn.Linear(6, 2)}
        >>> matrix = transfer_matrix(nets, x, y, threat=ThreatModel("linf", 0.1), progress=False)
        >>> matrix.sources, matrix.targets
        (('a', 'b'), ('a', 'b'))
    """
    check_options(threat=threat, eot=1, batch_size=batch_size, seed=seed)
    if not models:
        raise ValueError("models must name at least one model; got none")
    if not isinstance(attack, NativeAttack) or isinstance(attack, type):
        raise TypeError(f"attack must be a native attack, e.g. PGDAttack(name='PGD-50', steps=50); got {attack!r}")
    benches = {name: Bench.of(prepare(m, x, y, threat), threat, batch_size, seed) for name, m in models.items()}
    with ExitStack() as stack:
        for bench in benches.values():
            stack.enter_context(evaluating(bench.model))
            stack.enter_context(frozen(bench.model))
        sources = {name: bench.model for name, bench in benches.items()} | (_twins(benches) if twins else {})
        clean = tuple(_accuracy(bench, bench.x, "clean") for bench in benches.values())
        accuracies = []
        bar = stack.enter_context(progress_bar(len(sources), "source", show=progress))
        for name, source in sources.items():
            bar.set_description(name)
            x_adv = _attacked(attack, source, next(iter(benches.values())), name)
            accuracies.append(tuple(_accuracy(bench, x_adv, name) for bench in benches.values()))
            bar.update()
    return TransferMatrix(
        sources=tuple(sources),
        targets=tuple(benches),
        accuracies=tuple(accuracies),
        clean=clean,
        attack=attack.name,
        threat=threat,
        n_examples=len(next(iter(benches.values())).x),
        seed=int(seed),
    )


def _twins(benches: Mapping[str, Bench]) -> dict[str, nn.Module]:
    found = {f"inside {name}": undefended(bench.model, bench.tried()) for name, bench in benches.items()}
    return {name: twin for name, twin in found.items() if twin is not None}


def _attacked(attack: NativeAttack, source: nn.Module, bench: Bench, name: str) -> Tensor:
    """Examples made on ``source``, on the CPU and inside the threat model."""
    device = next((p.device for p in source.parameters()), torch.device("cpu"))
    label = f"transfer {name}"
    generator, found = torch.Generator(device).manual_seed(derive_seed(bench.seed, f"{label} generator")), []
    with seeded(derive_seed(bench.seed, label)):
        for index in torch.arange(len(bench.x)).split(bench.batch_size):
            batch, threat = bench.x[index], bench.threat.select(index)
            x_adv = attack.run(
                source, batch.to(device), bench.y[index].to(device), threat=threat, eot=1, generator=generator
            )
            found.append(inspect(x_adv.cpu(), batch, threat)[0])
    return torch.cat(found)


def _accuracy(bench: Bench, x: Tensor, label: str) -> float:
    with seeded(derive_seed(bench.seed, f"judge {label}")):
        right = bench.judge(x)[0] == bench.y
    return right.float().mean().item()
