"""The zoo: defenses that make attacks fail without making a network robust.

Each takes a network from [0, 1] images (N, 3, 32, 32) to logits and returns a module of the same kind. They are tuned
to the standard ResNet-20 of CIFAR-10 at ℓ∞ ε = 8/255, where plain PGD leaves nothing of the undefended network.

Small logits (a tiny factor) are not in it: PGD takes the sign of the gradient, and the sign survives until the logits
themselves are lost. Softmax in place of logits neither: PGD-20 still breaks every example.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch.nn.functional as F
from torch import nn

from tests.evaluation.zoo import masks
from tests.evaluation.zoo.masks import AfterReLU, AntiAdversary, Around, TwoFaced, Votes

UNDEFENDED, UNKNOWN = "as undefended", "unknown"  # of the second kind the zoo has none at present


@dataclass(frozen=True, kw_only=True)
class Broken:
    """One broken defense.

    Args:
        id: its name in tests.
        masks: what hides the weakness.
        build: network → defended network.
        gradient: with respect to the input: ``"zero"`` (all of it), ``"vanishing"`` (zero in most elements or for most
            images), ``"unavailable"`` (autograd raises), ``"nan"``, ``"misleading"``, ``"random"`` or ``"plain"``.
        true_robustness: ``"as undefended"``: what breaks the network inside breaks the defense too, as a test shows;
            ``"unknown"``: nobody has shown it.
        randomised: two passes give different logits.
        looks_robust: PGD-20 on cross entropy without averaging finds much less than on the network inside.
        attacked: images that a test of it can afford to attack.
    """

    id: str
    masks: str
    build: Callable[[nn.Module], nn.Module]
    gradient: str
    true_robustness: str = UNDEFENDED
    randomised: bool = False
    looks_robust: bool = True
    attacked: int = 24


def _before(step: masks.Step) -> Callable[[nn.Module], nn.Module]:
    return partial(Around, before=step)


def _after(step: masks.Step) -> Callable[[nn.Module], nn.Module]:
    return partial(Around, after=step)


def _winners(network: nn.Module) -> nn.Module:
    return AfterReLU(network, partial(masks.winners, share=0.45))


def _dropout(network: nn.Module) -> nn.Module:
    return AfterReLU(network, partial(F.dropout, p=0.01))


ZOO = (
    Broken(
        id="hard quantization",
        masks="rounding to 12 levels has no slope",
        build=_before(masks.hard_quantization),
        gradient="zero",
    ),
    Broken(
        id="soft quantization",
        masks="a staircase of tanh so steep that float32 has a slope at its edges only",
        build=_before(masks.soft_quantization),
        gradient="vanishing",
    ),
    Broken(
        id="thermometer",
        masks="comparison with 15 thresholds, decoded again (Buckman et al. 2018), has no slope",
        build=_before(masks.thermometer),
        gradient="zero",
    ),
    Broken(
        id="jpeg",
        masks="the codec knows no gradient",
        build=_before(masks.jpeg),
        gradient="zero",
    ),
    Broken(
        id="detached",
        masks="the input is cut off from autograd, which raises",
        build=_before(masks.detached),
        gradient="unavailable",
    ),
    Broken(
        id="not a number",
        masks="an identity whose derivative is infinity times zero",
        build=_before(masks.not_a_number),
        gradient="nan",
    ),
    Broken(
        id="reversed gradient",
        masks="an identity whose backward pass turns the sign",
        build=_before(masks.reversed_gradient),
        gradient="misleading",
    ),
    Broken(
        id="sine",
        masks="a fine ripple on the image: the sign of the slope is random in each pixel",
        build=_before(masks.sine),
        gradient="misleading",
    ),
    Broken(
        id="resize and pad",
        masks="a random size and place for each batch",
        build=_before(masks.resize_and_pad),
        gradient="random",
        randomised=True,
        looks_robust=False,
    ),
    Broken(
        id="temperature",
        masks="logits times 10000: softmax saturates, the gradient of the cross entropy is exactly zero",
        build=_after(masks.scaled(1e4)),
        gradient="vanishing",
    ),
    Broken(
        id="distillation",
        masks="logits times 100, as defensive distillation leaves them (Papernot et al. 2016)",
        build=_after(masks.scaled(100.0)),
        gradient="vanishing",
    ),
    Broken(
        id="argmax head",
        masks="one-hot logits have no slope",
        build=_after(masks.one_hot),
        gradient="zero",
    ),
    Broken(
        id="flattened logits",
        masks="logits pressed to ±1 by a tanh that float32 rounds to its ends, whatever the objective",
        build=_after(masks.flattened),
        gradient="vanishing",
    ),
    Broken(
        id="votes",
        masks="the majority of noisy copies: counts have no slope, and each draw is another",
        build=Votes,
        gradient="zero",
        randomised=True,
        attacked=16,
    ),
    Broken(
        id="dropout",
        masks="dropout at inference, after every ReLU",
        build=_dropout,
        gradient="random",
        randomised=True,
        looks_robust=False,
    ),
    Broken(
        id="k winners",
        masks="of each layer the largest 45 % of the units: jumps between any two points; without the retraining that "
        "a smaller share would need, so plain PGD is hardly disturbed",
        build=_winners,
        gradient="plain",
        looks_robust=False,
        attacked=16,
    ),
    Broken(
        id="two-faced",
        masks="whoever wants a gradient is shown other logits",
        build=TwoFaced,
        gradient="misleading",
    ),
    Broken(
        id="anti-adversary",
        masks="three steps on the input towards its present class, hidden from autograd (Alfarra et al. 2022)",
        build=AntiAdversary,
        gradient="misleading",
        attacked=16,
    ),
)
