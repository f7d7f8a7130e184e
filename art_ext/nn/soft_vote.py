"""Soft voting: the mean of several networks' probabilities, over several draws of a random transform, as logits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from art_ext.nn.randomness import choosing, outcomes_of
from art_ext.nn.ranges import check_count

Model = nn.Module | Callable[[], nn.Module]


class SoftVote(nn.Module):
    """log of the mean softmax over models × outcomes of the transform × draws: valid logits, differentiable as a whole.

    ART rebuilds classifiers from their network, so voting must be inside it; an overridden ``predict`` would be lost.

    Args:
        models: a network from images to logits, or several (snapshots of a training, say). One that is to be loaded
            when it is first needed is given as a function without arguments that returns it; it is then put into eval
            mode, its parameters out of autograd.
        transform: a random module before the networks (N, C, H, W) → (N, C, H, W), such as
            `art_ext.nn.interference.Interference`; None: the models themselves are random, or nothing is.
        draws: passes through each model, and for each listed outcome of the transform.
        classes: the vote is restricted to the first so many outputs and normalised again (the networks may have more,
            for backgrounds); None for all.
        every_outcome: where the transform's random choices can be listed (`art_ext.evaluation.FiniteRandomness`), all
            of them vote; else each draw chooses by itself.
        chunk: draws that share a pass. More than 1 needs a transform that draws for each example by itself.
        recompute: keep no activations for the backward pass but compute them again: the memory of one pass instead of
            all, for a third more time.

    Raises:
        ValueError: no models, counts below 1, models with fewer outputs than ``classes``.

    Example:
        >>> networks = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(3)]
        >>> vote = SoftVote(networks, classes=3)
        >>> torch.allclose(vote(torch.rand(5, 3, 2, 2)).exp().sum(1), torch.ones(5))
        True
    """

    def __init__(
        self,
        models: Model | Sequence[Model],
        *,
        transform: nn.Module | None = None,
        draws: int = 1,
        classes: int | None = None,
        every_outcome: bool = True,
        chunk: int = 1,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        check_count(1, draws=draws, chunk=chunk)
        if classes is not None:
            check_count(2, classes=classes)
        given = list(models) if isinstance(models, Sequence) else [models]
        if not given:
            raise ValueError("models must be at least one network; got none")
        self.models = nn.ModuleList(m if isinstance(m, nn.Module) else Lazy(m) for m in given)
        self.transform = transform
        self.draws, self.classes, self.chunk = int(draws), classes, int(chunk)
        self.every_outcome, self.recompute = every_outcome, recompute

    @property
    def passes(self) -> int:
        """How many copies of an image go through a network in one forward."""
        return len(self.models) * self._outcomes * self.draws

    @property
    def mixes_outcomes(self) -> bool:
        """Whether ballots of one forward choose apart: to fix the choice for all of them makes another predictor."""
        drawn = self.transform is not None and not self.every_outcome and outcomes_of(self.transform) > 1
        return self.passes > 1 and (drawn or outcomes_of(self.models) > 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, C) of images (N, C, H, W): their softmax is the vote."""
        votes = [self._votes(x, *ballot) for ballot in self._ballots()]
        outputs = {vote.shape[2] for vote in votes}
        if len(outputs) > 1:
            raise ValueError(f"the models must have the same number of outputs; they have {sorted(outputs)}")
        total = torch.logsumexp(torch.cat(votes), 0)
        if self.classes is None:
            return total - log(self.passes)
        if self.classes > total.shape[1]:
            raise ValueError(f"classes must be at most the models' {total.shape[1]} outputs; got {self.classes}")
        return total[:, : self.classes].log_softmax(1)

    @property
    def _outcomes(self) -> int:
        return outcomes_of(self.transform) if self.transform is not None and self.every_outcome else 1

    def _ballots(self) -> Iterator[tuple[nn.Module, int | None, int]]:
        """What goes through a network together: the network, the transform's outcome, and how many draws."""
        outcomes: list[int | None] = [*range(self._outcomes)] if self._outcomes > 1 else [None]
        for model in self.models:
            for outcome in outcomes:
                for begin in range(0, self.draws, self.chunk):
                    yield model, outcome, min(self.chunk, self.draws - begin)

    def _votes(self, x: Tensor, model: nn.Module, outcome: int | None, copies: int) -> Tensor:
        """Log-probabilities (copies, N, C)."""

        def go(images: Tensor) -> Tensor:
            many = images.repeat(copies, *[1] * (images.ndim - 1)) if copies > 1 else images
            return _log_probabilities(model(self._transformed(many, outcome))).unflatten(0, (copies, -1))

        if self.recompute and torch.is_grad_enabled():
            votes: Tensor = checkpoint(go, x, use_reentrant=False)
            return votes
        return go(x)

    def _transformed(self, x: Tensor, outcome: int | None) -> Tensor:
        if self.transform is None:
            return x
        with nullcontext() if outcome is None else choosing(self.transform, outcome):
            return self.transform(x)

    def extra_repr(self) -> str:
        """What ``print`` shows."""
        return f"draws={self.draws}, classes={self.classes}, every_outcome={self.every_outcome}"


class Lazy(nn.Module):
    """A network that is loaded when it is first needed, in eval mode and frozen.

    Args:
        load: returns the network.

    Example:
        >>> lazy = Lazy(lambda: nn.Linear(2, 2))
        >>> len(list(lazy.parameters()))
        0
        >>> _ = lazy(torch.zeros(1, 2))
        >>> len(list(lazy.parameters()))
        2
    """

    def __init__(self, load: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.load = load
        self.model: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """What the network answers."""
        return self._loaded(x.device)(x)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """As of any module; the network is loaded for it, so that what is saved is whole."""
        self._loaded(None)
        return super().state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: with the network, since the file that it comes from may be gone when it is read."""
        self._loaded(None)
        return {**self.__dict__, "load": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> Lazy:
        """A copy that is loaded when it is first needed too."""
        other = type(self).__new__(type(self))
        memo[id(self)] = other
        other.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return other

    def _loaded(self, device: torch.device | None) -> nn.Module:
        if self.model is None:
            model = self.load().eval().requires_grad_(False)
            self.model = model if device is None else model.to(device)
        return self.model


def _log_probabilities(logits: Tensor) -> Tensor:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(1)
