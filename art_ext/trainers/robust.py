"""Adversarial training with any registered loss, attack and averaging, as an ART `Trainer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from art.estimators.classification import PyTorchClassifier

from art_ext.averaging import Averaging, get_averaging
from art_ext.losses import Loss, get_loss
from art_ext.technique import Technique
from art_ext.techniques import put_together, with_vit
from art_ext.threat import ThreatModel
from art_ext.trainers.base import EngineTrainer
from art_ext.trainers.inner import forward_only, inner_attack


class RobustTrainer(EngineTrainer):
    """Adversarial training of an ART classifier: an inner attack, a loss, an averaging, on tensors.

    Trains the whole defense (PyTorch preprocessors with gradient, then the network) at the speed of the hardware: a
    PGD-K step costs K forwards and K input-only backwards of the attack, and the loss's own. The classifier's optimizer
    is used and advanced, its ART loss is not. After `fit` the network is in eval mode.

    Args:
        classifier: an ART `PyTorchClassifier` with an optimizer.
        threat: norm, ε (one for all examples) and valid range to train against.
        loss: registered name (``"pgd-at"``, ``"nmse"``, ``"alp"``, ``"trades"``, ``"mart"``, ``"mail"``,
            ``"mail-trades"``, ``"mail-mart"``, ``"cfa"``, ``"cfa-at"``, ``"rat"``), a `Loss`, or a function
            (logits, logits_adv, y) -> scalar.
        steps: PGD steps of the inner attack; default 10.
        step_size: on the scale of the inputs; default 2.5 · ε / steps.
        attack: another inner attack: a registered name (``"fgsm-rs"``), an object of `art_ext.attacks` such as
            `MixedAdversaries`, a function (model, x, y) -> x_adv on tensors, or an ART `EvasionAttack` (slow: every
            batch travels through numpy). None for PGD with the loss's own objective and start.
        techniques: names or objects of `art_ext.techniques`, such as ``["awp"]``, each on top of those before it.
        vit: ``"a&p"``, ``"ard"``, ``"prm"`` or ``"eps-warm-up"``, for vision transformers: that technique, with its
            own defaults, on top of ``techniques``. None for none.
        averaging: None, ``"piat"``, ``"ema"``, ``"swa"``, ``"fawa"`` or an object of `art_ext.averaging`.
        **options: see `art_ext.engine.EngineOptions`.

    Attributes:
        history: figures of each epoch, see `art_ext.engine.History`.

    Raises:
        TypeError: not a `PyTorchClassifier`; an unknown option, loss, attack or averaging type.
        ValueError: a value out of its range; a numpy-only preprocessor; clip values that contradict the threat model's.

    Example:
        >>> import numpy as np, torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> cross_entropy = nn.CrossEntropyLoss()
        >>> art_classifier = PyTorchClassifier(net, cross_entropy, (1, 2, 2), 2, optimizer=sgd, clip_values=(0, 1))
        >>> trainer = RobustTrainer(art_classifier, threat=ThreatModel("linf", 0.1), loss="trades", progress=False)
        >>> trainer.fit(np.random.rand(16, 1, 2, 2).astype("float32"), np.arange(16) % 2, nb_epochs=2, batch_size=8)
        >>> len(trainer.history)
        2
    """

    def __init__(
        self,
        classifier: PyTorchClassifier,
        *,
        threat: ThreatModel,
        loss: str | Loss | Any = "pgd-at",
        steps: int | None = None,
        step_size: float | None = None,
        attack: Any = None,
        averaging: str | Averaging | None = None,
        techniques: str | Technique | Sequence[str | Technique] = (),
        vit: str | None = None,
        **options: Any,
    ) -> None:
        loss = get_loss(loss)
        inner = inner_attack(attack, classifier, loss, threat, steps, step_size)
        technique = put_together(with_vit(techniques, vit), loss, inner)
        super().__init__(
            classifier,
            threat=threat,
            loss=loss,
            attack=inner,
            averaging=get_averaging(averaging),
            native=forward_only(attack),
            options=options,
            technique=technique,
        )
