"""Parametric noise through `timm_classifier`: its optimizer, and checkpoints with and without noise."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import save_file
from torch import nn

from art_ext.adapters.timm import timm_classifier
from art_ext.nn import remove_parametric_noise
from art_ext.nn.parametric_noise import noise_scales

small = partial(timm_classifier, "small_cnn", num_classes=10, input_shape=(1, 8, 8), width=2, device="cpu")
SETTINGS = {"lr": 0.3, "momentum": 0.5, "weight_decay": 0.01}


def saved(classifier: PyTorchClassifier, path: Path) -> Path:
    save_file(classifier.model.state_dict(), path)
    return path


@pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(None, id="default"),
        pytest.param(partial(torch.optim.SGD, **SETTINGS), id="callable"),
        pytest.param(torch.optim.SGD([nn.Parameter(torch.zeros(1))], **SETTINGS), id="instance"),
    ],
)
def test_the_optimizer_decays_all_but_the_sizes(optimizer: Any) -> None:
    classifier = small(parametric_noise="channel", optimizer=optimizer)
    weights, sizes = classifier.optimizer.param_groups
    assert list(map(id, sizes["params"])) == list(map(id, noise_scales(classifier.model).values()))
    assert {id(p) for group in (weights, sizes) for p in group["params"]} == set(map(id, classifier.model.parameters()))
    assert weights["weight_decay"] == (5e-4 if optimizer is None else 0.01)
    assert sizes["weight_decay"] == 0.0
    assert sizes["lr"] == weights["lr"]


def test_predictions_are_random_and_art_trains_the_sizes() -> None:
    classifier = small(parametric_noise="layer", optimizer=partial(torch.optim.SGD, lr=0.1))
    x = np.random.default_rng(0).random((8, 1, 8, 8), np.float32)
    assert not np.array_equal(classifier.predict(x), classifier.predict(x))
    classifier.fit(x, np.arange(8), nb_epochs=1, batch_size=4)
    assert all(alpha.item() != 0.25 for alpha in noise_scales(classifier.model).values())


@pytest.mark.parametrize("noise", ["channel", None])
def test_a_checkpoint_of_a_network_without_noise(noise: str | None, tmp_path: Path) -> None:
    source = small()
    loaded = small(checkpoint=saved(source, tmp_path / "plain.safetensors"), parametric_noise=noise)
    if noise is not None:
        assert {alpha.shape[1:].numel() for alpha in noise_scales(loaded.model).values()} == {1}
        remove_parametric_noise(loaded.model, optimizer=loaded.optimizer)
    x = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(loaded.predict(x), source.predict(x))


def test_a_checkpoint_of_a_network_with_noise(tmp_path: Path) -> None:
    source = small(parametric_noise="element")
    with torch.no_grad():
        for alpha in noise_scales(source.model).values():
            alpha.uniform_()
    path = saved(source, tmp_path / "noisy.safetensors")
    state = small(checkpoint=path, parametric_noise="element").model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in source.model.state_dict().items())
    with pytest.raises(ValueError, match=r"other shapes: .*alpha \(2, 1, 3, 3\) instead of \(1, 1, 1, 1\)"):
        small(checkpoint=path, parametric_noise="layer")
    with pytest.raises(ValueError, match=r"noisy\.safetensors is of a network with parametric noise"):
        small(checkpoint=path)


def test_unknown_granularity() -> None:
    with pytest.raises(ValueError, match="unknown granularity of parametric_noise 'chanel'; did you mean 'channel'"):
        small(parametric_noise="chanel")
