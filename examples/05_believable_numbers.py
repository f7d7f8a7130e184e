"""A defense that only looks robust, found out: indicators, escalation, transfer, an attack of your own, one page.

Runs in under a minute on two CPU cores: python examples/05_believable_numbers.py
"""

import tempfile
from pathlib import Path

import torch
from art.estimators.classification import PyTorchClassifier
from torch import nn

from art_ext import RobustTrainer, ThreatModel, evaluate
from art_ext.bpda import straight_through
from art_ext.data import load
from art_ext.evaluation import FunctionAttack, PGDAttack, transfer_matrix
from art_ext.evaluation.figures import accuracy_over_eps, svg

x, y, x_test, y_test = load("digits")
threat = ThreatModel("linf", 0.1)

network = nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
classifier = PyTorchClassifier(
    network,
    nn.CrossEntropyLoss(),
    (1, 8, 8),
    10,
    optimizer=torch.optim.Adam(network.parameters(), lr=3e-3),
    clip_values=(0.0, 1.0),
)
RobustTrainer(classifier, threat=threat, steps=5).fit(x, y, nb_epochs=20)


class Quantized(nn.Module):
    """Eight grey levels in front of the network: hardly robust, but its gradient is zero."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner((7 * images).round() / 7)


class Honest(Quantized):
    """The same function, which gives its attacker a gradient and says so: the report lists it."""

    bpda = "identity"

    def forward(self, images):
        return self.inner(straight_through((7 * images).round() / 7, images))


# The fast suite finds nothing, the indicators say why, and the escalation brings the number down
masked, honest = Quantized(network).eval(), Honest(network).eval()
report = evaluate(masked, x_test, y_test, threat=threat, escalate=True)
print(report, "\n")
print(evaluate(honest, x_test, y_test, threat=threat), "\n")

# Which model's examples fool which other one? A defense that others fool better than it fools itself masks gradients
matrix = transfer_matrix({"network": network, "masked": masked, "honest": honest}, x_test, y_test, threat=threat)
print(matrix, "\nfooled better by others:", matrix.stronger_than_own(), "\n")


# An adaptive attack in three lines: an objective of your own, or a whole step
def second_best(logits, labels):
    return logits.topk(2).values.diff(dim=1).squeeze(1)


def corner(model, images, labels, *, threat, generator):
    return threat.project(images + threat.eps * torch.randn_like(images).sign(), images)


own = [PGDAttack(name="second best", objective=second_best), FunctionAttack(name="corner", function=corner)]
print(evaluate(honest, x_test, y_test, threat=threat, suite=["standard", *own], n_examples=100), "\n")

# All of it on one page that needs no network
curve = accuracy_over_eps(honest, x_test, y_test, threat=threat, eps=[0.0, 0.05, 0.1, 0.2, 0.4])
with tempfile.TemporaryDirectory() as folder:
    page = Path(folder) / "report.html"
    report.to_html(page, title="Quantized digits", figures=[("Accuracy over ε", svg(curve))])
    print(f"report.html: {page.stat().st_size / 1024:.0f} KiB")
