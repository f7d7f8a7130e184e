"""The whole defense under other people's attacks: torchattacks through the adapter, ART, and any PyTorch library.

Needs the extra torchattacks. Runs in under a minute on two CPU cores: python examples/04_attack_with_torchattacks.py
"""

import torch
import torchattacks
from art.defences.preprocessor.preprocessor import PreprocessorPyTorch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import DefendedModel, RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.torchattacks import TorchattacksAttack
from art_ext.data import load

x, y, x_test, y_test = load("digits")
threat = ThreatModel("linf", 0.1)


class Blur(PreprocessorPyTorch):
    """A 3x3 mean filter: an input defense whose gradient passes through ``forward``."""

    def forward(self, x, y=None):
        return torch.nn.functional.avg_pool2d(x, 3, stride=1, padding=1), y


# An ART preprocessor in front of the network: it is trained through and attacked through, with its gradient
network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
classifier = PyTorchClassifier(
    network,
    nn.CrossEntropyLoss(),
    (1, 8, 8),
    10,
    optimizer=torch.optim.Adam(network.parameters(), lr=3e-3),
    clip_values=(0.0, 1.0),
    preprocessing_defences=Blur(device_type="cpu"),
)
RobustTrainer(classifier, threat=threat, steps=5).fit(x, y, nb_epochs=20)

# Through the adapter every torchattacks class is an ART attack; minimum-norm ones such as CW are credited with what
# fits into the ball
suite = ["fast", *(TorchattacksAttack(name, estimator=classifier, threat=threat) for name in ("PGD", "APGD", "CW"))]
print(evaluate(classifier, x_test, y_test, threat=threat, suite=suite))

# Without the adapter: the defense as one module, logits out of [0, 1] images, for any PyTorch attack library
model = DefendedModel(classifier).eval()
images, labels = torch.from_numpy(x_test), torch.from_numpy(y_test)
adversarial = torchattacks.PGD(model, eps=0.1, alpha=0.025, steps=20)(images, labels)
print(f"torchattacks on the module itself: {(model(adversarial).argmax(1) == labels).float().mean():.1%} survive")
