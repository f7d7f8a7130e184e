"""Weight averaging over training: PIAT's parameter interpolation, EMA and SWA.

All three watch one network that an optimizer changes. `ParameterInterpolation` writes the average back into the network
at the end of each epoch; `EMA` and `SWA` keep it in a shadow copy that training never sees.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_swa_multi_avg_fn

from art_ext.naming import lookup

Recalibrate = Callable[[nn.Module], None]
WorstClass = Callable[[nn.Module], float]
BUFFER_MODES = ("interpolate", "current", "recalibrate")


def interpolation_weight(epoch: int, a: float = 1, b: float = 10, cap: float = 0.99) -> float:
    """PIAT's λ_n = min(cap, (n + a)/(n + b)): the share of the old weights kept after epoch ``n`` = 0, 1, 2 and so on.

    The paper asks for a weight that is small at first and grows toward one, with three hyper-parameters; this form and
    its values are a third party's.

    Example:
        >>> [round(interpolation_weight(n), 2) for n in (0, 1, 10, 119)]
        [0.1, 0.18, 0.55, 0.93]
    """
    return min(cap, (epoch + a) / (epoch + b))


class Averaging:
    """What the training loop asks of an averaging; this base class averages nothing.

    Attributes:
        feeds_back: the average replaces the trained weights, so the next epoch starts from it.
        needs_validation: it works with held-out images only.
    """

    feeds_back = False
    needs_validation = False

    def start(self, network: nn.Module) -> None:
        """Begin to watch ``network``."""
        self.network = network

    def judged_by(self, worst_class: WorstClass) -> None:
        """Images are held out: ``worst_class(network)`` is its robust accuracy on their worst class, in [0, 1]."""

    def after_step(self) -> None:
        """The optimizer has made a step."""

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Epoch ``epoch`` (from 0) of ``epochs`` is over; returns figures for the history.

        ``recalibrate(network)`` re-estimates that network's BatchNorm statistics on the training images.
        """
        return {}

    def averaged(self) -> nn.Module:
        """The network to validate, save and return."""
        return self.network

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the network: tensors, numbers, dicts and lists of them."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""


class ParameterInterpolation(Averaging):
    """θ'_n = λ_n · θ'_{n−1} + (1 − λ_n) · θ_n after each epoch, and the next epoch starts from θ'_n (PIAT).

    https://arxiv.org/abs/2303.13955. θ'_{−1} is the network as given. λ ≡ 0 is plain training, λ ≡ 1 keeps the given
    weights exactly. Optimizer state and learning rate are left alone (a third party's choice).

    Args:
        schedule: None for `interpolation_weight` (dynamic λ), a number in [0, 1] (fixed λ) or a callable
            epoch -> λ, epochs counted from 0.
        buffers: ``"interpolate"`` BatchNorm's running statistics with the same λ (a third party's choice), take the
            ``"current"`` ones, or ``"recalibrate"`` them on the training images (ours). Whole-number buffers stay
            current.

    Raises:
        ValueError: unknown ``buffers``, or λ outside [0, 1].

    Example:
        >>> net = nn.Linear(1, 1, bias=False)
        >>> _ = net.weight.data.fill_(1.0)
        >>> piat = ParameterInterpolation(0.25)
        >>> piat.start(net)
        >>> _ = net.weight.data.fill_(2.0)  # an epoch of training
        >>> piat.after_epoch(0, 1, lambda network: None), net.weight.item()
        ({'interpolation': 0.25}, 1.75)
    """

    feeds_back = True

    def __init__(self, schedule: float | Callable[[int], float] | None = None, *, buffers: str = "interpolate") -> None:
        if buffers not in BUFFER_MODES:
            raise ValueError(f"buffers must be one of {', '.join(BUFFER_MODES)}; got {buffers!r}")
        self.schedule: Callable[[int], float]
        if schedule is None:
            self.schedule = interpolation_weight
        elif callable(schedule):
            self.schedule = schedule
        else:
            fixed = _share(float(schedule))
            self.schedule = lambda epoch: fixed
        self.buffers = buffers

    def start(self, network: nn.Module) -> None:
        """Remember the weights as θ'_{−1}."""
        super().start(network)
        self._previous = [t.detach().clone() for t in self._watched()]

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Interpolate in place."""
        weight = _share(float(self.schedule(epoch)))
        current = [t.detach() for t in self._watched()]
        if weight > 0:
            torch._foreach_lerp_(current, self._previous, weight)
        torch._foreach_copy_(self._previous, current)
        if self.buffers == "recalibrate":
            recalibrate(self.network)
        return {"interpolation": weight}

    def state_dict(self) -> dict[str, Any]:
        """The interpolated weights of the last epoch."""
        return {"previous": list(self._previous)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        for mine, saved in zip(self._previous, state["previous"], strict=True):
            mine.copy_(saved)

    def _watched(self) -> list[Tensor]:
        parameters: list[Tensor] = list(self.network.parameters())
        if self.buffers == "interpolate":
            parameters += [b for b in self.network.buffers() if b.is_floating_point()]
        return parameters


def _share(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise ValueError(f"the interpolation weight λ must be in [0, 1]; got {weight!r}")
    return weight


class EMA(Averaging):
    """Exponential moving average of parameters and buffers, updated after every optimizer step.

    Args:
        decay: share of the old average kept per step, in [0, 1); 0.999 by default (0.995–0.9995 in the literature).
        warm_up: use min(decay, (1 + t)/(10 + t)) at step t, so that a short run is not dominated by the initial
            weights (ours, as TensorFlow does it).

    Example:
        >>> net = nn.Linear(1, 1)
        >>> ema = EMA(decay=0.9)
        >>> ema.start(net)
        >>> ema.after_step()
        >>> ema.averaged() is net
        False
    """

    def __init__(self, decay: float = 0.999, *, warm_up: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay!r}")
        self.decay, self.warm_up = decay, warm_up

    def start(self, network: nn.Module) -> None:
        """Copy the network into the shadow."""
        super().start(network)
        self._steps = 0
        self._shadow = AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True)
        self._shadow.update_parameters(network)  # the first update copies: the average starts at the given weights

    def _mix(self, averages: Any, currents: Any, _: Any) -> None:
        _mix(
            averages, currents, min(self.decay, (1 + self._steps) / (10 + self._steps)) if self.warm_up else self.decay
        )

    def after_step(self) -> None:
        """Move the shadow toward the network."""
        self._steps += 1
        self._shadow.update_parameters(self.network)

    def averaged(self) -> nn.Module:
        """The shadow network."""
        module: nn.Module = self._shadow.module
        return module

    def state_dict(self) -> dict[str, Any]:
        """The shadow and the number of steps."""
        return {"steps": self._steps, "shadow": dict(self._shadow.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        self._steps = state["steps"]
        self._shadow.load_state_dict(state["shadow"])


class SWA(Averaging):
    """Stochastic weight averaging (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407).

    The mean of the weights at the ends of the epochs from ``start_at`` on, BatchNorm statistics re-estimated on the
    training images each time; before that, the network itself.

    Args:
        start_at: share of the epochs before averaging starts, in [0, 1); default 0.5 (ours).

    Example:
        >>> net = nn.Linear(1, 1)
        >>> swa = SWA(start_at=0.0)
        >>> swa.start(net)
        >>> swa.after_epoch(0, 10, lambda network: None)
        {'averaged_epochs': 1.0}
    """

    def __init__(self, start_at: float = 0.5) -> None:
        if not 0 <= start_at < 1:
            raise ValueError(f"start_at must be a share of the epochs in [0, 1); got {start_at!r}")
        self.start_at = start_at

    def start(self, network: nn.Module) -> None:
        """Nothing is averaged yet."""
        super().start(network)
        self._mean: AveragedModel | None = None

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Take the epoch's weights into the mean."""
        if epoch < int(self.start_at * epochs):
            return {"averaged_epochs": 0.0}
        if self._mean is None:
            self._mean = AveragedModel(self.network, multi_avg_fn=get_swa_multi_avg_fn())
        self._mean.update_parameters(self.network)
        recalibrate(self._mean.module)
        return {"averaged_epochs": float(self._mean.n_averaged)}

    def averaged(self) -> nn.Module:
        """The mean network, or the trained one before averaging has started."""
        return self.network if self._mean is None else self._mean.module

    def state_dict(self) -> dict[str, Any]:
        """The mean, once there is one."""
        return {"mean": None if self._mean is None else dict(self._mean.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        if state["mean"] is not None:
            self._mean = AveragedModel(self.network, multi_avg_fn=get_swa_multi_avg_fn())
            self._mean.load_state_dict(state["mean"])


class FAWA(Averaging):
    """Fairness-aware weight averaging of CFA (Wei et al. 2023, https://arxiv.org/abs/2303.14460).

    An exponential moving average at the end of each epoch that leaves out the epochs whose robust accuracy, on held-out
    images of the worst class, is below a threshold. Until one reaches it, the average is the network itself.

    Args:
        decay: share of the old average kept, in [0, 1); 0.88 (authors' code).
        threshold: in [0, 1]; 0.2 with PGD-AT, 0.24 with TRADES (authors' code, CIFAR-10 at 8/255).

    Example:
        >>> net = nn.Linear(1, 1)
        >>> fawa = FAWA(threshold=0.3)
        >>> fawa.start(net)
        >>> fawa.judged_by(lambda network: 0.25)
        >>> fawa.after_epoch(0, 2, lambda network: None)
        {'worst_class': 0.25, 'averaged_epochs': 0.0}
    """

    needs_validation = True

    def __init__(self, decay: float = 0.88, *, threshold: float = 0.2) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1); got {decay!r}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be a robust accuracy in [0, 1]; got {threshold!r}")
        self.decay, self.threshold = decay, threshold

    def start(self, network: nn.Module) -> None:
        """Nothing is averaged yet."""
        super().start(network)
        self._mean: AveragedModel | None = None

    def judged_by(self, worst_class: WorstClass) -> None:
        """Take over what judges an epoch."""
        self._worst_class = worst_class

    def after_epoch(self, epoch: int, epochs: int, recalibrate: Recalibrate) -> dict[str, float]:
        """Take the epoch's weights into the mean, if it was fair enough."""
        worst = self._worst_class(self.network)
        if worst >= self.threshold:
            self._mean = self._mean or self._new()
            self._mean.update_parameters(self.network)  # the first update copies
        return {"worst_class": worst, "averaged_epochs": 0.0 if self._mean is None else float(self._mean.n_averaged)}

    def _new(self) -> AveragedModel:
        return AveragedModel(
            self.network, multi_avg_fn=lambda old, new, _: _mix(old, new, self.decay), use_buffers=True
        )

    def averaged(self) -> nn.Module:
        """The mean network, or the trained one before averaging has started."""
        return self.network if self._mean is None else self._mean.module

    def state_dict(self) -> dict[str, Any]:
        """The mean, once there is one."""
        return {"mean": None if self._mean is None else dict(self._mean.state_dict())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a `state_dict`, after `start`."""
        if state["mean"] is not None:
            self._mean = self._new()
            self._mean.load_state_dict(state["mean"])


@torch.no_grad()
def _mix(averages: Any, currents: Any, decay: float) -> None:
    """Tensors of one type: the average of numbers, the newest of counters."""
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, currents, 1 - decay)
    else:
        torch._foreach_copy_(averages, currents)


AVERAGINGS: dict[str, type[Averaging]] = {"piat": ParameterInterpolation, "ema": EMA, "swa": SWA, "fawa": FAWA}


def get_averaging(averaging: str | Averaging | None) -> Averaging:
    """The averaging of that name (``"piat"``, ``"ema"``, ``"swa"``, ``"fawa"``), an object as it is, None for none.

    Raises:
        ValueError: unknown name.
        TypeError: neither of these.
    """
    if averaging is None:
        return Averaging()
    if isinstance(averaging, str):
        return lookup(AVERAGINGS, averaging, what="averaging")()
    if not isinstance(averaging, Averaging):
        raise TypeError(f"averaging must be None, a name or an Averaging; got {type(averaging).__name__}")
    return averaging


@contextmanager
def cumulative_batchnorm(network: nn.Module) -> Iterator[bool]:
    """BatchNorm alone in train mode, its statistics reset and set to the plain mean over the batches to come.

    Yields whether the network has BatchNorm at all. Modes and momenta are restored; the statistics stay.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    saved = [(m, m.momentum) for m in norms]
    modes = [(m, m.training) for m in network.modules()]
    network.eval()
    for m in norms:
        m.reset_running_stats()
        m.momentum = None
        m.train()
    try:
        yield bool(norms)
    finally:
        for m, momentum in saved:
            m.momentum = momentum
        for module, mode in modes:
            module.training = mode


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and buffers in place, so that optimizers and references to ``target`` stay valid."""
    if source is not target:
        target.load_state_dict(source.state_dict())


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """An independent copy of the state dict, on the network's device."""
    return copy.deepcopy(network.state_dict())
