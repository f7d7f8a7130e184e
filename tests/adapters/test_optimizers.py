"""Learning rates and weight decay of layers."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW

from art_ext.adapters.timm import LayerwiseOptimizer, timm_classifier

build = partial(timm_classifier, num_classes=4, device="cpu")
vit = partial(build, "vit_tiny_patch16_224", input_shape=(3, 8, 8), patch_size=4, embed_dim=12, num_heads=2, depth=3)


def settings(classifier: Any) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter, by name; each one is there exactly once."""
    names = {id(p): name for name, p in classifier.model.model.named_parameters()}
    found = [
        (names.pop(id(p)), (group["lr"], group["weight_decay"]))
        for group in classifier.optimizer.param_groups
        for p in group["params"]
    ]
    assert not names
    return dict(found)


@pytest.mark.parametrize("make", [SGD, AdamW])
@pytest.mark.parametrize("decay", [0.5, 0.75, 1.0])
def test_the_rate_of_a_layer(make, decay) -> None:
    found = settings(vit(optimizer=LayerwiseOptimizer(make, lr=0.1, weight_decay=0.05, layer_decay=decay)))
    for name, layer in {
        "cls_token": 0,
        "pos_embed": 0,
        "patch_embed.proj.weight": 0,
        "blocks.0.attn.qkv.weight": 1,
        "blocks.0.norm1.bias": 1,
        "blocks.1.mlp.fc2.bias": 2,
        "blocks.2.attn.proj.weight": 3,
        "norm.weight": 3,
        "head.weight": 4,
        "head.bias": 4,
    }.items():
        assert found[name] == (pytest.approx(0.1 * decay ** (4 - layer)), 0.05), name


@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_biases_norms_and_positions_without_weight_decay(layer_decay) -> None:
    options = {"lr": 0.1, "weight_decay": 0.05, "layer_decay": layer_decay}
    free = settings(vit(optimizer=LayerwiseOptimizer(SGD, filter_bias_and_bn=True, **options)))
    for name, (_, decay) in free.items():
        one = name.endswith("bias") or "norm" in name or name in ("cls_token", "pos_embed")
        assert decay == (0 if one else 0.05), name
    whole = settings(vit(optimizer=LayerwiseOptimizer(SGD, **options)))
    assert {decay for _, decay in whole.values()} == {0.05}
    assert {name: rate for name, (rate, _) in whole.items()} == {name: rate for name, (rate, _) in free.items()}


def test_without_either_it_is_the_optimizer_itself() -> None:
    assert set(settings(vit(optimizer=LayerwiseOptimizer(SGD, lr=0.1, weight_decay=0.01))).values()) == {(0.1, 0.01)}
    plain = LayerwiseOptimizer(SGD, lr=0.1, momentum=0.9)([nn.Parameter(torch.zeros(1))])
    assert (plain.defaults["lr"], plain.defaults["momentum"]) == (0.1, 0.9)


@pytest.mark.parametrize("name, kwargs", [("resnet18", {}), ("small_cnn", {}), ("preact_resnet_cifar", {"width": 4})])
def test_networks_that_are_no_transformers(name, kwargs) -> None:
    make = LayerwiseOptimizer(SGD, lr=1.0, layer_decay=0.5)
    found = settings(build(name, input_shape=(3, 32, 32), optimizer=make, **kwargs))
    assert max(rate for rate, _ in found.values()) == 1


def test_parametric_noise_has_the_rate_of_its_layer_and_no_weight_decay() -> None:
    make = LayerwiseOptimizer(SGD, lr=1.0, weight_decay=0.1, layer_decay=0.5)
    found = settings(vit(optimizer=make, parametric_noise="layer"))
    noise = {name: value for name, value in found.items() if name.endswith("alpha")}
    assert noise["blocks.1.mlp.fc1.parametrizations.weight.0.alpha"] == (0.25, 0.0)
    assert all(decay == 0 for _, decay in noise.values())
    assert found["blocks.1.mlp.fc1.parametrizations.weight.original"] == (0.25, 0.1)


def test_schedulers_keep_the_proportions_and_the_network_learns() -> None:
    classifier = vit(optimizer=LayerwiseOptimizer(SGD, lr=0.1, layer_decay=0.5))
    before = [group["lr"] for group in classifier.optimizer.param_groups]
    schedule = torch.optim.lr_scheduler.StepLR(classifier.optimizer, 1, 0.1)
    x, y = np.random.default_rng(0).random((8, 3, 8, 8), np.float32), np.arange(8) % 4
    weight = classifier.model.model.blocks[0].mlp.fc1.weight.detach().clone()
    classifier.fit(x, y, nb_epochs=1, batch_size=8)
    schedule.step()
    after = [group["lr"] for group in classifier.optimizer.param_groups]
    assert after == pytest.approx([0.1 * rate for rate in before])
    assert not torch.equal(weight, classifier.model.model.blocks[0].mlp.fc1.weight)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer_decay": 0.0}, r"layer_decay must be in \(0, 1\]"),
        ({"layer_decay": 1.1}, r"layer_decay must be in \(0, 1\]"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"weight_decay": -1.0}, "weight_decay must be ≥ 0"),
    ],
    ids=str,
)
def test_bad_arguments(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        LayerwiseOptimizer(SGD, **({"lr": 0.1} | options))
