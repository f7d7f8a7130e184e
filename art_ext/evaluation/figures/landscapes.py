"""The loss around inputs, and around weights, on a plane through them."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, inf, pi, sin
from numbers import Integral, Real

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.func import functional_call

from art_ext.attacks import Objective, get_objective, input_gradient, pgd
from art_ext.evaluation.figures.landscape import Landscape
from art_ext.evaluation.prepare import check_options, prepare
from art_ext.isolation import derive_seed, seeded
from art_ext.model import DefendedModel, evaluating, frozen
from art_ext.naming import lookup
from art_ext.threat import ThreatModel, per_example
from art_ext.validation import Images, Labels

DIRECTIONS = {
    "adversarial+random": ("where PGD-20 ends", "random"),
    "steepest+random": ("steepest ascent", "random"),
    "random+random": ("random", "another random"),
}
VALUES = {"ce": "cross entropy", "margin": "margin, > 0 where misclassified"}


def input_landscape(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    threat: ThreatModel,
    steps: int = 21,
    directions: str = "adversarial+random",
    objective: str = "ce",
    batch_size: int = 128,
    seed: int = 0,
) -> Landscape:
    """The loss around inputs, averaged over them, from −2ε to 2ε along two directions.

    A smooth model rises towards the adversarial direction; spikes, cliffs and flat ground around the input are signs of
    masked gradients. Each image has its own directions, of length ε in the norm of the threat model: the first as
    ``directions`` says, a random one of signs (ℓ∞) or a Gaussian one at right angles to the first (ℓ2). The plane is
    cut to the valid range, as an attack is. The dashed line is the edge of the threat model.

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, ...) and ``y`` (N,).
        x: inputs, within ``threat.clip``.
        y: labels.
        threat: norm, ε and valid range.
        steps: points along each direction, odd (the middle is the input itself), at least 3; costs N · steps² forwards.
        directions: ``"adversarial+random"`` (towards the end of PGD-20), ``"steepest+random"`` (the sign of the
            gradient, or the gradient in ℓ2), ``"random+random"``.
        objective: ``"ce"`` or ``"margin"``, whose 0 is drawn as a line: where predictions turn, on average.
        batch_size: examples per pass.
        seed: of the random directions.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> plane = input_landscape(nn.Linear(2, 2), x, y, threat=ThreatModel("linf", 0.1), steps=3)
        >>> plane.x, len(plane.values)
        ((-2.0, 0.0, 2.0), 3)
    """
    check_options(threat=threat, eot=1, batch_size=batch_size, seed=seed)
    first, second = lookup(DIRECTIONS, directions, what="directions")
    goal, places = _goal(objective), _places("threat", 2.0, steps)
    _, model, images, labels = prepare(classifier, x, y, threat)
    generator = torch.Generator(model.device).manual_seed(derive_seed(seed, "input landscape"))

    def plane(rows: Tensor, x: Tensor, y: Tensor) -> Callable[[float, float], Tensor]:
        ball = threat.select(rows)
        one = _direction(directions.split("+")[0], model, x, y, ball, goal, generator)
        two = _direction("random", model, x, y, ball, goal, generator)
        if ball.norm == "l2":
            two = ball.radius(x) * ball.steepest(two - _along(two, ball.steepest(one)))
        return lambda p, q: model(_cut(x + p * one + q * two, ball))

    with seeded(derive_seed(seed, "input landscape")):
        values = _mean(model, images, labels, goal, places, batch_size, plane)
    return Landscape(
        title=f"{VALUES[objective].split(',')[0].capitalize()} around the inputs",
        x_label=f"{first} (in ε)",
        y_label=f"{second} (in ε)",
        z_label=VALUES[objective],
        x=places,
        y=places,
        values=values,
        outline=_edge(threat),
        note=f"mean of {len(images)} images; {threat}; seed {seed}",
    )


def parameter_landscape(
    classifier: PyTorchClassifier | nn.Module,
    x: Images,
    y: Labels,
    *,
    seed: int = 0,
    span: float = 1.0,
    steps: int = 21,
    objective: str = "ce",
    clip: tuple[float, float] | None = (0.0, 1.0),
    batch_size: int = 128,
) -> Landscape:
    """The loss around the weights, along two random directions (Li et al. 2018, https://arxiv.org/abs/1712.09913).

    Directions are Gaussian, and each filter of a direction is scaled to the norm of the filter it belongs to, so that
    networks of different scales can be compared; biases and the parameters of normalisation layers stay. The weights
    themselves are never written to, and buffers are not updated (eval mode).

    Args:
        classifier: as in `evaluate`, which also describes ``x`` (N, ...) and ``y`` (N,).
            Preprocessors stay as they are.
        x: inputs, clean or adversarial ones.
        y: labels.
        seed: of the directions.
        span: the plane reaches from −span to span; at 1 a direction is as long as the weights.
        steps: points along each direction, odd, at least 3; costs N · steps² forwards.
        objective: ``"ce"`` or ``"margin"``.
        clip: lowest and highest valid input value, or None.
        batch_size: examples per pass.

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: an argument out of its range, or a network without weights of two dimensions.

    Example:
        >>> import numpy as np
        >>> x, y = np.random.default_rng(0).random((4, 2), np.float32), np.array([0, 1, 0, 1])
        >>> parameter_landscape(nn.Linear(2, 2), x, y, span=0.5, steps=3).x
        (-0.5, 0.0, 0.5)
    """
    threat = ThreatModel("linf", 1.0, clip)
    check_options(threat=threat, eot=1, batch_size=batch_size, seed=seed)
    goal, places = _goal(objective), _places("span", span, steps)
    _, model, images, labels = prepare(classifier, x, y, threat)
    weights = {n: p.detach() for n, p in model.named_parameters() if n.startswith("network.") and p.ndim > 1}
    if not weights:
        raise ValueError("classifier must have weights of at least two dimensions; its network has none")
    generator = torch.Generator(model.device).manual_seed(derive_seed(seed, "parameter landscape"))
    one, two = ({n: filter_normalised(w, generator) for n, w in weights.items()} for _ in range(2))

    def plane(rows: Tensor, x: Tensor, y: Tensor) -> Callable[[float, float], Tensor]:
        # another set of weights for the call: the network's own are never written to, so there is none to restore
        return lambda p, q: functional_call(model, {n: w + p * one[n] + q * two[n] for n, w in weights.items()}, (x,))

    with seeded(derive_seed(seed, "parameter landscape")):
        values = _mean(model, images, labels, goal, places, batch_size, plane)
    return Landscape(
        title=f"{VALUES[objective].split(',')[0].capitalize()} around the weights",
        x_label="filter-normalised random direction",
        y_label="another one",
        z_label=VALUES[objective],
        x=places,
        y=places,
        values=values,
        note=f"mean of {len(images)} images; seed {seed}",
    )


def filter_normalised(weight: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A Gaussian direction like ``weight`` (F, ...), each of its F filters as long as that of ``weight``.

    Example:
        >>> weight = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
        >>> filter_normalised(weight).norm(dim=1).round(decimals=4)
        tensor([5., 2.])
    """
    direction = torch.empty_like(weight).normal_(generator=generator)
    length, own = (torch.linalg.vector_norm(t.flatten(1), dim=1) for t in (weight, direction))
    return direction * per_example(length / own.clamp(min=torch.finfo(own.dtype).tiny), direction)


def _goal(objective: str) -> Objective:
    lookup(VALUES, objective, what="objective")
    return get_objective(objective)


def _places(name: str, span: float, steps: int) -> tuple[float, ...]:
    if not isinstance(span, Real) or not 0 < span < inf:
        raise ValueError(f"{name} must be > 0 and finite; got {span!r}")
    if not isinstance(steps, Integral) or steps < 3 or steps % 2 == 0:
        raise ValueError(f"steps must be an odd whole number of at least 3; got {steps!r}")
    half = steps // 2
    return tuple(span * i / half for i in range(-half, half + 1))


@torch.no_grad()
def _mean(
    model: DefendedModel,
    images: Images,
    labels: Labels,
    goal: Objective,
    places: tuple[float, ...],
    batch_size: int,
    plane: Callable[[Tensor, Tensor, Tensor], Callable[[float, float], Tensor]],
) -> tuple[tuple[float, ...], ...]:
    """Rows of the mean objective where ``plane(rows, x, y)`` gives the logits of a batch at a place (p, q)."""
    total = torch.zeros(len(places), len(places), dtype=torch.float64, device=model.device)
    with evaluating(model), torch.autocast(model.device.type, enabled=False):
        for rows in torch.arange(len(images)).split(batch_size):
            x, y = (torch.from_numpy(a[rows.numpy()]).to(model.device) for a in (images, labels))
            logits = plane(rows, x, y)
            for i, q in enumerate(places):
                total[i] += torch.stack([goal(logits(p, q), y).double().sum() for p in places])
    return tuple(tuple(row) for row in (total / len(images)).tolist())


def _direction(
    kind: str,
    model: DefendedModel,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    goal: Objective,
    generator: torch.Generator,
) -> Tensor:
    """For each example one of length ε."""
    if kind == "adversarial":
        step = threat.eps / 4
        delta = pgd(model, x, y, threat=threat, steps=20, step_size=step, objective=goal, generator=generator) - x
        return threat.radius(x) * delta / per_example(threat.distance(delta, torch.zeros_like(x)).clamp(min=1e-12), x)
    with frozen(model):
        ascent = input_gradient(model, x, y, goal)[0] if kind == "steepest" else torch.empty_like(x)
    # the sign of a Gaussian is ±1, its direction uniform on the sphere: what "random" means in either norm
    return threat.radius(x) * threat.steepest(ascent.normal_(generator=generator) if kind == "random" else ascent)


def _along(a: Tensor, unit: Tensor) -> Tensor:
    return per_example((a * unit).flatten(1).sum(1), unit) * unit


def _cut(x: Tensor, threat: ThreatModel) -> Tensor:
    return x if threat.clip is None else x.clamp(*threat.clip)


def _edge(threat: ThreatModel) -> tuple[tuple[float, float], ...]:
    """Where p · one + q · two is of length ε: orthogonal in ℓ2; in ℓ∞, signs somewhere agree and somewhere differ."""
    if threat.norm == "linf":
        return (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)
    return tuple((cos(i * pi / 48), sin(i * pi / 48)) for i in range(96))
