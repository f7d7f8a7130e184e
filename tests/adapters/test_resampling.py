"""Weights of 224 pixels in networks for 32: resampled as timm does it, told, and strict in everything else."""

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from art_ext.adapters.timm import timm_classifier

SMALL = partial(timm_classifier, input_shape=(3, 32, 32), device="cpu")
TINY: dict[str, Any] = {"depth": 2, "embed_dim": 16, "num_heads": 2}
SWIN: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}
PATCH, POSITION = "patch_embed.proj.weight", "pos_embed"
NETWORKS: dict[str, tuple[str, dict[str, Any], int, list[str]]] = {  # and what is resampled for such patches
    "ViT": ("vit_tiny_patch16_224", TINY, 4, [POSITION, PATCH]),
    "same patches": ("vit_tiny_patch16_224", TINY, 16, [POSITION]),
    "distilled DeiT": ("deit_tiny_distilled_patch16_224", TINY, 4, [POSITION, PATCH]),
    "ConViT": ("convit_tiny", {**TINY, "embed_dim": 8}, 4, [POSITION, PATCH]),
    "Swin, windows of 4": (
        "swin_tiny_patch4_window7_224",
        SWIN,
        8,
        [PATCH, *(f"layers.{stage}.blocks.0.attn.relative_position_bias_table" for stage in (0, 1))],
    ),
}
pytestmark = [  # of timm's interpolation
    pytest.mark.filterwarnings("ignore:torch.searchsorted:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning"),
]
networks = pytest.mark.parametrize("name, kwargs, patch, resampled", NETWORKS.values(), ids=NETWORKS)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes the weights of a network of 224 pixels, of 10 classes, into a file."""

    def make(name: str, file: str = "w.safetensors", prefix: str = "", **kwargs: Any) -> Path:
        state = timm.create_model(name, num_classes=10, **kwargs).state_dict()
        state = {prefix + k: torch.randn_like(v) if v.is_floating_point() else v for k, v in state.items()}
        if prefix:
            state |= {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}
        save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / file)
        return tmp_path / file

    return make


@networks
def test_a_file_is_resampled_as_timm_resamples_pretrained_weights(write, name, kwargs, patch, resampled) -> None:
    file, overlay = write(name, **kwargs), {"num_classes": 10}
    options = {"num_classes": 10, "patch_size": patch, **kwargs}
    with pytest.warns(UserWarning, match="of a network for other patches or another size") as told:
        found = SMALL(name, checkpoint=file, **options).model.model.state_dict()
    assert set(re.findall(r"[\w.]+(?:pos_embed|weight|table)\b|pos_embed", str(told[-1].message))) == set(resampled)
    overlay |= {"file": str(file)}
    expected = SMALL(name, pretrained=True, pretrained_cfg_overlay=overlay, **options).model.model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in found)


@networks
def test_what_does_not_hang_on_the_pixels_is_as_in_the_file(write, name, kwargs, patch, resampled) -> None:
    file = write(name, **kwargs)
    with pytest.warns(UserWarning, match="resampled"):
        network = SMALL(name, checkpoint=file, num_classes=10, patch_size=patch, **kwargs).model.model
    state, made = load_file(file), network.state_dict()
    changed = {key for key in made if made[key].shape != state[key].shape or not torch.equal(made[key], state[key])}
    assert changed == set(resampled)
    assert state.keys() == made.keys()


def test_a_whole_classifier_keeps_its_normalisation(write) -> None:
    file = write("vit_tiny_patch16_224", prefix="model.", **TINY)
    with pytest.warns(UserWarning, match="resampled"):
        model = SMALL("vit_tiny_patch16_224", checkpoint=file, num_classes=10, patch_size=4, **TINY).model
    assert model.mean.flatten().tolist() == [0, 0, 0]
    assert model.model.pos_embed.shape == (1, 65, 16)


def test_a_constant_position_embedding_stays_constant(tmp_path: Path) -> None:
    """Interpolation has weights that sum to one; the class token's own embedding is not interpolated."""
    source = timm.create_model("vit_tiny_patch16_224", num_classes=10, **TINY)
    with torch.no_grad():
        source.pos_embed.fill_(0.25)
        source.pos_embed[:, 0] = -1
    torch.save(source.state_dict(), tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="resampled"):
        made = SMALL("vit_tiny_patch16_224", checkpoint=tmp_path / "w.pth", num_classes=10, patch_size=4, **TINY)
    embedding = made.model.model.pos_embed
    torch.testing.assert_close(embedding[:, 1:], torch.full((1, 64, 16), 0.25))
    torch.testing.assert_close(embedding[:, 0], torch.full((1, 16), -1.0))


def test_weights_that_fit_are_taken_in_silence(write, tmp_path: Path) -> None:
    options: dict[str, Any] = {"num_classes": 10, "patch_size": 4, **TINY}
    source = SMALL("vit_tiny_patch16_224", **options)
    save_file(source.model.state_dict(), tmp_path / "fits.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = SMALL("vit_tiny_patch16_224", checkpoint=tmp_path / "fits.safetensors", **options)
    assert torch.equal(made.model.model.pos_embed, source.model.model.pos_embed)


@pytest.mark.filterwarnings("ignore:.*resampled:UserWarning")
def test_another_number_of_classes_is_refused_with_the_way_to_do_it(write) -> None:
    file, options = write("vit_tiny_patch16_224", **TINY), {"num_classes": 7, "patch_size": 4, **TINY}
    with pytest.raises(
        ValueError, match=r"head.weight \(10, 16\) instead of \(7, 16\).*begin with a new head"
    ) as caught:
        SMALL("vit_tiny_patch16_224", checkpoint=file, **options)
    hint = re.search(r"pretrained=True, pretrained_cfg_overlay=(\{.*\})", str(caught.value))
    assert hint is not None
    overlay = {"file": str(file)}
    assert hint.group(1) == repr(overlay)
    made = SMALL("vit_tiny_patch16_224", pretrained=True, pretrained_cfg_overlay=overlay, **options)
    assert made.model.model.head.weight.shape == (7, 16)
    assert made.model.model.pos_embed.shape == (1, 65, 16)


@pytest.mark.filterwarnings("ignore:.*resampled:UserWarning")
def test_another_depth_is_refused_without_that_hint(write) -> None:
    file = write("vit_tiny_patch16_224", **TINY)
    with pytest.raises(ValueError, match=r"missing: blocks\.2\.") as caught:
        SMALL("vit_tiny_patch16_224", checkpoint=file, num_classes=10, patch_size=4, **(TINY | {"depth": 3}))
    assert "new head" not in str(caught.value)
