"""Several threat models seen as one by the attack loop: each example has its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from art_ext.threat import ThreatModel, per_example

Bounds = tuple[Tensor, Tensor] | None


@dataclass(frozen=True, eq=False)
class Assigned:
    """Of several threat models, the one of each example; see `art_ext.attacks.pgd.Geometry`.

    All are computed for all examples and one is taken: elementwise work, beside which a network is what costs, and
    nothing waits for the device.

    Args:
        threats: of one clip range.
        sizes: step size of each, broadcast over inputs; `steepest` is a whole step, so the loop's own size is 1.
        which: number of each example's threat model, (N,) int64.

    Example:
        >>> both = ThreatModel("linf", 0.1), ThreatModel("l2", 0.5)
        >>> ball = Assigned(both, (1.0, 1.0), torch.tensor([0, 1]))
        >>> x = torch.zeros(2, 4)
        >>> ball.project(x + 1, x)
        tensor([[0.1000, 0.1000, 0.1000, 0.1000],
                [0.2500, 0.2500, 0.2500, 0.2500]])
    """

    threats: Sequence[ThreatModel]
    sizes: Sequence[float | Tensor]
    which: Tensor

    def radius(self, x: Tensor) -> Tensor:
        """ε of each example, broadcast over ``x``."""
        ones = per_example(x.new_ones(len(x)), x)
        return self._taken(ones * threat.radius(x) for threat in self.threats)

    def bounds(self, x: Tensor) -> list[Bounds]:
        """Those of each threat model."""
        return [threat.bounds(x) for threat in self.threats]

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """See `ThreatModel.project`."""
        return self.project_(x_adv, x, self.bounds(x))

    def project_(self, x_adv: Tensor, x: Tensor, bounds: Sequence[Bounds]) -> Tensor:
        """See `ThreatModel.project_`; a new tensor."""
        pairs = zip(self.threats, bounds, strict=True)
        return self._taken(threat.project_(x_adv.clone(), x, its) for threat, its in pairs)

    def random_start(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """A point of each example's ball."""
        return self._taken(threat.random_start(x, generator) for threat in self.threats)

    def steepest(self, grad: Tensor) -> Tensor:
        """The step of each example, of its threat model's size."""
        return self._taken(t.steepest(grad) * size for t, size in zip(self.threats, self.sizes, strict=True))

    def select(self, index: Tensor) -> Assigned:
        """That of some of the examples."""
        sizes = [size[index] if isinstance(size, Tensor) else size for size in self.sizes]
        return Assigned([threat.select(index) for threat in self.threats], sizes, self.which[index])

    def _taken(self, found: Iterable[Tensor]) -> Tensor:
        """Of what is found for each threat model, the rows that are its own."""
        first, *others = found
        for number, rows in enumerate(others, 1):
            first = torch.where(per_example(self.which == number, rows), rows, first)
        return first
