"""The genuine AutoAttack of Croce and Hein 2020 (https://arxiv.org/abs/2003.01690) as an ART `EvasionAttack`."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from art.estimators.classification import PyTorchClassifier
from torch import Tensor, nn
from torch.autograd import Function

from art_ext.model import DefendedModel, frozen
from art_ext.naming import lookup
from art_ext.threat import ThreatModel

from ._attack import TensorAttack

VERSIONS = {
    "standard": ("apgd-ce", "apgd-t", "fab-t", "square"),
    "rand": ("apgd-ce", "apgd-dlr"),  # with 20 draws per gradient, for randomised defenses
}
# How many classes the loss of each part needs: DLR compares the three highest logits, its targeted form four.
CLASSES_NEEDED = {"apgd-ce": 2, "apgd-dlr": 3, "apgd-t": 4, "fab": 2, "fab-t": 2, "square": 2}
TARGETS = 9


class AutoAttackStandard(TensorAttack):
    """AutoAttack on a whole ART classifier, by the library pyautoattack: the authors' algorithms and settings.

    Each part attacks only the examples that are still classified correctly; those that the model gets wrong by itself,
    and those that withstand all parts, come back clean. What the library has to say about the defense (randomised,
    not logits, vanishing gradients, Square stronger than the gradients, …) is kept in ``flags`` instead of printed.

    Args:
        estimator: an ART `PyTorchClassifier` over images in [0, 1].
        threat: norm and radius.
        version: ``"standard"`` (APGD-CE, targeted APGD-DLR, targeted FAB, Square), ``"rand"`` (APGD-CE and APGD-DLR
            with 20 draws per gradient) or a list of parts with the settings of the standard version: apgd-ce, apgd-dlr,
            apgd-t, fab, fab-t, square. Parts whose loss needs more classes than there are make way, with a warning.
        batch_size: images per call of a part.
        seed: for every random choice.

    Raises:
        ImportError: pyautoattack is not installed.
        ValueError: unknown version or part, or no part is left for so few classes.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1))
        >>> attack = AutoAttackStandard(classifier, threat=ThreatModel("linf", 8 / 255), version=["apgd-ce"])
        >>> attack.label
        'AutoAttack (apgd-ce)'
    """

    attack_params = [*TensorAttack.attack_params, "version", "parts"]  # noqa: RUF012  (ART's own convention)

    def __init__(
        self,
        estimator: PyTorchClassifier,
        *,
        threat: ThreatModel,
        version: str | Sequence[str] = "standard",
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        _autoattack_class()
        self.version = version if isinstance(version, str) else "custom"
        parts = lookup(VERSIONS, version, what="version of AutoAttack") if isinstance(version, str) else tuple(version)
        self.label = f"AutoAttack ({self.version if self.version in VERSIONS else ', '.join(parts)})"
        super().__init__(estimator=estimator, threat=threat, batch_size=batch_size, seed=seed)
        self.parts = _valid_parts(parts, estimator.nb_classes)
        self.flags: list[str] = []

    def _perturb(self, model: DefendedModel, images: Tensor, labels: Tensor) -> Tensor:
        with frozen(model), _untraced(), _warnings_of("auto-attack") as self.flags:
            attack = self._build(_Contiguous(model), model)
            adversarial: Tensor = attack.run_standard_evaluation(images, labels, batch_size=self.batch_size)[0]
        return adversarial

    def _build(self, network: nn.Module, model: DefendedModel) -> Any:
        assert self.threat is not None
        attack = _autoattack_class()(
            network,
            norm={"linf": "Linf", "l2": "L2"}[self.threat.norm],
            eps=self.threat.eps,
            seed=self.seed,
            device=model.device,
            version="rand" if self.version == "rand" else "standard",
        )
        attack.attacks_to_run = list(self.parts)
        targets = min(TARGETS, self.estimator.nb_classes - 1)
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
        return attack


def _autoattack_class() -> Any:
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise ImportError("pyautoattack is not installed: pip install 'art-ext[autoattack]'") from error
    return AutoAttack


def _valid_parts(parts: Sequence[str], classes: int) -> tuple[str, ...]:
    """Those of ``parts`` that work with so many classes; targeted APGD gives way to the untargeted one first."""
    for part in parts:
        lookup(CLASSES_NEEDED, part, what="part of AutoAttack")
    wanted = tuple("apgd-dlr" if p == "apgd-t" and classes == 3 else p for p in parts)
    valid = tuple(dict.fromkeys(p for p in wanted if CLASSES_NEEDED[p] <= classes))
    if not valid:
        raise ValueError(f"no part of AutoAttack ({', '.join(parts)}) works with {classes} classes")
    if valid != tuple(parts):
        reason = f"{classes} classes are too few for the DLR loss as published"
        warnings.warn(f"AutoAttack: {reason}; running {', '.join(valid)}", stacklevel=3)
    return valid


class _ContiguousGradient(Function):
    """The identity, whose gradient is contiguous."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad.contiguous()


class _Contiguous(nn.Module):
    """A model whose logits and input gradients are contiguous: pyautoattack calls ``view`` on them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, x: Tensor) -> Tensor:
        return self.model(_ContiguousGradient.apply(x)).contiguous()


@contextmanager
def _untraced() -> Iterator[None]:
    """Give debuggers and coverage their trace function back: pyautoattack's check for dynamic defenses removes it."""
    tracer = sys.gettrace()
    try:
        yield
    finally:
        sys.settrace(tracer)


@contextmanager
def _warnings_of(logger_name: str) -> Iterator[list[str]]:
    """Collect what is logged as a warning; it still reaches loggers that the user set up."""
    texts: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]  # shorter than a class
    logger = logging.getLogger(logger_name)
    logger.addHandler(handler)
    try:
        yield texts
    finally:
        logger.removeHandler(handler)
