"""A purifier in front of a network that stays as it is: pre-trained, tuned on adversarial images, attacked as a whole.

Runs in under two minutes on two CPU cores: python examples/10_purifier.py
"""

from functools import partial

import torch

from art_ext import AToPTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.evaluation import transfer_matrix

x, y, x_test, y_test = load("fashion-mnist-5k")
x, y = x[:2000], y[:2000]
threat = ThreatModel("linf", 0.1)

# A network that is trained already; ART's own training, on natural images
adam = partial(torch.optim.Adam, lr=2e-3)
plain = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
plain.fit(x, y, nb_epochs=5)
plain.model.eval()
before = [weight.clone() for weight in plain.model.state_dict().values()]

trainer = AToPTrainer(
    plain,
    threat=threat,
    transform="rt2",
    purifier="unet",
    purifier_options={"width": 8},
    discriminator_options={"width": 8, "layers": 2},
    gan_weight=0.05,
    optimizer=partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.999)),
)
trainer.pretrain(x, nb_epochs=4)
defended = trainer.get_classifier()


def judge(name, classifier):
    # one attack is quick; without suite= evaluate runs all that a random mask has to face
    report = evaluate(
        classifier, x_test, y_test, threat=threat, suite=["pgd-20"], n_examples=50, eot=4, indicators=False
    )
    print(f"{name}: clean {report.clean_accuracy:.1%}, attacked through everything {report.robust_accuracy:.1%}")


judge("plain", plain)
judge("purifier, pre-trained", defended)
trainer.fit(x, y, nb_epochs=4)
judge("purifier, tuned", defended)

# Attacks that do not know of the purifier say nothing about those that do
pair = {"plain": plain, "purified": defended}
print(transfer_matrix(pair, x_test[:50], y_test[:50], threat=threat, twins=False, progress=False))
unchanged = all(map(torch.equal, before, plain.model.state_dict().values()))
print(f"the network is bit for bit what it was: {unchanged}")
