"""RAT, randomized adversarial training via Taylor expansion (Jin et al. 2023, https://arxiv.org/abs/2303.10653)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.losses.base import Loss, LossOutput, register
from art_ext.losses.trades import trades
from art_ext.processes import ALONE, Processes
from art_ext.technique import Technique

PAPER = "https://arxiv.org/abs/2303.10653"


def head_gradient(logits: Tensor, features: Tensor, y: Tensor) -> Tensor:
    """∂ mean CE / ∂W of a last layer z = W h + b, summed over the features h: mean_i (p_i − e_{y_i}) · Σ h_i, (C,).

    Args:
        logits: z (N, C).
        features: h (N, D).
        y: labels (N,), int64.

    Example:
        >>> head_gradient(torch.zeros(1, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
        tensor([-1.5000,  1.5000])
    """
    error = logits.softmax(1) - F.one_hot(y, logits.shape[1])
    return (error * features.to(logits.dtype).sum(1, keepdim=True)).mean(0).detach()


def soft_labels(gap: Tensor) -> Tensor:
    """Label shares (C, C) of each class: 2/C for itself, the rest over the others in proportion to their ``gap``.

    The gap is that of two gradients (C,), shifted so that its least value is 0. Authors' code, which has 0.2 of 10
    classes and 0.02 of 100; where all others have none, or there are two classes, the others share alike.

    Example:
        >>> soft_labels(torch.tensor([0.0, 1.0, 3.0, 1.0]))[0]
        tensor([0.5000, 0.1000, 0.3000, 0.1000])
    """
    classes = len(gap)
    weights = (gap - gap.min()).expand(classes, classes).clone().fill_diagonal_(0)
    total = weights.sum(1, keepdim=True)
    alike = torch.ones_like(weights).fill_diagonal_(0) / (classes - 1)
    others = torch.where(total > 0, weights / total.clamp(min=torch.finfo(gap.dtype).tiny), alike)
    return others * (1 - 2 / classes) + torch.eye(classes).to(gap) * (2 / classes)


def _towards(logits: Tensor, target: Tensor) -> Tensor:
    """Mean KL(target ‖ p)."""
    return F.kl_div(logits.log_softmax(1), target, reduction="batchmean")


def rat(
    logits: Tensor, logits_adv: Tensor, y: Tensor, *, gradients: tuple[Tensor, Tensor], alpha: float, beta: float
) -> Tensor:
    """(1 − α) · CE(z, y) + α · first + α/2 · second + β · KL(p ‖ p').

    First and second are the means of KL(s⁺ ‖ p') and KL(s⁻ ‖ p), with `soft_labels` s⁺ of the gap between clean and
    adversarial gradient, s⁻ of its negative: of their absolute values in the first, of their squares in the second.

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64.
        gradients: `head_gradient` on clean and on adversarial inputs.
        alpha: 0.2 (authors' code).
        beta: 6 (authors' code).

    Example:
        >>> z, y, g = torch.zeros(2, 4), torch.tensor([0, 1]), torch.ones(4)
        >>> round(rat(z, z, y, gradients=(g, g), alpha=0.0, beta=6.0).item(), 4)  # log 4
        1.3863
    """
    clean, adv = gradients
    gaps = (clean.abs() - adv.abs(), clean**2 - adv**2)
    first, second = (
        (_towards(logits_adv, soft_labels(gap)[y]) + _towards(logits, soft_labels(-gap)[y])) / 2 for gap in gaps
    )
    plain = trades(logits, logits_adv, y, beta=beta) - alpha * F.cross_entropy(logits, y)
    return plain + alpha * first + alpha / 2 * second


@register("rat", "TRADES attacked at noisy weights, with soft labels (Taylor terms)", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class RAT(Loss):
    """TRADES whose attack sees weights with Gaussian noise, and the first two Taylor terms as soft labels.

    By the authors' code, but for its second-order term, where the code takes the negative gap twice (an apparent slip).
    The gradients are those of the rows at hand: of a process, and of a part of the batch.

    Args:
        alpha: weight of the Taylor terms, in [0, 1]; 0.2 (authors' code).
        beta: of the divergence; 6 (authors' code).
        noise: standard deviation on the convolution weights while attacking; 1e-4 (authors' code). In a network
            without convolutions on all weights of two or more dimensions (our decision).
    """

    objective: ClassVar[str] = "kl"
    start: ClassVar[str] = "gaussian"
    forwards: ClassVar[str] = "separate"
    alpha: float = 0.2
    beta: float = 6.0
    noise: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1]; got {self.alpha!r}")
        if not 0 <= self.noise < float("inf"):
            raise ValueError(f"noise must be ≥ 0, a standard deviation of weights; got {self.noise!r}")

    def technique(self) -> Technique:
        """Noisy weights for the attack, and the last layer for the loss."""
        return NoisyWeights(noise=self.noise)

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """With the gradient of the last layer's bias, where `compute` takes that of its weights."""
        assert logits is not None
        return self.value(logits, logits_adv, y, *(logits.new_ones(len(y), 1) for _ in range(2)))

    def value(self, logits: Tensor, logits_adv: Tensor, y: Tensor, features: Tensor, features_adv: Tensor) -> Tensor:
        """The loss for these inputs (N, D) of the last layer."""
        gradients = head_gradient(logits, features, y), head_gradient(logits_adv, features_adv, y)
        return rat(logits, logits_adv, y, gradients=gradients, alpha=self.alpha, beta=self.beta)

    def compute(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> LossOutput:
        """See `Loss`."""
        candidates = last_layers(model)
        with calls_of(candidates) as calls:
            logits = model(x)
            clean = _features(calls, logits)
            logits_adv = model(x_adv)
            adv = _features(calls, logits_adv)
        return LossOutput(self.value(logits, logits_adv, y, clean, adv), logits_adv)


Call = tuple[Tensor, Tensor]  # what a layer was given (N, D), and what it made of it (N, C)


def last_layers(network: nn.Module) -> list[nn.Module]:
    """The linear layers and 1×1 convolutions: one of them makes the logits."""
    pointwise = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
    return [*(m for m in network.modules() if isinstance(m, nn.Linear)), *pointwise]


@contextmanager
def calls_of(layers: Sequence[nn.Module]) -> Iterator[list[Call]]:
    """The last call of any of these layers, as a list of one, while the context is open."""
    last: list[Call] = []

    def note(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        last[:] = [(args[0].detach().flatten(1), out.detach().flatten(1))]

    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield last
    finally:
        for hook in hooks:
            hook.remove()


def _features(calls: list[Call], logits: Tensor) -> Tensor:
    """What the last layer was given.

    Raises:
        ValueError: the last linear layer that was called does not make the logits, as far as shapes tell.
    """
    if not calls or calls[-1][1].shape != logits.shape:
        raise ValueError(
            "the loss 'rat' needs a network whose last step is a linear layer or a 1×1 convolution; for another one "
            "use 'trades', which it is without its Taylor terms"
        )
    return calls[-1][0]


class NoisyWeights(Technique):
    """Gaussian noise on the weights while the attack looks at them, drawn for each batch, and gone afterwards.

    Args:
        noise: standard deviation, ≥ 0.
    """

    name, changes_network = "noisy-weights", True

    def __init__(self, *, noise: float = 1e-4) -> None:
        self.noise = noise

    def __repr__(self) -> str:
        """With its setting."""
        return f"NoisyWeights(noise={self.noise!r})"

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """All processes draw the same noise, on the device."""
        super().start(network, classes, seed, processes)
        weights = noisy_weights(network)
        self.random = torch.Generator(weights[0].device if weights else "cpu").manual_seed(seed)

    @contextmanager
    def attacking(self, model: nn.Module, x: Tensor) -> Iterator[None]:
        """The weights are noisy."""
        weights = noisy_weights(self.network)
        saved = [w.detach().clone() for w in weights]
        with torch.no_grad():
            for weight in weights:
                noise = torch.randn(weight.shape, generator=self.random, device=weight.device, dtype=weight.dtype)
                weight.add_(noise, alpha=self.noise)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(weights, saved)


def noisy_weights(network: nn.Module) -> list[Tensor]:
    """The weights of all convolutions; in a network without any, all weights of two or more dimensions."""
    convolutions: list[Tensor] = [m.weight for m in network.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    return convolutions or [p for p in network.parameters() if p.ndim > 1]
