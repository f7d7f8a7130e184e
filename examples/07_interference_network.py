"""An interference network: fine-tuned under backgrounds and noise, attacked as its paper does and by one who knows it.

Runs in under two minutes on two CPU cores: python examples/07_interference_network.py
"""

from functools import partial

import torch
from art.attacks.evasion import ProjectedGradientDescent

from art_ext import INNTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load

x, y, x_test, y_test = load("fashion-mnist-5k")
x_test, y_test = x_test[::5], y_test[::5]
threat = ThreatModel("linf", 0.05)

# A network that is trained already, in the place of one with ImageNet's weights; ART's own training
adam = partial(torch.optim.Adam, lr=2e-3)
plain = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
plain.fit(x, y, nb_epochs=5)

# Two classes for the two backgrounds, four epochs, whose weights vote; `plain` stays as it is
trainer = INNTrainer(plain, alpha=0.1, beta=0.1, gamma=0.1, snapshots=4)
trainer.fit(x, y, nb_epochs=4)
voting = trainer.get_classifier()
print(f"backgrounds as classes: {len(trainer.backgrounds)}, passes of a vote: {voting.model.passes}")


def accuracy(classifier, images):
    return f"{(classifier.predict(images).argmax(1) == y_test).mean():.1%}"


# As in the paper: adversarial examples of the network without interference
pgd = ProjectedGradientDescent(plain, eps=threat.eps, eps_step=2.5 * threat.eps / 20, max_iter=20, verbose=False)
x_adv = pgd.generate(x_test, y_test)
for name, classifier in (("plain", plain), ("interference network", voting)):
    print(f"{name}: clean {accuracy(classifier, x_test)}, on examples for the plain one {accuracy(classifier, x_adv)}")

# By an attacker who differentiates the vote itself. A list that holds one attack is quick; without suite= evaluate runs
# all that interference has to face.
for name, classifier in (("plain", plain), ("interference network", voting)):
    report = evaluate(
        classifier, x_test, y_test, threat=threat, suite=["pgd-20"], n_examples=30, eot=2, indicators=False
    )
    print(f"{name}, attacked itself: {report.robust_accuracy:.1%}")
