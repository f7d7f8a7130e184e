"""How a training run is carried out, as opposed to what it optimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from art_ext.attacks.pgd import check_steps
from art_ext.engine.augment import Augmentation, get_augmentation
from art_ext.engine.precision import PRECISIONS
from art_ext.engine.tracking import check_trackers


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Options every trainer takes as keywords.

    Args:
        precision: ``"bf16"`` (autocast; logits, loss and weights stay float32), ``"fp32"``, or ``"auto"``: bf16 where
            the hardware multiplies it natively.
        compile: run the model through `torch.compile`; where that fails, training goes on without and says so.
        channels_last: lay images and convolutions out as NHWC during training; faster on most hardware.
        grad_clip: highest norm of the gradient of all parameters together; None for no clipping.
        augment: ``"crop-flip"`` (padding 4), ``"crop"``, ``"flip"``, a function (x, generator) -> x, or None.
        seed: of data order, augmentation, random starts, dropout and validation split. The same seed gives the same
            bits on a CPU. The process's own random state is left as it was.
        validation_steps: PGD steps of the robust accuracy on the validation set.
        early_stopping: stop after that many epochs without a better robust validation accuracy; None for never.
        restore_best: end with the weights of the best epoch instead of the last; None: only with ``early_stopping``.
        checkpoint_dir: folder for ``last.safetensors``, ``best.safetensors``, ``history.jsonl``, ``curves.png`` and
            ``checkpoints/``, written after each epoch; None writes nothing. A folder is for one run at a time.
        checkpoint_every: batches after which a checkpoint is written within an epoch too; None: at its end only. A run
            that is killed costs at most the work since the last one.
        keep_checkpoints: how many of those that `RobustTrainer.resume` goes on from are kept; at least 1.
        accumulate: parts of each batch that go through the network one after the other, for batches that do not fit
            into memory; BatchNorm sees each by itself.
        sync_batchnorm: with several processes, BatchNorm takes mean and variance over the rows of all.
        tracking: experiment trackers that get the figures of each epoch: ``"tensorboard"``, or others of accelerate's.
        progress: show a progress bar.

    Raises:
        ValueError: a value out of its range.
    """

    precision: str = "auto"
    compile: bool = False
    channels_last: bool = True
    grad_clip: float | None = None
    augment: str | Augmentation | None = None
    seed: int = 0
    validation_steps: int = 10
    early_stopping: int | None = None
    restore_best: bool | None = None
    checkpoint_dir: str | Path | None = None
    checkpoint_every: int | None = None
    keep_checkpoints: int = 2
    accumulate: int = 1
    sync_batchnorm: bool = True
    tracking: str | Sequence[str] | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range before any work."""
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        if self.grad_clip is not None and not self.grad_clip > 0:
            raise ValueError(f"grad_clip must be > 0, or None for no clipping; got {self.grad_clip!r}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be a whole number in 0..{2**32 - 1}; got {self.seed!r}")
        counts = ("validation_steps", "keep_checkpoints", "accumulate", "early_stopping", "checkpoint_every")
        check_steps(**{name: value for name in counts if (value := getattr(self, name)) is not None})
        check_trackers(self.tracking, None if self.checkpoint_dir is None else Path(self.checkpoint_dir))
        get_augmentation(self.augment)

    @property
    def ends_with_best(self) -> bool:
        """Whether the run ends with the weights of its best epoch."""
        return self.early_stopping is not None if self.restore_best is None else self.restore_best

    @classmethod
    def of(cls, options: dict[str, Any]) -> EngineOptions:
        """From keywords.

        Raises:
            TypeError: an unknown keyword (the nearest one is proposed).

        Example:
            >>> EngineOptions.of({"precison": "bf16"})
            Traceback (most recent call last):
            ...
            TypeError: unknown option 'precison'; did you mean 'precision'?
        """
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                near = get_close_matches(name, known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
        return cls(**options)
