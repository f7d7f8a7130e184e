"""PIAT in an ART pipeline: the trainer takes an ART classifier, ART's own attack judges the result.

Runs in under a minute on two CPU cores: python examples/01_piat_in_art.py
"""

import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import PIATTrainer, ThreatModel, evaluate
from art_ext.data import load

# 1. Data: Fashion-MNIST, 5000 + 1000 images, ships with the package; (N, 1, 28, 28) float32 in [0, 1]
x, y, x_test, y_test = load("fashion-mnist-5k")
threat = ThreatModel("linf", 0.1)

# 2. A network and its ART classifier, as in any ART script
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU(),
    nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU(),
    nn.Flatten(), nn.Linear(32 * 7 * 7, 100), nn.ReLU(), nn.Linear(100, 10),
)  # fmt: skip
classifier = PyTorchClassifier(
    model=network,
    loss=nn.CrossEntropyLoss(),
    optimizer=torch.optim.Adam(network.parameters(), lr=2e-3),
    input_shape=(1, 28, 28),
    nb_classes=10,
    clip_values=(0.0, 1.0),
    preprocessing=None,
)

# 3. PIAT with the NMSE loss; a tenth of the images is held out and chooses the best epoch
trainer = PIATTrainer(classifier, threat=threat, steps=7, step_size=0.025, restore_best=True)
trainer.fit(x, y, batch_size=128, nb_epochs=8, validation_split=0.1)
print("robust accuracy on the held-out images, epoch by epoch:", [f"{r:.1%}" for r in trainer.history.column("robust")])

# 4. ART's attacks work on the classifier as ever, and evaluate() puts them beside ours
pgd = ProjectedGradientDescent(
    classifier, eps=0.1, eps_step=0.025, max_iter=20, num_random_init=1, batch_size=128, verbose=False
)
print(evaluate(classifier, x_test[::5], y_test[::5], threat=threat, suite=["fast", ("ART PGD-20", pgd)]))
