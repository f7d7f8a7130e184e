"""What breaks an evaluation, in a few lines each: parts of the defenses in `broken`.

Functions before the network take images (N, C, H, W) in [0, 1] to images, functions after it logits to logits.
"""

from collections.abc import Callable
from io import BytesIO
from math import pi
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Step = Callable[[Tensor], Tensor]


def identity(x: Tensor) -> Tensor:
    return x


class Around(nn.Module):
    """A network with something before and something after it."""

    def __init__(self, network: nn.Module, before: Step = identity, after: Step = identity) -> None:
        super().__init__()
        self.network, self.before, self.after = network, before, after

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.network(self.before(x)))


def zero_gradient(x: Tensor, value: Tensor) -> Tensor:
    """``value`` as a function of ``x`` whose gradient is there, and zero."""
    return value.detach() + 0.0 * x


# before the network: the image


def hard_quantization(x: Tensor, levels: int = 12) -> Tensor:
    return (x * (levels - 1)).round() / (levels - 1)


def soft_quantization(x: Tensor, levels: int = 12, steepness: float = 2000.0) -> Tensor:
    place = x * (levels - 1)
    step = place.detach().floor()
    return (step + 0.5 + 0.5 * torch.tanh(steepness * (place - step - 0.5))) / (levels - 1)


def thermometer(x: Tensor, levels: int = 16) -> Tensor:
    """One bit for each threshold that the value exceeds; decoded by counting the bits."""
    thresholds = (torch.arange(1, levels) / levels).to(x)
    bits = (x[..., None] > thresholds).float()
    return zero_gradient(x, (bits.sum(-1) + 0.5) / levels)


def jpeg(x: Tensor, quality: int = 90) -> Tensor:
    pixels = (x.detach() * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(image, quality) for image in pixels])
    return zero_gradient(x, torch.from_numpy(decoded).permute(0, 3, 1, 2).to(x) / 255)


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def sine(x: Tensor, amplitude: float = 2 / 255, periods: float = 20.37) -> Tensor:
    """So many periods for each 8-bit value: the slope runs between ±256, and its sign is as good as random."""
    return x + amplitude * torch.sin(2 * pi * 255 * periods * x)


def not_a_number(x: Tensor) -> Tensor:
    """x itself; the derivative of the root at zero is infinite, times zero."""
    return x + (0.0 * x).sqrt()


def detached(x: Tensor) -> Tensor:
    return x.detach()


def reversed_gradient(x: Tensor) -> Tensor:
    return _Reversed.apply(x)


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return -grad


def resize_and_pad(x: Tensor, low: int = 32, high: int = 36) -> Tensor:
    """Xie et al. 2018 (https://arxiv.org/abs/1711.01991), one size and place for a batch."""
    size = int(torch.randint(low, high, ()))
    left, top = (int(v) for v in torch.randint(0, high - size + 1, (2,)))
    x = F.interpolate(x, size=(size, size), mode="bilinear", align_corners=False)
    return F.pad(x, (left, high - size - left, top, high - size - top), mode="replicate")


# after the network: the logits


def scaled(factor: float) -> Step:
    return lambda z: factor * z


def one_hot(z: Tensor) -> Tensor:
    return 10.0 * F.one_hot(z.argmax(1), z.shape[1]).to(z) + 0.0 * z


def flattened(z: Tensor, steepness: float = 10.0) -> Tensor:
    """±1: the best class above the middle between the two best, all others below, both ends of a tanh in float32."""
    middle = z.detach().topk(2, dim=1).values.mean(1, keepdim=True)
    return torch.tanh(steepness * (z - middle))


# around the network


class Votes(Around):
    """Majority vote of noisy copies (logarithm of the share of votes)."""

    def __init__(self, network: nn.Module, *, sigma: float = 0.02, voters: int = 5) -> None:
        super().__init__(network)
        self.sigma, self.voters = sigma, voters

    def forward(self, x: Tensor) -> Tensor:
        copies = x.detach().repeat(self.voters, 1, 1, 1)
        z = self.network(copies + self.sigma * torch.randn_like(copies))
        votes = F.one_hot(z.argmax(1), z.shape[1]).view(self.voters, len(x), -1).float().mean(0)
        return (votes + 1e-3).log() + 0.0 * x.flatten(1).sum(1, keepdim=True)


class _Replacing(TorchFunctionMode):
    """Inside the block every `F.relu` is followed by ``extra``."""

    def __init__(self, extra: Step) -> None:
        super().__init__()
        self.extra = extra

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        return self.extra(out) if func is F.relu else out


class AfterReLU(Around):
    """The network with something after each of its ReLUs."""

    def __init__(self, network: nn.Module, extra: Step) -> None:
        super().__init__(network)
        self.extra = extra

    def forward(self, x: Tensor) -> Tensor:
        with _Replacing(self.extra):
            return self.network(x)


def winners(z: Tensor, share: float) -> Tensor:
    """k-winners-take-all (Xiao et al. 2020, https://arxiv.org/abs/1905.10510) over all units of a layer."""
    flat = z.flatten(1)
    lowest = flat.topk(max(1, int(share * flat.shape[1])), dim=1).values[:, -1:]
    return torch.where(flat >= lowest, flat, 0.0).view_as(z)


class TwoFaced(Around):
    """Another network, with the classes in another order, as soon as somebody wants a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        z = self.network(x)
        return z.roll(1, dims=1) if x.requires_grad and torch.is_grad_enabled() else z


class AntiAdversary(Around):
    """Steps on the input towards the class that it has already (Alfarra et al. 2022), hidden from the attacker."""

    def __init__(self, network: nn.Module, *, steps: int = 3, size: float = 0.04) -> None:
        super().__init__(network)
        self.steps, self.size = steps, size

    def forward(self, x: Tensor) -> Tensor:
        delta, label = torch.zeros_like(x), None
        for _ in range(self.steps):
            with torch.enable_grad():
                leaf = (x.detach() + delta).requires_grad_(True)
                z = self.network(leaf)
                label = z.argmax(1) if label is None else label
                (grad,) = torch.autograd.grad(F.cross_entropy(z, label, reduction="sum"), leaf)
            delta = delta - self.size * grad.sign()
        return self.network(x + delta)
