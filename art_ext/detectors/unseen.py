"""Attacks that no detector is trained on, to see what it takes them for."""

from __future__ import annotations

from functools import partial

import torch
from art.attacks.evasion import DeepFool, MomentumIterativeMethod
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.attacks import apgd, spatial, square
from art_ext.detectors.families import Craft, in_norm
from art_ext.threat import ThreatModel


def unseen_attacks(classifier: PyTorchClassifier, *, threat: ThreatModel) -> dict[str, Craft]:
    """Attacks that are no family of their own: APGD, MIM, Square, DeepFool, bent images; and noise, which is no attack.

    MIM and DeepFool are ART's, the others ours. APGD, MIM, Square and noise stay in the ℓ∞ ball of ``threat``, or in
    the one of its volume; DeepFool and the bent images know no ball.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (1, 2, 2), 2, clip_values=(0, 1))
        >>> list(unseen_attacks(classifier, threat=ThreatModel("linf", 0.1)))
        ['apgd', 'mim', 'square', 'deepfool', 'spatial', 'noise']
    """
    ball = in_norm("linf", threat, torch.zeros(1, *classifier.input_shape))
    mim = MomentumIterativeMethod(classifier, eps=ball.eps, eps_step=ball.eps / 4, max_iter=10, verbose=False)
    return {
        "apgd": partial(apgd, threat=ball, steps=30),
        "mim": mim,
        "square": partial(square, threat=ball, queries=300),
        "deepfool": DeepFool(classifier, max_iter=30, epsilon=0.02, nb_grads=3, batch_size=128, verbose=False),
        "spatial": partial(spatial, steps=15),
        "noise": partial(_noise, threat=ball),
    }


def _noise(model: nn.Module, x: Tensor, y: Tensor, *, threat: ThreatModel, generator: torch.Generator) -> Tensor:
    return threat.random_start(x, generator)
