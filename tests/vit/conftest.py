"""Vision transformers so small that a gradient takes a millisecond."""

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn
from torchvision.models import VisionTransformer

TINY = {"num_classes": 4, "num_heads": 2, "depth": 3}
SWIN = {"num_classes": 4, "img_size": 16, "patch_size": 2, "window_size": 4, "depths": (2, 1), "num_heads": (1, 2)}


def timm_net(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, **options)


def of_timm(name: str, **options: object) -> nn.Module:
    return timm_net(name, **{"img_size": 8, "patch_size": 4, "embed_dim": 16} | TINY | options)


NETWORKS: dict[str, Callable[[], nn.Module]] = {  # images of 3×8×8, those of Swin 3×16×16; three blocks each
    "vit": lambda: of_timm("vit_tiny_patch16_224"),
    "vit-layerscale": lambda: of_timm("vit_tiny_patch16_224", init_values=0.5, class_token=False, global_pool="avg"),
    "deit-distilled": lambda: of_timm("deit_tiny_distilled_patch16_224"),
    "deit3": lambda: of_timm("deit3_small_patch16_224"),
    "convit": lambda: of_timm("convit_tiny", embed_dim=8, local_up_to_layer=2),
    "beit": lambda: of_timm("beit_base_patch16_224"),
    "swin": lambda: timm_net("swin_tiny_patch4_window7_224", embed_dim=8, **SWIN),
    "swin-v2": lambda: timm_net("swinv2_tiny_window8_256", embed_dim=8, **SWIN),
    "torchvision": lambda: VisionTransformer(8, 4, 3, 2, 16, 32, num_classes=4),
}


def perturbed(net: nn.Module) -> nn.Module:
    """With weights that are no zeros: some networks begin with a head, or a scale, that no gradient passes."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p), alpha=0.3)
    return net


@pytest.fixture
def make_vit() -> Callable[..., nn.Module]:
    """Makes a network of `NETWORKS`, in eval mode and float64."""

    def make(name: str = "vit", seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return perturbed(NETWORKS[name]()).double().eval()

    return make


@pytest.fixture
def make_images() -> Callable[..., torch.Tensor]:
    """Makes two images for a network of `NETWORKS`."""

    def make(name: str = "vit") -> torch.Tensor:
        size = 16 if "swin" in name else 8
        return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1)).double()

    return make
