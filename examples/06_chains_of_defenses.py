"""Input defenses of ours and of ART in one chain, in both orders: trained, predicted, attacked and evaluated.

Runs in about a minute on two CPU cores: python examples/06_chains_of_defenses.py
"""

import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.defences.preprocessor import GaussianAugmentation, JpegCompression, SpatialSmoothing, SpatialSmoothingPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import DefendedModel, NoiseInjection, RobustTrainer, SoftQuantization, ThreatModel, evaluate
from art_ext.bpda import declared
from art_ext.data import load
from art_ext.preprocessors import StraightThrough

x, y, x_test, y_test = load("fashion-mnist-5k")
x_test, y_test = x_test[::10], y_test[::10]
threat = ThreatModel("linf", 0.05)

# A network that is used to its coarse grey levels: soft quantization acts in training and in use
quantization = SoftQuantization(levels=4, temperature=0.1)
network = nn.Sequential(
    nn.Conv2d(1, 16, 5, stride=2),
    nn.ReLU(),
    nn.Conv2d(16, 32, 5, stride=2),
    nn.ReLU(),
    nn.Flatten(),
    nn.Linear(512, 10),
)


def behind(*defenses):
    """An ART classifier of the network behind these preprocessors."""
    return PyTorchClassifier(
        network,
        nn.CrossEntropyLoss(),
        (1, 28, 28),
        10,
        optimizer=torch.optim.Adam(network.parameters(), lr=2e-3),
        clip_values=(0.0, 1.0),
        preprocessing_defences=list(defenses),
    )


RobustTrainer(behind(quantization), threat=threat, steps=3).fit(x, y, nb_epochs=4)

# ART refuses chains of numpy and PyTorch preprocessors; StraightThrough lends the former the gradient of the identity.
# Its SpatialSmoothingPyTorch needs kornia, which ART does not install.
noise = NoiseInjection(scale=0.02)
gaussian = StraightThrough(GaussianAugmentation(sigma=0.02, augmentation=False, apply_predict=True, clip_values=(0, 1)))
jpeg = StraightThrough(JpegCompression(clip_values=(0, 1), quality=80, channels_first=True))
try:
    smoothing = SpatialSmoothingPyTorch(window_size=3, channels_first=True)
except ImportError:
    smoothing = StraightThrough(SpatialSmoothing(window_size=3, channels_first=True))

chains = {"ART's first": (gaussian, jpeg, smoothing, noise, quantization)}
chains["ours first"] = tuple(reversed(chains["ART's first"]))
for name, chain in chains.items():
    classifier = behind(*chain)
    print(f"\n{name}: {' → '.join(map(repr, chain))}")
    print("approximate gradients:", ", ".join(declared(DefendedModel(classifier))))
    pgd = ProjectedGradientDescent(classifier, eps=threat.eps, eps_step=threat.eps / 4, max_iter=10, verbose=False)
    for label, images in (("clean", x_test), ("ART's PGD, one draw per gradient", pgd.generate(x_test, y_test))):
        print(f"{label}: {(classifier.predict(images).argmax(1) == y_test).mean():.1%}")
    # Averaged over draws, judged by fresh ones; without suite= it would run all that these defenses have to face
    print(evaluate(classifier, x_test, y_test, threat=threat, suite=["pgd-20"], n_examples=40, indicators=False))

print("\nsoft quantization has to face:", ", ".join(getattr(a, "name", a) for a in quantization.adaptive_suite(threat)))
