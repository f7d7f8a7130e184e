"""What `art_ext.AToPTrainer` trains: a purifier, and perhaps a discriminator, in front of a frozen classifier."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn

from art_ext.losses import Loss
from art_ext.losses.base import LossOutput
from art_ext.model import DefendedModel
from art_ext.nn.masking import Masking
from art_ext.nn.purification import purified

SHOWN = 8  # images of a batch


class Trained(nn.Module):
    """The parts with weights that change.

    Args:
        purifier: (image, mask) → image.
        discriminator: (image, mask) → scores; None for no GAN.
    """

    def __init__(self, purifier: nn.Module, discriminator: nn.Module | None) -> None:
        super().__init__()
        self.purifier, self.discriminator = purifier, discriminator


class Purified(NamedTuple):
    """What the loss needs of a batch: logits (N, C), purified images, and scores of the discriminator.

    ``real`` and ``fake`` teach the discriminator and nothing else, ``fooled`` the purifier and nothing else. What was
    not asked for is empty: the logits, or, without a discriminator, its scores.
    """

    logits: Tensor
    image: Tensor
    real: Tensor
    fake: Tensor
    fooled: Tensor


class PurifyingModel(DefendedModel):
    """A purifier in front of a copy of a classifier that is frozen, in eval mode, whatever mode the whole is in.

    Args:
        classifier: is copied, and so stays as it is.
        transform: before the purifier; None for none.
        trained: the purifier and its discriminator.
    """

    def __init__(self, classifier: PyTorchClassifier, transform: Masking | None, trained: Trained) -> None:
        super().__init__(classifier)
        device, given = self.device, DefendedModel(classifier)
        self.steps, self.network = nn.ModuleList(), trained.to(device)
        self.transform = transform
        # copies too: steps such as ours are in eval mode here, and in the classifier's own mode there
        self.classifier = copy.deepcopy(given).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PurifyingModel:
        """As of any module, but the classifier stays in eval mode."""
        super().train(mode)
        self.classifier.eval()
        return self

    def forward(self, x: Tensor, clean: Tensor | None = None, classify: bool = True) -> Any:
        """Logits (N, C) of the purified ``x`` (N, C, H, W); for the loss, with what ``x`` was made of, a `Purified`."""
        network: Any = self.network
        image, mask = purified(x, self.transform, network.purifier)
        nothing = image.new_zeros(0)
        logits = self.classifier(image) if classify else nothing
        if clean is None:
            return logits
        if network.discriminator is None:
            return Purified(logits, image, nothing, nothing, nothing)
        pair = network.discriminator(torch.cat((clean, image.detach())), torch.cat((mask, mask)))
        real, fake = pair.chunk(2)
        return Purified(logits, image, real, fake, network.discriminator.judging(image, mask))


@dataclass(frozen=True, kw_only=True)
class PurificationLoss(Loss):
    """‖x − g(t(x'))‖₁ + w · GAN + λ · CE(y, f(g(t(x')))), and the hinge loss of the discriminator.

    The L1 term is the mean over pixels, the GAN term −mean D. The discriminator's loss trains its weights only.

    Args:
        weight: λ of the cross entropy; 0 for pre-training.
        gan_weight: w.
    """

    weight: float = 0.05
    gan_weight: float = 1.0

    def compute(self, model: nn.Module, x: Tensor, x_adv: Tensor, y: Tensor, *, progress: float = 1.0) -> LossOutput:
        """One forward of ``x_adv``; parts of the loss, and the health of the GAN, are among the figures."""
        out: Purified = model(x_adv, x, self.weight > 0)
        value = reconstruction = F.l1_loss(out.image, x)
        figures = {"reconstruction": reconstruction, "diversity": _spread(out.image) / _spread(x).clamp_min(1e-6)}
        if self.weight:
            figures["cross_entropy"] = F.cross_entropy(out.logits, y)
            value = value + self.weight * figures["cross_entropy"]
        if out.fooled.numel():
            discriminator = F.relu(1 - out.real).mean() + F.relu(1 + out.fake).mean()
            figures |= {"discriminator": discriminator, "saturated": _saturated(out)}
            value = value + discriminator - self.gan_weight * out.fooled.mean()
        return LossOutput(value, out.logits if self.weight else None, figures)


def _spread(x: Tensor) -> Tensor:
    """How far the images of a batch are apart: the mean over pixels of their standard deviation."""
    return x.detach().std(0, unbiased=False).mean()


def _saturated(out: Purified) -> Tensor:
    """Share of the patches of which the discriminator is so sure that it learns nothing from them any more."""
    return torch.cat(((out.real > 1).float().flatten(), (out.fake < -1).float().flatten())).mean()


@dataclass(frozen=True)
class WithoutAttack:
    """What stands in the place of the inner attack in pre-training: nothing."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """``x``."""
        return x


class OnTheClassifier:
    """An attack that knows the classifier alone: the paper's released code trains against it.

    Args:
        attack: (model, x, y, generator) → x_adv.
        classifier: what it attacks.
    """

    def __init__(self, attack: Any, classifier: nn.Module) -> None:
        self._attack, self._classifier = attack, classifier

    def __repr__(self) -> str:
        """What makes a run another one."""
        return f"{self._attack!r} on the classifier alone"

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial ``x``."""
        x_adv: Tensor = self._attack(self._classifier, x, y, generator)
        return x_adv


class Seen:
    """An inner attack that keeps some images of its latest batch, for a picture.

    Args:
        attack: (model, x, y, generator) → x_adv.
    """

    def __init__(self, attack: Any) -> None:
        self._attack = attack
        self.latest: tuple[Tensor, Tensor] | None = None

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
        """Adversarial ``x``."""
        x_adv: Tensor = self._attack(model, x, y, generator)
        self.latest = (x[:SHOWN].detach(), x_adv[:SHOWN].detach())
        return x_adv
