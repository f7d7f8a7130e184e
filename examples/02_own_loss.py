"""A loss of one's own, by name in every trainer: cross entropy on x' plus the squared difference of the probabilities.

Runs in under a minute on two CPU cores: python examples/02_own_loss.py
"""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F

from art_ext import RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.losses import Loss, register


@register("brier-pairing", "CE on x' + w · squared difference of probabilities", paper="https://example.org")
@dataclass(frozen=True, kw_only=True)
class BrierPairing(Loss):
    """CE(z', y) + w · mean ‖p − p'‖²."""

    forwards: ClassVar[str] = "joint"  # one forward of [clean; adversarial]
    weight: float = 2.0

    def __call__(self, logits, logits_adv, y, *, progress=1.0):
        pairing = (logits.softmax(1) - logits_adv.softmax(1)).square().sum(1).mean()
        return F.cross_entropy(logits_adv, y) + self.weight * pairing


x, y, x_test, y_test = load("fashion-mnist-5k")
threat = ThreatModel("linf", 0.1)
for loss in ("pgd-at", "brier-pairing"):  # or BrierPairing(weight=4.0), or a plain function of the same three tensors
    adam = partial(torch.optim.Adam, lr=2e-3)
    classifier = timm_classifier("cnn_a_cifar", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
    trainer = RobustTrainer(classifier, threat=threat, loss=loss, steps=5, averaging="ema")
    trainer.fit(x, y, nb_epochs=6)
    report = evaluate(classifier, x_test[::5], y_test[::5], threat=threat)
    print(f"{loss}: clean {report.clean_accuracy:.1%}, robust {report.robust_accuracy:.1%} ({report.suite})")
