"""Was this image attacked, and how? A detector in ART's manner, and an attacker who knows of it.

Runs in under two minutes on two CPU cores: python examples/11_attack_forensics.py
"""

from functools import partial

import torch
from art.attacks.evasion import ProjectedGradientDescent

from art_ext import ThreatModel
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load
from art_ext.detectors import AttackForensics, confusion, evasion, unseen_attacks

x, y, x_test, y_test = load("fashion-mnist-5k")
threat = ThreatModel("linf", 26 / 255)

# A network that is trained already; ART's own training, on natural images
adam = partial(torch.optim.Adam, lr=2e-3)
classifier = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)
classifier.fit(x[:2000], y[:2000], nb_epochs=5)

# The detector attacks images of the classifier to learn from; others, that the classifier has not seen, choose the
# threshold, so that no more than 5 % of new images are reported for nothing
detector = AttackForensics(classifier, threat=threat, families=["fgsm", "pgd-linf", "pgd-l2"], progress=False)
detector.fit(x[:500], y[:500], nb_epochs=8, calibration=x[4000:])

attack = ProjectedGradientDescent(classifier, eps=threat.eps, eps_step=threat.eps / 4, max_iter=10, verbose=False)
report, is_adversarial = detector.detect(attack.generate(x_test[:5], y_test[:5]))
print(is_adversarial, report["family"], sep="\n")

# What it takes attacks for that it has never seen
unseen = unseen_attacks(classifier, threat=threat)
chosen = {name: unseen[name] for name in ("apgd", "mim", "spatial", "noise")}
print(confusion(detector, x_test[:60], y_test[:60], attacks=chosen, progress=False))

# The number that counts: an attacker who differentiates through the detector too
print(evasion(detector, x_test[:40], y_test[:40], eps=[threat.eps], steps=90, progress=False))
