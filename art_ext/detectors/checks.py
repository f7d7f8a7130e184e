"""What a detector refuses before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from art.attacks.attack import EvasionAttack
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_ext.attacks.pgd import check_steps
from art_ext.detectors.families import NONE
from art_ext.naming import lookup
from art_ext.trainers.checks import check_threat
from art_ext.validation import Labels


def check_design(classifier: PyTorchClassifier, threat: Any, *, width: Any, **shares: float) -> None:
    """Refuse a threat model that is not of images in [0, 1], and numbers that are out of range.

    Raises:
        TypeError: no `ThreatModel`.
        ValueError: as said.
    """
    check_threat(classifier, threat)
    if threat.clip != (0.0, 1.0):
        raise ValueError(f"a detector looks at images in [0, 1]; the threat model's clip is {threat.clip}")
    check_steps(width=width)
    for name, value in shares.items():
        check_share(name, value)


def check_share(name: str, value: Any) -> None:
    """Refuse what does not lie between 0 and 1, by name."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1); got {value!r}")


def check_families(families: Any) -> None:
    """Refuse families that no detector can learn to tell apart; names are looked up by `attack_families`.

    Raises:
        TypeError: neither names nor attacks by name.
        ValueError: none, one twice, or one called "none".
    """
    if isinstance(families, str) or not isinstance(families, Mapping | Sequence):
        raise TypeError(f"families must be a list of names, or a dict of attacks by name; got {families!r}")
    if not families:
        raise ValueError("families must name at least one attack: nothing can be told apart from 'none' alone")
    if repeated := sorted({name for name in families if list(families).count(name) > 1}):
        raise ValueError(f"families must be different; got {', '.join(repeated)} twice")
    if NONE in families:
        raise ValueError(f"{NONE!r} is the family of clean images: it is always there, and no attack can have its name")
    if isinstance(families, Mapping):
        check_crafts("families", families)


def check_crafts(what: str, crafts: Mapping[str, Any], *, taken: Sequence[str] = ()) -> None:
    """Refuse what cannot attack, and names that are ``taken``.

    Raises:
        TypeError: no function and no attack of ART.
        ValueError: a name that something else has.
    """
    if same := [name for name in crafts if name in taken]:
        raise ValueError(f"{what} must have names of their own; {', '.join(same)} is a family of the detector")
    for name, craft in crafts.items():
        if isinstance(craft, type) or not (callable(craft) or isinstance(craft, EvasionAttack)):
            told = "a function (model, x, y, *, generator) -> x_adv or an ART EvasionAttack"
            raise TypeError(f"{what}[{name!r}] must be {told}; got {craft!r}")


def check_training(batch_size: Any, nb_epochs: Any) -> None:
    """Refuse counts below one, and batches of one image: the network has BatchNorm."""
    check_steps(batch_size=batch_size, nb_epochs=nb_epochs)
    if batch_size < 2:
        raise ValueError(f"batch_size must be at least 2, for BatchNorm; got {batch_size}")


def check_taught(family: Tensor, families: Sequence[str]) -> None:
    """Refuse a training set in which a family is missing.

    Raises:
        ValueError: as said.
    """
    there = set(family.unique().tolist())
    if missing := ", ".join(name for i, name in enumerate(families) if i not in there):
        raise ValueError(f"{missing} changed no image that is trained on: a family without images cannot be learnt")


def family_indices(family: Any, families: Sequence[str], count: int) -> Labels:
    """Families of ``count`` images as indices (N,), whether they were given as names or as indices.

    Raises:
        TypeError: another kind of array.
        ValueError: an unknown name or index, another length, one family alone, or no clean images.

    Example:
        >>> family_indices(np.array(["fgsm", "none"]), ("none", "fgsm"), 2)
        array([1, 0])
    """
    values: npt.NDArray[Any] = np.asarray(family)
    if values.dtype.kind == "U":
        number = {name: i for i, name in enumerate(families)}
        values = np.array([lookup(number, str(name), what="family") for name in values])
    if values.dtype.kind not in "iu" or values.ndim != 1:
        raise TypeError(f"family must be names or indices (N,); got {values.dtype} of shape {values.shape}")
    if len(values) != count:
        raise ValueError(f"x and family must have the same length; got {count} images and {len(values)} families")
    if len(wrong := values[(values < 0) | (values >= len(families))]):
        raise ValueError(f"family must lie in 0..{len(families) - 1} ({', '.join(families)}); got {wrong[0]}")
    there = set(values.tolist())
    if there <= {0} or 0 not in there:
        told = ", ".join(families[i] for i in sorted(there))
        raise ValueError(f"family must have clean images ({NONE!r}) and at least one attack; there is only {told}")
    return values.astype(np.int64)


def sources(source: Any, count: int) -> Labels:
    """Numbers of the images that ``count`` images were made of, from 0 on; their own places where nothing is known.

    Raises:
        ValueError: another length, or another shape.

    Example:
        >>> sources(np.array([7, 3, 7]), 3)
        array([1, 0, 1])
    """
    if source is None:
        return np.arange(count)
    values = np.asarray(source)
    if values.shape != (count,):
        raise ValueError(f"source must have one number for each of the {count} images; got shape {values.shape}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)
