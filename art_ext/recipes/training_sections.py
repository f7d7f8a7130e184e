"""Sections of a recipe that say how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from art_ext.engine import EngineOptions

Options = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainerSection(EngineOptions):
    """How it is trained: by which trainer, a loss, an inner attack, an averaging, and every option of the engine.

    Args:
        kind: of trainer: robust, noisy, inn or atop, see art-ext list trainers.
        kind_options: arguments of the trainer that have no field here, e.g. {noise: signs} of noisy.
        loss: see art-ext list losses.
        loss_options: hyper-parameters of the loss, e.g. {beta: 6}.
        averaging: see art-ext list averagings; null for none.
        averaging_options: arguments of the averaging, e.g. {decay: 0.999}.
        techniques: names, or mappings of a name and options, e.g. [awp, {name: mixup, prob: 0.5}]; see art-ext list
            techniques.
        vit: a&p, ard, prm or eps-warm-up, which come to the techniques; null for none.
        attack: inner attack, see art-ext list inner-attacks.
        attack_options: of the inner attack, e.g. {threats: [{norm: linf, eps: 8/255}, {norm: l2, eps: 0.84}]} of
            mat-max; a threat may have a step_size, too.
        steps: of the inner attack.
        step_size: of the inner attack on the [0, 1] scale; by default 2.5 · eps / steps.
        batch_size: images per step.
        nb_epochs: how long.
        augment: crop-flip, crop or flip, see art-ext list augmentations; null for none.
    """

    kind: str = "robust"
    kind_options: Options = field(default_factory=dict)
    loss: str = "pgd-at"
    loss_options: Options = field(default_factory=dict)
    averaging: str | None = None
    averaging_options: Options = field(default_factory=dict)
    techniques: list[str | Options] = field(default_factory=list)
    vit: str | None = None
    attack: str = "pgd"
    attack_options: Options = field(default_factory=dict)
    steps: int = 10
    step_size: float | None = None
    batch_size: int = 128
    nb_epochs: int = 20
    augment: str | None = None  # narrower than the engine's: a function is no data

    def __post_init__(self) -> None:
        """Refuse values out of range before any work."""
        if self.checkpoint_dir is not None:
            raise ValueError("checkpoint_dir is the folder of the run (--output), it cannot be part of a recipe")
        options = {name: getattr(self, name) for name in EngineOptions.__dataclass_fields__}
        EngineOptions(**options | {"checkpoint_dir": "."})  # its own checks: a run will have some folder
        for name in ("batch_size", "nb_epochs", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)!r}")


@dataclass(frozen=True, kw_only=True)
class OptimizerSection:
    """The optimizer of the weights.

    Args:
        name: sgd, adam or adamw.
        lr: learning rate at the start.
        weight_decay: of all parameters.
        layer_decay: what the rate is multiplied by from a layer to the one before it, e.g. 0.75; null for one rate. See
            art_ext.adapters.timm.LayerwiseOptimizer.
        filter_bias_and_bn: no weight decay of biases, norms, position embedding and class token.
        options: further arguments of the torch optimizer, e.g. {momentum: 0.9}.
    """

    name: str = "sgd"
    lr: float = 0.1
    weight_decay: float = 0.0
    layer_decay: float | None = None
    filter_bias_and_bn: bool = False
    options: Options = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScheduleSection:
    """How the learning rate changes; all schedules are told in shares of the epochs, so they stretch with nb_epochs.

    Args:
        name: constant, piecewise-linear, multistep or cosine.
        options: arguments of the schedule, e.g. {milestones: [0.5, 0.75]}.
        warmup: share of the epochs, in [0, 1), over which the rate grows linearly, batch by batch, to what the schedule
            says.
    """

    name: str = "constant"
    options: Options = field(default_factory=dict)
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup must be in [0, 1), a share of the epochs; got {self.warmup!r}")
