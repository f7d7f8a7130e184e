"""ART's attacks seen from an evaluation: their label, and whether they fit the threat model."""

from __future__ import annotations

import warnings
from typing import Any

from art.attacks.attack import EvasionAttack
from art.attacks.evasion import AutoAttack

from art_ext.threat import ThreatModel

_SHORT = {
    "FastGradientMethod": "FGSM",
    "ProjectedGradientDescent": "PGD",
    "ProjectedGradientDescentNumpy": "PGD",
    "ProjectedGradientDescentPyTorch": "PGD",
    "AutoProjectedGradientDescent": "APGD",
    "BasicIterativeMethod": "BIM",
    "MomentumIterativeMethod": "MIM",
    "CarliniL2Method": "CW-L2",
    "CarliniLInfMethod": "CW-Linf",
    "SquareAttack": "Square",
}


def art_label(attack: EvasionAttack) -> str:
    """``attack.label`` where it has one, else the class and its iterations: ``"ART PGD-20"``.

    Example:
        >>> from art.attacks.evasion import ProjectedGradientDescent
        >>> from art.estimators.classification import PyTorchClassifier
        >>> from torch import nn
        >>> classifier = PyTorchClassifier(nn.Linear(4, 3), nn.CrossEntropyLoss(), (4,), 3)
        >>> art_label(ProjectedGradientDescent(classifier, max_iter=20))
        'ART PGD-20'
    """
    if isinstance(label := getattr(attack, "label", None), str):
        return label
    cls = type(attack)
    own = cls.__module__.split(".")[0] == "art"
    name = f"ART {_SHORT.get(cls.__name__, cls.__name__)}" if own else cls.__name__
    iterations = getattr(attack, "max_iter", None)
    return name if iterations is None or name == "ART FGSM" else f"{name}-{iterations}"


def check_art_attack(attack: EvasionAttack, threat: ThreatModel) -> None:
    """Refuse a targeted attack, and warn of one whose norm or ε is not the threat model's.

    Raises:
        ValueError: the attack is targeted: true labels are all that an evaluation has.
    """
    # ART's AutoAttack understands targeted=True as "all other classes in turn", with true labels
    if attack.targeted and not isinstance(attack, AutoAttack):
        raise ValueError(f"{art_label(attack)} is targeted and would need target labels; build it with targeted=False")
    told = _other_ball(attack, threat)
    if told:
        warnings.warn(
            f"{art_label(attack)} has {told}, the threat model is {threat}: what leaves the ball is projected onto it, "
            "and a smaller ball makes the attack weaker than it may be",
            UserWarning,
            stacklevel=5,  # the caller of `evaluate`
        )


def _other_ball(attack: Any, threat: ThreatModel) -> str:
    norm, eps = getattr(attack, "norm", None), getattr(attack, "eps", None)
    try:
        same_norm = norm is None or ThreatModel(norm, 1.0).norm == threat.norm
    except ValueError:
        same_norm = False
    if not same_norm:
        return f"norm={norm}"
    if isinstance(eps, int | float) and isinstance(threat.eps, float) and abs(eps - threat.eps) > 1e-6:
        return f"eps={eps:.4g}"
    return ""
