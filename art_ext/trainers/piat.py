"""Parameter interpolation adversarial training (PIAT), as an ART `Trainer`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext.averaging import ParameterInterpolation
from art_ext.losses import Loss
from art_ext.technique import Technique
from art_ext.threat import ThreatModel
from art_ext.trainers.robust import RobustTrainer


class PIATTrainer(RobustTrainer):
    """PIAT (https://arxiv.org/abs/2303.13955): each epoch of adversarial training starts from θ' = λ θ'_prev + (1−λ) θ.

    `RobustTrainer` with `ParameterInterpolation`, and NMSE as the loss unless another is named: the paper combines PIAT
    with any of them.

    Args:
        classifier: an ART `PyTorchClassifier` with an optimizer.
        threat: norm, ε and valid range; ℓ∞ 8/255 in the paper.
        loss: as `RobustTrainer`; ``"nmse"`` with μ = 4 (a third party's value).
        schedule: λ of each epoch: None for min(0.99, (n + 1)/(n + 10)), a number, or a callable of the epoch from 0.
        buffers: what happens to BatchNorm's running statistics, see `ParameterInterpolation`.
        steps: PGD steps; default 10 (paper).
        step_size: on the scale of the inputs; 2/255 in the paper, by default 2.5 · ε / steps.
        attack: as `RobustTrainer`.
        techniques: as `RobustTrainer`.
        vit: as `RobustTrainer`; ``"a&p"`` in the paper.
        **options: see `art_ext.engine.EngineOptions`.

    Raises:
        TypeError: as `RobustTrainer`.
        ValueError: as `RobustTrainer`; λ outside [0, 1].

    Example:
        >>> import numpy as np, torch
        >>> net = torch.nn.Linear(2, 2)
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.5)
        >>> art_classifier = PyTorchClassifier(net, torch.nn.CrossEntropyLoss(), (2,), 2, optimizer=sgd)
        >>> trainer = PIATTrainer(art_classifier, threat=ThreatModel("l2", 0.1, clip=None), progress=False)
        >>> trainer.fit(np.random.randn(8, 2).astype("float32"), np.arange(8) % 2, nb_epochs=2)
        >>> [round(weight, 2) for weight in trainer.history.column("interpolation")]
        [0.1, 0.18]
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        loss: str | Loss | Any = "nmse",
        schedule: float | Callable[[int], float] | None = None,
        buffers: str = "interpolate",
        steps: int | None = None,
        step_size: float | None = None,
        attack: Any = None,
        techniques: str | Technique | Sequence[str | Technique] = (),
        vit: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(
            classifier,
            threat=threat,
            loss=loss,
            steps=steps,
            step_size=step_size,
            attack=attack,
            averaging=ParameterInterpolation(schedule, buffers=buffers),
            techniques=techniques,
            vit=vit,
            **options,
        )
