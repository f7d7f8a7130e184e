"""CFA, class-wise calibrated fair adversarial training (Wei et al. 2023, https://arxiv.org/abs/2303.14460)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from art_ext.losses.base import Loss, register
from art_ext.processes import ALONE, Processes
from art_ext.scores import kl
from art_ext.technique import Technique

PAPER = "https://arxiv.org/abs/2303.14460"


def cfa(logits: Tensor, logits_adv: Tensor, y: Tensor, *, shares: Tensor) -> Tensor:
    """Mean of (1 − w_y) · CE(z, y) + w_y · KL(p ‖ p').

    Args:
        logits: z, on the clean inputs, (N, C).
        logits_adv: z', on the adversarial inputs, (N, C).
        y: labels (N,), int64.
        shares: w, of each class, (C,), in [0, 1].

    Example:
        >>> z, y = torch.zeros(2, 2), torch.tensor([0, 1])
        >>> round(cfa(z, z, y, shares=torch.tensor([0.0, 1.0])).item(), 4)  # log 2 for the first, 0 for the second
        0.3466
    """
    share = shares[y]
    return ((1 - share) * F.cross_entropy(logits, y, reduction="none") + share * kl(logits_adv, logits)).mean()


def class_shares(accuracy: Tensor, *, beta: float, base: float) -> Tensor:
    """w_k = (base + A_k) β / (1 + (base + A_k) β), growing with the class's robust accuracy A_k.

    Example:
        >>> class_shares(torch.tensor([0.5]), beta=6.0, base=0.5)  # 6/7, what all have with TRADES
        tensor([0.8571])
    """
    weight = (base + accuracy) * beta
    return weight / (1 + weight)


@dataclass(frozen=True, kw_only=True)
class _ClassWise(Loss):
    base: float = 0.5
    after: float = 10

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not 0 < self.base < float("inf"):
            raise ValueError(f"base must be > 0, what is added to a class's robust accuracy; got {self.base!r}")
        if not self.after >= 0:
            raise ValueError(
                f"after must be ≥ 0, epochs with the same ε and weight for all classes; got {self.after!r}"
            )

    def technique(self) -> Technique:
        """Measures the classes, and gives each its ε."""
        return ClassWise(base=self.base, after=self.after)

    def told(self, accuracy: Tensor) -> Loss:
        """The loss for classes of these robust accuracies (C,)."""
        return self


@register("cfa", "TRADES with ε and weight of each class from its robust accuracy", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class CFA(_ClassWise):
    """(1 − w_k) · CE(z, y) + w_k · KL(p ‖ p'), with ε_k and w_k from the robust accuracy of class k in the last epoch.

    ε_k = (base + A_k) · ε, the step size stays. At first all classes have ε and w = β / (1 + β). The third part of
    CFA is ``averaging="fawa"``, see `art_ext.averaging.FAWA`.

    Args:
        beta: 6 (authors' code).
        base: λ of the paper, 0.5 (authors' code).
        after: epochs before classes differ, 10 (authors' code, of 200).
        shares: w of each class (C,), in [0, 1], to begin with; None for β / (1 + β).
    """

    objective: ClassVar[str] = "kl"
    start: ClassVar[str] = "gaussian"
    forwards: ClassVar[str] = "separate"
    beta: float = 6.0
    shares: Tensor | Sequence[float] | None = None

    def told(self, accuracy: Tensor) -> Loss:
        """See `_ClassWise`."""
        return replace(self, shares=class_shares(accuracy, beta=self.beta, base=self.base))

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        assert logits is not None
        alike = self.beta / (1 + self.beta)  # TRADES' own weight
        shares = [alike] * logits.shape[1] if self.shares is None else self.shares
        return cfa(logits, logits_adv, y, shares=torch.as_tensor(shares, dtype=logits.dtype, device=logits.device))


@register("cfa-at", "CE on x' (PGD-AT), ε of each class from its robust accuracy", paper=PAPER)
@dataclass(frozen=True, kw_only=True)
class CFAAT(_ClassWise):
    """CE(z', y), where ε of each class is (base + A_k) · ε.

    Args:
        base: as CFA.
        after: as CFA.
    """

    def __call__(self, logits: Tensor | None, logits_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> Tensor:
        """See `Loss`."""
        return F.cross_entropy(logits_adv, y)


class ClassWise(Technique):
    """Robust accuracy of each class in the training's own batches, and from it ε and the loss of the next epoch.

    Args:
        base: as `CFA`.
        after: as `CFA`.
    """

    name = "class-wise"

    def __init__(self, *, base: float = 0.5, after: float = 10) -> None:
        self.base, self.after = base, after
        self.differ = False

    def __repr__(self) -> str:
        """With its settings."""
        return f"ClassWise(base={self.base!r}, after={self.after!r})"

    def check(self, loss: Any, attack: Any) -> None:
        """The inner attack must take one ε for each example."""
        if not hasattr(attack, "within"):
            raise ValueError(f"loss {loss.name!r} gives each class its own ε, which only the trainer's PGD takes: "
                             "leave attack out, or choose another loss")  # fmt: skip

    def check_labels(self, y: np.ndarray, classes: int) -> None:
        """Every class must occur."""
        _require_all(np.bincount(y, minlength=classes))

    def start(self, network: nn.Module, classes: int, seed: int, processes: Processes = ALONE) -> None:
        """Nothing is known of the classes yet."""
        super().start(network, classes, seed, processes)
        device = next(network.parameters()).device
        self.accuracy = torch.full((classes,), 1 - self.base, device=device)
        self.counts = torch.zeros(2, classes, device=device)  # examples, and those withstood

    def before_batch(self, done: float, epochs: int) -> None:
        """Whether classes differ by now."""
        self.differ = done >= max(self.after, 1)  # the first epoch knows of no accuracy

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """Within the ε of each example's class."""
        if not self.differ:
            return attack
        eps = attack.threat.eps
        step = 2.5 * eps / attack.steps if attack.step_size is None else attack.step_size
        return attack.within((self.base + self.accuracy[y]) * eps, step)

    def loss_for(self, loss: Any) -> Any:
        """Told of the accuracies."""
        return loss.told(self.accuracy) if self.differ else loss

    @torch.no_grad()
    def after_loss(self, x: Tensor, x_adv: Tensor, logits_adv: Tensor | None, y: Tensor) -> None:
        """Count, without waiting for the device."""
        assert logits_adv is not None
        withstood = (logits_adv.argmax(1) == y).float()
        self.counts.index_add_(1, y, torch.stack((torch.ones_like(withstood), withstood)))

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """The accuracies of this epoch."""
        seen, withstood = self.processes.sum(self.counts.clone())
        _require_all(seen.cpu().numpy())
        self.accuracy = withstood / seen
        self.counts.zero_()
        return {"train_worst_class": float(self.accuracy.min())}

    def state_dict(self) -> dict[str, Any]:
        """Accuracies, and the counts so far, which the first process takes over."""
        counts = self.processes.sum(self.counts.clone())
        return {**super().state_dict(), "accuracy": self.accuracy, "counts": counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        super().load_state_dict(state)
        self.accuracy.copy_(state["accuracy"])
        self.counts.copy_(state["counts"] * self.processes.is_first)


def _require_all(counts: np.ndarray) -> None:
    if missing := [int(k) for k in np.flatnonzero(counts == 0)]:
        raise ValueError(
            f"class-wise training needs examples of every class; there are none of {missing}: use a loss that treats "
            "all classes alike, or a classifier of fewer classes"
        )
