"""A vision transformer from timm: TRADES with AdamW, warm-up per batch, gradient clipping, weight averaging.

A small one from scratch on small images, so the numbers are small too; ``pretrained=True`` and an image size of 224
make it the real thing. Runs in under two minutes on two CPU cores: python examples/03_timm_vit.py
"""

from functools import partial

import torch

from art_ext import RobustTrainer, ThreatModel, evaluate
from art_ext.adapters.timm import timm_classifier
from art_ext.data import load

x, y, x_test, y_test = load("fashion-mnist-5k")
threat = ThreatModel("linf", 0.05)
epochs, batch_size = 5, 128

classifier = timm_classifier(
    "vit_tiny_patch16_224",
    num_classes=10,
    input_shape=(1, 28, 28),
    patch_size=7,
    depth=3,
    optimizer=partial(torch.optim.AdamW, lr=1e-3, weight_decay=0.05),
)
batches = epochs * -(-len(x) // batch_size)
warm_up = torch.optim.lr_scheduler.OneCycleLR(classifier.optimizer, max_lr=1e-3, total_steps=batches)

trainer = RobustTrainer(
    classifier, threat=threat, loss="trades", steps=4, averaging="ema", grad_clip=1.0, augment="crop"
)
trainer.fit(x, y, batch_size=batch_size, nb_epochs=epochs, scheduler=warm_up, scheduler_step="batch")
print(evaluate(classifier, x_test[::20], y_test[::20], threat=threat))
