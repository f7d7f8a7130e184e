"""Attention random dropping and perturbation random masking, A&P (Mo et al. 2022, https://arxiv.org/abs/2210.07540)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from art_ext.technique import Technique
from art_ext.techniques.base import register
from art_ext.vit import attention_branches, attention_dropping, mask_patches, patch_size
from art_ext.vit.masking import check_tiling

PAPER = "https://arxiv.org/abs/2210.07540"


class _Curriculum(Technique):
    """What both halves share: q, which grows from 0 to 1 with the batches of the first epochs."""

    attention: ClassVar[bool] = False
    patches: ClassVar[bool] = False
    excludes: ClassVar[Mapping[str, str]] = MappingProxyType({"free": "it has no inner attack to weaken"})

    def __init__(self, *, warm_up: float = 10) -> None:
        check_warm_up(warm_up)
        self.warm_up, self.keep = warm_up, 0.0

    def __repr__(self) -> str:
        """With its settings."""
        return f"{type(self).__name__}(warm_up={self.warm_up!r})"

    def check(self, loss: Any, attack: Any) -> None:
        """Masking needs the steps of an inner attack such as PGD.

        Raises:
            ValueError: one that shows none.
        """
        if self.patches and not hasattr(attack, "before_each_step"):
            raise ValueError(
                f"technique {self.name!r} masks the perturbation before each step of the inner attack, and "
                f"{type(attack).__name__} shows no steps: leave attack out for PGD, or use 'ard'"
            )

    def check_network(self, model: nn.Module, shape: tuple[int, ...]) -> None:
        """It must be a vision transformer, and its patches must tile the images.

        Raises:
            ValueError: as said.
        """
        if self.attention:
            attention_branches(model)
        if self.patches:
            self.patch = patch_size(model)
            check_tiling(self.patch, shape)

    def before_batch(self, done: float, epochs: int) -> None:
        """Set q."""
        self.keep = min(1.0, done / self.warm_up)

    def hooks(self) -> bool:
        """While attention is dropped."""
        return self.attention and self.keep < 1

    def attacking(self, model: nn.Module, x: Tensor) -> AbstractContextManager[Any]:
        """Drops attention until the warm-up is over."""
        if not self.hooks():
            return nullcontext()
        return attention_dropping(model, keep=self.keep, generator=self.random)

    def attack_for(self, attack: Any, x: Tensor, y: Tensor) -> Any:
        """Masks patches before each step until the warm-up is over."""
        if not self.patches or self.keep >= 1 or not hasattr(attack, "before_each_step"):
            return attack

        def without_patches(x_adv: Tensor, x: Tensor) -> Tensor:
            return mask_patches(x_adv, x, patch=self.patch, keep=self.keep, generator=self.random)

        return attack.before_each_step(without_patches)

    def after_epoch(self, epoch: int, model: nn.Module) -> dict[str, float]:
        """The q of the epoch's last batch, as ``keep``."""
        return {"keep": self.keep}


@register("ard", "attacks see the attention of a ViT with a probability that grows to 1", paper=PAPER)
class AttentionDropping(_Curriculum):
    """Attention random dropping: the inner attack's gradient goes through each attention with probability q only.

    See `art_ext.vit.attention_dropping`. q grows linearly from 0 to 1 over the first epochs, batch by batch; then all
    is as without. Decisions are for a whole batch; with parts of it (``accumulate``) each has its own. What is dropped
    costs no backward. While it is at work the attacked network is not run compiled.

    Args:
        warm_up: epochs until q is 1, > 0; 10 (authors' code: of 40 on CIFAR-10; 2 of 10 on ImageNet).

    Raises:
        ValueError: ``warm_up`` out of its range.

    Example:
        >>> technique = AttentionDropping(warm_up=10)
        >>> technique.before_batch(done=2.5, epochs=40)
        >>> technique.keep
        0.25
    """

    attention = True


@register("prm", "attacks on a ViT lose random patches before each step, fewer and fewer", paper=PAPER)
class PatchMasking(_Curriculum):
    """Perturbation random masking: before each step of the inner PGD, (1 − q) of the patches are clean again.

    See `art_ext.vit.patch_masking`. q grows as in `AttentionDropping`.

    Args:
        warm_up: as `AttentionDropping`.

    Raises:
        ValueError: ``warm_up`` out of its range.

    Example:
        >>> PatchMasking()
        PatchMasking(warm_up=10)
    """

    patches = True


@register("a&p", "attention dropping and patch masking for ViTs: ard and prm at once", paper=PAPER)
class AttentionAndPatches(_Curriculum):
    """`AttentionDropping` and `PatchMasking` with the same q.

    At q ≈ 0 the attack on a ViT that classifies by a class token has no gradient at all, so the first epochs are nearly
    clean training: a curriculum on the strength of the attack. The baseline to report beside it is ``eps-warm-up``.

    Args:
        warm_up: as `AttentionDropping`.

    Raises:
        ValueError: ``warm_up`` out of its range.

    Example:
        >>> AttentionAndPatches(warm_up=2)
        AttentionAndPatches(warm_up=2)
    """

    excludes: ClassVar[Mapping[str, str]] = MappingProxyType(
        {**_Curriculum.excludes, "ard": "it is a part of it", "prm": "it is a part of it"}
    )
    attention = patches = True


def check_warm_up(warm_up: float) -> None:
    """Refuse what is no number of epochs.

    Raises:
        ValueError: not above 0, or infinite.
    """
    if isinstance(warm_up, bool) or not 0 < warm_up < float("inf"):
        raise ValueError(f"warm_up must be > 0, epochs until the attack has its full strength; got {warm_up!r}")
