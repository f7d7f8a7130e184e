"""Accuracy as a curve: over the radius, over an attack's iterations, over the draws that a gradient averages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import pgd
from art_ext.attacks.pgd import check_steps
from art_ext.evaluation.bench import Bench
from art_ext.evaluation.figures.curve import STD, Curve, ascending
from art_ext.evaluation.native import PGDAttack
from art_ext.evaluation.prepare import check_options, prepare
from art_ext.isolation import derive_seed, seeded
from art_ext.model import evaluating
from art_ext.threat import ThreatModel
from art_ext.validation import Images, Labels

RECORD = (PGDAttack(name="margin-PGD-20", objective="margin"), PGDAttack(name="PGD-20"))
LONG = (PGDAttack(name="margin-PGD-100", objective="margin", steps=100), PGDAttack(name="PGD-100", steps=100))
WORST = "worst case"


def accuracy_over_eps(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    eps: Sequence[float],
    attack: PGDAttack | Sequence[PGDAttack] = RECORD,
    eot: int = 1,
    batch_size: int = 128,
    seed: int = 0,
) -> Curve:
    """Accuracy under attack at growing radii: it must fall to zero, or the evaluation is not to be trusted.

    Attacks are started warm. An example that was broken stays broken, since a larger ball contains the smaller one;
    the others are attacked again from where the smaller radius ended. So the curve never rises.

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, ...) and ``y`` (N,).
        x: inputs, within ``threat.clip``.
        y: labels.
        threat: norm and valid range; its ε is not used.
        eps: ascending radii ≥ 0 on the scale of the inputs; 0 is the clean accuracy.
        attack: one or several, of which each example meets the worst; default: PGD-20 on the margin and on the cross
            entropy, with steps of ε/4.
        eot: draws whose gradients are averaged, for a randomised model; one draw judges.
        batch_size: examples per pass.
        seed: of all random choices.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> net, x, y = nn.Linear(2, 2), np.array([[0.9, 0.1], [0.55, 0.5]], np.float32), np.array([0, 0])
        >>> _ = net.weight.data.copy_(torch.eye(2)), net.bias.data.zero_()
        >>> accuracy_over_eps(net, x, y, threat=ThreatModel("linf", 0.1), eps=[0, 0.1, 0.5]).lines["worst case"]
        (1.0, 0.5, 0.0)
    """
    check_options(threat=threat, eot=eot, batch_size=batch_size, seed=seed)
    radii, attacks = ascending("eps", eps, least=0), _attacks(attack)
    bench = _bench(classifier, x, y, threat, batch_size, eot, seed)
    starts: dict[str, Tensor] = {}
    shares = []
    with seeded(derive_seed(seed, "accuracy over eps")), evaluating(bench.model):
        alive = bench.predict("clean")[0] == bench.y
        for radius in radii:
            for one in attacks if radius else ():
                _attack_survivors(replace(bench, threat=threat.with_eps(radius)), one, starts, alive)
            shares.append(_share(alive))
    names = " and ".join(a.name for a in attacks)
    return Curve(
        title=f"Accuracy over the {str(threat).split()[0]} radius",
        x_label=f"ε ({str(threat).split()[0]})",
        x=radii,
        lines={WORST if len(attacks) > 1 else names: tuple(shares)},
        note=_note(f"worst case of {names}" if len(attacks) > 1 else names, bench, f"seed {seed}"),
    )


def accuracy_over_steps(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    attack: PGDAttack | Sequence[PGDAttack] = LONG,
    eot: int = 1,
    batch_size: int = 128,
    seed: int = 0,
) -> Curve:
    """Accuracy after each number of iterations of one run of PGD: is the attack at its end?

    An example counts as broken from the first iterate on that is misclassified; iteration 0 is the random start. The
    forwards of the attack themselves are watched, so the curve costs one forward and backward more than the run.

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, ...) and ``y`` (N,).
        x: inputs, within ``threat.clip``.
        y: labels.
        threat: norm, ε and valid range.
        attack: one, or several with the same number of steps, each a line, with one more for the worst case; default:
            PGD-100 on the margin and on the cross entropy, with steps of ε/4.
        eot: draws whose gradients, and logits for the judgement, are averaged.
        batch_size: examples per pass.
        seed: of all random choices.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> attack = PGDAttack(name="PGD-5", steps=5)
        >>> curve = accuracy_over_steps(nn.Linear(2, 2), x, y, threat=ThreatModel("linf", 0.1), attack=attack)
        >>> curve.x, len(curve.lines["PGD-5"])
        ((0.0, 1.0, 2.0, 3.0, 4.0, 5.0), 6)
    """
    check_options(threat=threat, eot=eot, batch_size=batch_size, seed=seed)
    attacks = _attacks(attack)
    if len({a.steps for a in attacks}) > 1:
        raise ValueError(f"attack must hold attacks of equal steps; got {', '.join(str(a.steps) for a in attacks)}")
    bench = _bench(classifier, x, y, threat, batch_size, eot, seed)
    with seeded(derive_seed(seed, "accuracy over steps")), evaluating(bench.model):
        part = bench.take(bench.predict("clean")[0] == bench.y)
        alive = {a.name: _alive(a, part) for a in attacks}
    if len(attacks) > 1:
        alive = {WORST: torch.stack([*alive.values()]).all(0), **alive}
    return Curve(
        title="Accuracy over iterations",
        x_label="iterations",
        x=tuple(range(attacks[0].steps + 1)),
        lines={name: tuple((rows.sum(1).double() / len(bench.x)).tolist()) for name, rows in alive.items()},
        log_x=True,
        note=_note(f"one run each, {threat}", bench, f"seed {seed}"),
    )


def accuracy_over_eot(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    draws: Sequence[int] = (1, 2, 4, 8, 16),
    attack: PGDAttack = RECORD[1],
    seeds: Sequence[int] = (0, 1, 2),
    judged: int = 10,
    batch_size: int = 128,
) -> Curve:
    """Accuracy over the draws averaged in each gradient, for a randomised model: how many does its attacker need?

    Every example is attacked to the last step, whether or not one draw misclassifies it before. The last iterate is
    judged on fresh draws: the accuracy is what a user of the model can expect, the mean over draws.

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, ...) and ``y`` (N,).
        x: inputs, within ``threat.clip``.
        y: labels.
        threat: norm, ε and valid range.
        draws: ascending numbers of draws per gradient.
        attack: the attack; default PGD-20.
        seeds: of the model's and the attack's random choices; the line is their mean, its band their standard deviation
            (of the sample, none for one seed).
        judged: fresh draws that judge each example.
        batch_size: examples per pass.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> net = nn.Sequential(nn.Linear(2, 2))
        >>> curve = accuracy_over_eot(net, x, y, threat=ThreatModel("linf", 0.1), draws=[1, 2], judged=1)
        >>> curve.x, sorted(curve.lines)
        ((1.0, 2.0), ['PGD-20', 'PGD-20 std'])
    """
    numbers, (attack,) = ascending("draws", draws, least=1, whole=True), _attacks(attack)
    if not seeds:
        raise ValueError("seeds must hold at least one seed; got none")
    for seed in seeds:
        check_options(threat=threat, eot=1, batch_size=batch_size, seed=seed)
    check_steps(judged=judged)
    bench = replace(_bench(classifier, x, y, threat, batch_size, 1, 0), draws=judged)
    with evaluating(bench.model):
        table = torch.tensor(
            [[_expected(replace(bench, eot=int(m), seed=int(s)), attack) for s in seeds] for m in numbers],
            dtype=torch.float64,
        )
    lines = {attack.name: tuple(table.mean(1).tolist())}
    if len(seeds) > 1:
        lines[attack.name + STD] = tuple(table.std(1).tolist())
    told = f"seeds {', '.join(map(str, seeds))}; each example judged by {judged} fresh draws"
    return Curve(
        title="Accuracy over draws per gradient",
        x_label="draws averaged in each gradient",
        x=numbers,
        lines=lines,
        log_x=True,
        note=_note(f"{attack.name}, {threat}", bench, told),
    )


def _attacks(attack: Any) -> tuple[PGDAttack, ...]:
    attacks = tuple(attack) if isinstance(attack, Sequence) else (attack,)
    if not attacks or not all(isinstance(a, PGDAttack) for a in attacks):
        raise TypeError(
            f"attack must be a PGDAttack or several, e.g. PGDAttack(name='PGD-50', steps=50); got {attack!r}"
        )
    names = [a.name for a in attacks]
    if len(set(names)) < len(names) or any(a.restarts > 1 for a in attacks):
        raise ValueError(f"attack must hold attacks of different names and without restarts; got {attack!r}")
    return attacks


def _bench(classifier: Any, x: Any, y: Any, threat: ThreatModel, batch_size: int, eot: int, seed: int) -> Bench:
    check_steps(eot=eot)
    return Bench.of(prepare(classifier, x, y, threat), threat, batch_size, seed, eot)


def _note(attack: str, bench: Bench, more: str) -> str:
    averaged = f"gradients of {bench.eot} draws averaged; " if bench.eot > 1 else ""
    return f"{attack}; {averaged}{len(bench.x)} images; {more}"


def _share(mask: Tensor) -> float:
    return mask.sum().item() / mask.numel()


def _generator(bench: Bench, attack: PGDAttack) -> torch.Generator:
    return torch.Generator(bench.model.device).manual_seed(derive_seed(bench.seed, attack.name))


def _batches(bench: Bench, index: Tensor | None = None) -> Iterator[tuple[Tensor, Tensor, Tensor, ThreatModel]]:
    """Of the examples ``index``, default all: positions, inputs and labels on the model's device, threat model."""
    index = torch.arange(len(bench.x)) if index is None else index
    for rows in index.split(bench.batch_size) if len(index) else ():
        yield (
            rows,
            bench.x[rows].to(bench.model.device),
            bench.y[rows].to(bench.model.device),
            bench.threat.select(rows),
        )


def _attack_survivors(bench: Bench, attack: PGDAttack, starts: dict[str, Tensor], alive: Tensor) -> None:
    """Attack those ``alive`` (N,), which is updated, from ``starts``; these are moved to where the attack ends."""
    cold, generator = attack.name not in starts, _generator(bench, attack)
    ends = starts.setdefault(attack.name, bench.x.clone())
    for rows, x, y, threat in _batches(bench, alive.nonzero().squeeze(1)):
        if cold:
            x_adv = attack.run(bench.model, x, y, threat=threat, eot=bench.eot, generator=generator)
        else:
            x_adv = _go_on(attack, bench, x, y, ends[rows])
        ends[rows] = x_adv.cpu()
        alive[rows] = bench.judge(x_adv)[0] == bench.y[rows]


def _go_on(attack: PGDAttack, bench: Bench, x: Tensor, y: Tensor, start: Tensor) -> Tensor:
    return pgd(
        bench.model,
        x,
        y,
        threat=bench.threat,
        steps=attack.steps,
        step_size=bench.threat.eps * attack.relative_step if attack.step_size is None else attack.step_size,
        objective=attack.objective,
        random_start=False,
        eot=bench.eot,
        early_exit=attack.early_exit and bench.draws == 1,
        start=start,
    )


class _Watched(nn.Module):
    """The model, and the logits of all its forwards."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.training = model, model.training
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(x)
        self.seen.append(logits.detach())
        return logits


def _alive(attack: PGDAttack, bench: Bench) -> Tensor:
    """Who has survived each iterate of one run and all before it: bool (steps + 1, N)."""
    generator, parts = _generator(bench, attack), [torch.ones(attack.steps + 1, 0, dtype=torch.bool)]
    # the loop's forward number k + 1 sees iterate k: one step more, and the last iterate is seen as well
    whole = replace(attack, steps=attack.steps + 1, early_exit=False)
    for _, x, y, threat in _batches(bench):
        watched = _Watched(bench.model)
        whole.run(watched, x, y, threat=threat, eot=bench.eot, generator=generator)
        logits = torch.stack(
            watched.seen[-whole.steps * bench.eot :]
        )  # an objective on the clean logits saw these first
        right = logits.unflatten(0, (whole.steps, bench.eot)).mean(1).argmax(2) == y
        parts.append(right.long().cummin(0).values.bool().cpu())
    return torch.cat(parts, 1)


def _expected(bench: Bench, attack: PGDAttack) -> float:
    """Mean accuracy, over the draws that judge, at the last iterates of one run."""
    whole, generator, right = replace(attack, early_exit=False), _generator(bench, attack), 0
    with seeded(derive_seed(bench.seed, f"accuracy over {bench.eot} draws")):
        for rows, x, y, threat in _batches(bench):
            x_adv = whole.run(bench.model, x, y, threat=threat, eot=bench.eot, generator=generator)
            right += int((bench.judge(x_adv) == bench.y[rows]).sum())
    return right / (bench.draws * len(bench.x))
