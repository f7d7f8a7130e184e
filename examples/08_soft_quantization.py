"""Noisy natural training through soft quantization: as fast as ordinary training, and what plain PGD does not see.

Runs in under two minutes on two CPU cores: python examples/08_soft_quantization.py
"""

from functools import partial
from time import perf_counter

import torch

from art_ext import NoisyTrainer, RobustTrainer, SoftQuantization, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load

x, y, x_test, y_test = load("fashion-mnist-5k")
x_test, y_test = x_test[::10], y_test[::10]
threat = ThreatModel("linf", 0.1)


def fresh():
    torch.manual_seed(0)
    adam = partial(torch.optim.Adam, lr=2e-3)
    return timm_classifier("small_cnn", num_classes=10, input_shape=(1, 28, 28), optimizer=adam)


# The layer becomes the first preprocessor of the classifier; its temperature falls from 1 to its own
layer = SoftQuantization(levels=2, temperature=0.02)
# The exact objective of the paper, by a second derivative, beside its approximation by noise
trainers = {
    "noise, quantized": NoisyTrainer(fresh(), threat=threat, quantization=layer),
    "input gradients": NoisyTrainer(fresh(), threat=threat, noise=None, gradient_penalty=threat.eps),
    "PGD-10 training": RobustTrainer(fresh(), threat=threat, steps=10),
}
for name, trainer in trainers.items():
    began = perf_counter()
    trainer.fit(x, y, nb_epochs=4)
    row = trainer.history.rows[-1]
    figures = ", ".join(f"{key} {row[key]:.3f}" for key in ("loss", "temperature", "gradient_l1") if key in row)
    print(f"{name}: {perf_counter() - began:.0f} s, last epoch: {figures}")

# PGD on the gradients that the layer has, then all that it has to face (suite=None): the lower number counts
for name, trainer in trainers.items():
    for told, suite in (("plain PGD", ["pgd-20"]), ("all that it has to face", None)):
        judged = trainer.get_classifier()
        report = evaluate(judged, x_test, y_test, threat=threat, suite=suite, n_examples=40, indicators=False)
        print(f"{name}, {told}: {report.robust_accuracy:.1%} of {report.clean_accuracy:.1%} clean")

# In use the steps may be exact
layer.set_params(hard=True)
predictions = trainers["noise, quantized"].predict(x_test)
print(f"hard steps: {(predictions.argmax(1) == y_test).mean():.1%} clean")
