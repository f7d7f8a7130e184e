"""`timm_classifier`: the right network, the right normalisation, checkpoints, and errors that help."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from art.attacks.evasion import ProjectedGradientDescent
from art.estimators.classification import PyTorchClassifier
from safetensors.torch import save_file
from torch import Tensor, nn

from art_ext.adapters.timm import _device, _fit_stem, timm_classifier
from art_ext.processes import Processes

build = partial(timm_classifier, num_classes=10, device="cpu")
small = partial(build, "small_cnn", input_shape=(1, 8, 8), width=2)
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def network(classifier: PyTorchClassifier) -> Any:
    return classifier.model.model


@pytest.mark.parametrize(
    "name, shape, kwargs",
    [
        pytest.param("resnet18", (3, 32, 32), {}, id="ResNet"),
        pytest.param("vit_tiny_patch16_224", (3, 32, 32), {"patch_size": 4, "depth": 2}, id="ViT, patch 4"),
        pytest.param("vit_tiny_patch16_224", (1, 32, 64), {"depth": 1}, id="ViT, grey and oblong"),
        pytest.param("mobilenetv3_small_050", (3, 32, 32), {}, id="MobileNet"),
        pytest.param("preact_resnet_cifar", (3, 32, 32), {"width": 4, "blocks": 1}, id="CIFAR network"),
        pytest.param("small_cnn", (1, 28, 28), {}, id="small CNN"),
        pytest.param("cnn_a_cifar", (3, 16, 16), {}, id="size of a plain network"),
    ],
)
def test_classifies_images_of_the_given_shape(name: str, shape: tuple[int, int, int], kwargs: dict[str, Any]) -> None:
    classifier = build(name, input_shape=shape, **kwargs)
    assert classifier.predict(np.zeros((2, *shape), np.float32)).shape == (2, 10)
    assert classifier.input_shape == shape
    np.testing.assert_array_equal(classifier.clip_values, (0, 1))
    assert classifier.preprocessing is None
    assert classifier.channels_first


def test_vit_has_the_patches_that_were_asked_for() -> None:
    vit = network(build("vit_tiny_patch16_224", input_shape=(3, 32, 32), patch_size=4, depth=1))
    assert vit.patch_embed.num_patches == 64


def test_predicts_what_timm_predicts_on_normalised_images() -> None:
    classifier = small(mean=(0.2,), std=(0.4,))
    x = torch.rand(3, 1, 8, 8)
    expected = network(classifier).eval()((x - 0.2) / 0.4)
    np.testing.assert_allclose(classifier.predict(x.numpy()), expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, channels, kwargs, mean, std",
    [
        pytest.param("resnet18", 3, {}, *IMAGENET, id="ImageNet"),
        pytest.param("vit_tiny_patch16_224", 3, {"depth": 1, "img_size": 32}, [0.5] * 3, [0.5] * 3, id="ViT of timm"),
        pytest.param("resnet18", 1, {}, [0.449], [0.226], id="grey images: the average"),
        pytest.param("resnet18", 3, {"mean": (0.1,), "std": (0.2, 0.3, 0.4)}, [0.1] * 3, [0.2, 0.3, 0.4], id="given"),
    ],
)
def test_normalisation(name: str, channels: int, kwargs: dict[str, Any], mean: Any, std: Any) -> None:
    model = build(name, input_shape=(channels, 32, 32), **kwargs).model
    torch.testing.assert_close(model.mean.flatten(), torch.tensor(mean), atol=1e-3, rtol=0)
    torch.testing.assert_close(model.std.flatten(), torch.tensor(std), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    "name, size, stem, kernel",
    [
        pytest.param("resnet18", 32, "auto", 3, id="auto, small image"),
        pytest.param("resnet18", 64, "auto", 3, id="auto, 64 pixels"),
        pytest.param("resnet18", 96, "auto", 7, id="auto, larger image"),
        pytest.param("resnet18", 32, "imagenet", 7, id="imagenet on a small image"),
        pytest.param("resnet18d", 32, "cifar", 3, id="deep stem replaced"),
    ],
)
def test_stem(name: str, size: int, stem: Any, kernel: int) -> None:
    net = network(build(name, input_shape=(3, size, size), stem=stem)).eval()
    small_stem = kernel == 3
    assert net.conv1.kernel_size == (kernel, kernel)
    assert net.conv1.stride == ((1, 1) if small_stem else (2, 2))
    assert isinstance(net.maxpool, nn.Identity) == small_stem
    assert net.forward_features(torch.zeros(1, 3, size, size)).shape[-1] == size // (8 if small_stem else 32)


@pytest.mark.parametrize(
    "channels, parameters",
    [
        pytest.param({}, 11_173_962, id="the usual"),
        pytest.param({"channels": (80, 160, 320, 640)}, 17_447_466, id="a quarter wider"),
    ],
)
def test_cifar_resnet18_has_the_number_of_parameters(channels: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        net = timm.create_model("resnet18", num_classes=10, **channels)
        _fit_stem(net, "resnet18", "cifar", (3, 32, 32), pretrained=False)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(
    "optimizer, kind, settings",
    [
        pytest.param(None, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 5e-4}, id="default"),
        pytest.param(partial(torch.optim.AdamW, lr=0.02), torch.optim.AdamW, {"lr": 0.02}, id="callable"),
        pytest.param(
            torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.03), torch.optim.AdamW, {"lr": 0.03}, id="instance"
        ),
    ],
)
def test_optimizer_holds_the_parameters_of_the_model(optimizer: Any, kind: type, settings: dict[str, float]) -> None:
    classifier = small(optimizer=optimizer)
    assert type(classifier.optimizer) is kind
    assert classifier.optimizer.defaults.items() >= settings.items()
    held = {id(p) for group in classifier.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in classifier.model.parameters()}


def test_trains_and_is_attacked_in_art() -> None:
    classifier = small(optimizer=partial(torch.optim.SGD, lr=0.01))
    x, y = np.random.default_rng(0).random((8, 1, 8, 8), np.float32), np.arange(8)
    before = network(classifier).get_classifier().weight.detach().clone()
    classifier.fit(x, y, nb_epochs=1, batch_size=4)
    assert not torch.equal(before, network(classifier).get_classifier().weight)
    x_adv = ProjectedGradientDescent(classifier, eps=0.1, eps_step=0.05, max_iter=2, verbose=False).generate(x)
    assert 0 < np.abs(x_adv - x).max() <= 0.1 + 1e-6


State = dict[str, Tensor]


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="plain"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="state_dict inside"),
        pytest.param(lambda state: {f"module.{k}": v for k, v in state.items()}, id="DataParallel"),
        pytest.param(lambda state: {f"_orig_mod.module.{k}": v for k, v in state.items()}, id="compiled DataParallel"),
        pytest.param(lambda state: {f"model.{k}": v for k, v in state.items()}, id="wrapped"),
    ],
)
def test_checkpoint_forms(wrap: Callable[[State], dict[str, Any]], tmp_path: Path) -> None:
    source = small()
    torch.save(wrap(network(source).state_dict()), tmp_path / "weights.pth")
    loaded = small(checkpoint=tmp_path / "weights.pth")
    x = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(loaded.predict(x), source.predict(x))


def test_safetensors_of_the_whole_classifier_restore_its_normalisation(tmp_path: Path) -> None:
    source = small(mean=(0.9,), std=(0.8,))
    save_file(source.model.state_dict(), tmp_path / "last.safetensors")
    loaded = small(checkpoint=tmp_path / "last.safetensors")
    x = np.random.default_rng(0).random((2, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(loaded.predict(x), source.predict(x))


def test_old_checkpoints_without_batch_counters_load(tmp_path: Path) -> None:
    options = {"input_shape": (3, 8, 8), "width": 2, "blocks": 1}
    source = build("preact_resnet_cifar", **options)
    state = {k: v for k, v in network(source).state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "old.pth")
    loaded = build("preact_resnet_cifar", checkpoint=tmp_path / "old.pth", **options)
    torch.testing.assert_close(network(loaded).conv1.weight, network(source).conv1.weight, rtol=0, atol=0)


def test_checkpoint_of_another_architecture_is_described(tmp_path: Path) -> None:
    state = network(small(num_classes=7)).state_dict()
    state["extra.weight"] = state.pop("0.bias")
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not fit the architecture 'small_cnn'") as caught:
        small(checkpoint=tmp_path / "other.pth")
    assert "missing: 0.bias" in str(caught.value)
    assert "unexpected: extra.weight" in str(caught.value)
    assert "13.weight (7, 128) instead of (10, 128)" in str(caught.value)


class Opaque:
    """Something that only executing code can restore."""


@pytest.mark.parametrize(
    "content, message",
    [
        pytest.param(Opaque(), "plain tensors", id="code"),
        pytest.param([torch.zeros(1)], "no state dict", id="a list"),
    ],
)
def test_other_files_are_refused(content: Any, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=message):
        small(checkpoint=tmp_path / "weights.pth")


@pytest.mark.parametrize("image, patch", [(32, 4), (64, 8), (224, 16)])
def test_a_convit_takes_its_weights_to_other_patches(image: int, patch: int, tmp_path: Path) -> None:
    shape, kwargs = (3, image, image), {"patch_size": patch, "depth": 1}
    source = timm.create_model("convit_tiny", depth=1)
    save_file({name: tensor.contiguous() for name, tensor in source.state_dict().items()}, tmp_path / "w.safetensors")
    overlay = {"file": str(tmp_path / "w.safetensors")}
    made = build("convit_tiny", input_shape=shape, pretrained=True, pretrained_cfg_overlay=overlay, **kwargs)
    convit = network(made)
    assert convit.pos_embed.shape[1] == (image // patch) ** 2
    assert torch.equal(convit.blocks[0].mlp.fc1.weight, source.blocks[0].mlp.fc1.weight)
    assert torch.equal(convit.pos_embed, source.pos_embed) == (image == 224)
    assert made.predict(np.zeros((1, *shape), np.float32)).shape == (1, 10)


def test_half_a_safetensors_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "half.safetensors").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"half\.safetensors is not a whole safetensors file"):
        small(checkpoint=tmp_path / "half.safetensors")


def test_broken_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="plain tensors"):
        small(checkpoint=tmp_path / "weights.pth")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        small(checkpoint=tmp_path / "nowhere.pth")


@pytest.mark.parametrize(
    "name, kwargs, message",
    [
        pytest.param("resnet118", {}, "did you mean 'resnet18'", id="name"),
        pytest.param("preact_resnet18", {}, "preact_resnet18_cifar", id="name without its ending"),
        pytest.param("small_cnn", {"stem": "cifar"}, "'small_cnn' is a PlainNet", id="stem of another network"),
        pytest.param("resnet18", {"stem": "large"}, "'auto', 'cifar' or 'imagenet'", id="stem"),
        pytest.param("small_cnn", {"device": "cuda:99"}, "not available", id="GPU that is not there"),
        pytest.param("small_cnn", {"device": "abacus"}, "device must be", id="device"),
        pytest.param("small_cnn", {"mean": (0.1, 0.2)}, "1 or 3 numbers", id="mean"),
        pytest.param("small_cnn", {"input_shape": (28, 28)}, "channels, height, width", id="shape"),
        pytest.param("small_cnn", {"pretrained": True}, "no pretrained weights", id="pretrained CIFAR network"),
    ],
)
def test_bad_input(name: str, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(name, **{"input_shape": (3, 32, 32), **kwargs})


def test_unreachable_pretrained_weights_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> nn.Module:
        raise OSError("cannot reach the hub")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(RuntimeError, match=r"'resnet18'.*cannot reach the hub.*checkpoint="):
        build("resnet18", input_shape=(3, 32, 32), pretrained=True)


def test_auto_keeps_the_stem_of_pretrained_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kwargs: create(name, **kwargs))
    assert network(build("resnet18", input_shape=(3, 32, 32), pretrained=True)).conv1.kernel_size == (7, 7)


@pytest.mark.parametrize(
    "device, asked", [("auto", True), ("gpu", True), ("cuda", True), ("cuda:1", False), ("cpu", False)]
)
def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, device: str, asked: bool) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(Processes, "launched", lambda: calls.append(True))
    _device(device)
    assert bool(calls) == asked


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("device", ["auto", "gpu", "cuda", "cuda:0"])
def test_gpu(device: str) -> None:
    classifier = timm_classifier("small_cnn", num_classes=10, input_shape=(1, 8, 8), device=device)
    assert classifier.device.type == "cuda"
    assert classifier.model.mean.is_cuda


@pytest.mark.data
def test_published_weights_through_checkpoint(data_dir: Path) -> None:
    file = data_dir / "weights" / "cifar10_resnet20_std.pth"
    if not file.is_file():
        pytest.skip(f"no {file.name} in {file.parent}")
    mean, std = IMAGENET
    classifier = build("resnet20_cifar", input_shape=(3, 32, 32), checkpoint=file, mean=mean, std=std)
    state = torch.load(file, weights_only=True)
    torch.testing.assert_close(network(classifier).linear.weight.detach(), state["linear.weight"])
