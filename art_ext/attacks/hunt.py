"""What the strong attacks share: examples still standing, and successes that the undisturbed model confirmed."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from art_ext.model import confirmed, judge_of, misclassified

S = TypeVar("S", bound="Rows")


@dataclass
class Rows:
    """A dataclass of tensors with one row per example: `take` selects rows of all of them."""

    def take(self: S, index: Tensor) -> S:
        """The rows ``index`` (indices or mask)."""
        rows: dict[str, Any] = {f.name: getattr(self, f.name)[index] for f in fields(self)}
        return replace(self, **rows)


class Hunt:
    """The adversarial examples found so far; what an attack believes to be one is confirmed before it counts.

    Args:
        model: the attacked model; where it is a `Surrogate`, the exact model behind it confirms.
        x: clean inputs (N, ...).
        y: labels (N,).

    Attributes:
        found: the adversarial example of each input, or the best that is known, (N, ...).
        open: indices of the examples not yet fooled.
    """

    def __init__(self, model: nn.Module, x: Tensor, y: Tensor) -> None:
        self.model, self.y, self.found = model, y, x.clone()
        self.open = torch.arange(len(x), device=x.device)
        self._value = x.new_full((len(x),), -torch.inf)

    def confirm(self, index: Tensor, x_adv: Tensor, believed: Tensor) -> Tensor:
        """Which of the examples ``index`` are fooled by ``x_adv``, given what the attack believes; they are kept.

        Args:
            index: of the examples that have a row, (M,).
            x_adv: candidates (M, ...), inside the threat model.
            believed: misclassified according to the attacked model, (M,) bool.
        """
        fooled = confirmed(self.model, x_adv, self.y[index], believed)
        self.found[index[fooled]] = x_adv[fooled]
        return fooled

    def ask(self, index: Tensor, x_adv: Tensor, asked: Tensor) -> Tensor:
        """As `confirm`, for candidates that nobody believes anything of: the exact model is asked about ``asked``."""
        fooled = misclassified(judge_of(self.model), x_adv, self.y[index], asked)
        self.found[index[fooled]] = x_adv[fooled]
        return fooled

    def settle(self, index: Tensor, x_adv: Tensor, value: Tensor, *, ask: bool = True) -> None:
        """Keep the points ``x_adv`` of failed examples, and look whether the exact model sees them otherwise.

        Of several runs the point with the highest ``value`` (M,) of the objective is kept.
        """
        better = value > self._value[index]
        hit = index[better]
        self.found[hit], self._value[hit] = x_adv[better], value[better].to(self._value)
        if ask and judge_of(self.model) is not self.model:
            self.drop(index[self.ask(index, x_adv, torch.ones_like(index, dtype=torch.bool))])

    def drop(self, index: Tensor) -> None:
        """The examples ``index`` need no more work."""
        self.open = self.open[~torch.isin(self.open, index)]


def likely_targets(logits: Tensor, y: Tensor, count: int) -> Tensor:
    """The ``count`` most likely wrong classes of each example, best first, (N, count); fewer if there are fewer.

    Example:
        >>> likely_targets(torch.tensor([[0.1, 3.0, 2.0]]), torch.tensor([1]), 9)
        tensor([[2, 0]])
    """
    wrong = logits.scatter(1, y[:, None], float("-inf"))
    return wrong.argsort(1, descending=True)[:, : min(count, logits.shape[1] - 1)]
