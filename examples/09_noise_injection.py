"""Noise in training and at inference, and why one draw of it says nothing about robustness.

Runs in under two minutes on two CPU cores: python examples/09_noise_injection.py
"""

from functools import partial

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import NoiseInjection, NoisyTrainer, RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.nn.noise import Noise
from art_ext.nn.soft_vote import SoftVote

x, y, x_test, y_test = load("fashion-mnist-5k")
x_test, y_test = x_test[::10], y_test[::10]
threat = ThreatModel("linf", 0.05)


def noisy():
    """A classifier that draws fresh noise for each image, in training (apply_fit) and at inference."""
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=2e-3)
    classifier = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
    classifier.set_params(preprocessing_defences=[NoiseInjection(scale=0.1, apply_fit=True)])
    return classifier


# Natural images under that noise alone, and adversarial training under it: any trainer acts through the preprocessors
natural, robust = noisy(), noisy()
NoisyTrainer(natural, threat=threat, noise=None).fit(x, y, nb_epochs=4)
RobustTrainer(robust, threat=threat, steps=5).fit(x, y, nb_epochs=4)

# Several draws may vote; the noise then is inside the network
vote = PyTorchClassifier(
    SoftVote(robust.model, transform=Noise(0.1), draws=8, chunk=8),
    nn.CrossEntropyLoss(),
    (1, 28, 28),
    10,
    clip_values=(0.0, 1.0),
)

# One draw per gradient, as an attack sees it that does not know of the noise, and the mean over 8
for name, classifier in {"natural": natural, "adversarial": robust, "adversarial, 8 draws vote": vote}.items():
    for draws in (1, 8):
        report = evaluate(
            classifier, x_test, y_test, threat=threat, suite=["pgd-20"], eot=draws, n_examples=25, indicators=False
        )
        print(f"{name}, gradients of {draws} draws: {report.robust_accuracy:.1%} of {report.clean_accuracy:.1%} clean")
