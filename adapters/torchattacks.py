"""Any attack of the library torchattacks as an ART `EvasionAttack`.

Source: https://github.com/Harry24k/adversarial-attacks-pytorch
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from art.estimators.classification import PyTorchClassifier
from torch import Tensor

from art_ext.model import DefendedModel, frozen
from art_ext.threat import ThreatModel

from ._attack import TensorAttack, chunks

AUTOATTACK_STEPS = 100  # torchattacks runs its AutoAttack's parts for 10 iterations; the published ones run for 100
AUTOATTACK_TARGETS = 9
# Given target labels, they take the target for the true class, or raise.
BROKEN_TARGETED = ("FAB", "LGV")


class TorchattacksAttack(TensorAttack):
    """A torchattacks attack on a whole ART classifier, preprocessors and normalisation included.

    Against the library's own habits: never normalises twice, restores the training mode of every submodule, leaves the
    global random generators alone, counts NaN images as failures (``n_failed``), and runs the parts of its AutoAttack
    for 100 iterations instead of 10 and on 9 target classes, as published; ``label`` says so. Min-norm attacks such as
    CW or DeepFool know no radius: with a ``threat`` their results are projected onto it, without one they are returned
    as they are.

    Args:
        name_or_class: name of a public torchattacks class (``"PGD"``), such a class, or any callable that makes an
            attack from a module, for attacks on top of attacks:
            ``lambda model: torchattacks.MultiAttack([torchattacks.PGD(model), torchattacks.CW(model)])``.
        estimator: an ART `PyTorchClassifier` over images in [0, 1].
        threat: gives the attack its ``eps`` and ``norm``, where it has such parameters, and scales a default ``alpha``
            with ε; results outside the ball are projected (``n_projected``). None: the attack's own parameters.
        targeted: ``y`` of `generate` are then the classes to reach.
        batch_size: images per call of the attack.
        seed: for every random choice of the attack.
        params: the parameters of the attack (``steps=50``), by the library's names.

    Raises:
        ImportError: torchattacks is not installed.
        ValueError: unknown name (the nearest is proposed), a norm that the attack cannot do, an attack without targeted
            mode, ``eps`` given twice.
        TypeError: a parameter that the attack does not have.

    Example:
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        >>> classifier = PyTorchClassifier(net, nn.CrossEntropyLoss(), (3, 2, 2), 3, clip_values=(0, 1))
        >>> attack = TorchattacksAttack("PGD", estimator=classifier, threat=ThreatModel("linf", 8 / 255), steps=5)
        >>> x = torch.rand(4, 3, 2, 2)
        >>> x_adv = torch.from_numpy(attack.generate(x.numpy()))
        >>> bool(((x_adv - x).abs() <= 8 / 255 + 1e-6).all())
        True
    """

    attack_params = [*TensorAttack.attack_params, "params"]  # noqa: RUF012  (ART's own convention)

    def __init__(
        self,
        name_or_class: str | Callable[..., Any],
        *,
        estimator: PyTorchClassifier,
        threat: ThreatModel | None = None,
        targeted: bool = False,
        batch_size: int = 128,
        seed: int = 0,
        **params: Any,
    ) -> None:
        self._factory = _find(name_or_class) if isinstance(name_or_class, str) else name_or_class
        self._name = getattr(self._factory, "__name__", "attack").replace("<lambda>", "attack")
        self.label = f"torchattacks {self._name}"
        if self._name == "AutoAttack":
            self.label += f" ({AUTOATTACK_STEPS} iterations)"
        super().__init__(estimator=estimator, threat=threat, batch_size=batch_size, seed=seed)
        self.params = self._parameters(params)
        self.targeted = targeted
        self._build(DefendedModel(estimator))  # a wrong parameter is told here, not when it is this attack's turn

    def _parameters(self, given: dict[str, Any]) -> dict[str, Any]:
        """The attack's arguments: the caller's, then what the threat model and the number of classes imply."""
        parameters = inspect.signature(self._factory).parameters
        try:
            inspect.signature(self._factory).bind(None, **given)
        except TypeError as error:
            known = ", ".join(list(parameters)[1:]) or "no parameters"
            raise TypeError(f"{self.label}: {error}; it takes {known}") from None
        implied: dict[str, Any] = {"n_classes": self.estimator.nb_classes}
        if self.threat is not None:
            implied |= _from_threat(self._name, parameters, self.threat, given)
        return {k: v for k, v in implied.items() if k in parameters} | given

    def _build(self, model: DefendedModel) -> Any:
        """The attack on ``model``, made anew for each call because it remembers the device of its first day."""
        seed = {"seed": self.seed} if "seed" in inspect.signature(self._factory).parameters else {}
        attack = self._factory(model, **(seed | self.params))
        attack.set_device(model.device)
        classes = self.estimator.nb_classes
        if self.targeted:
            if "targeted" not in attack.supported_mode or self._name in BROKEN_TARGETED:
                raise ValueError(f"{self.label} has no working targeted mode")
            attack.set_mode_targeted_by_label(quiet=True)
        elif self._name == "JSMA":  # always aims at the next class, and takes for granted that there are ten
            attack.set_mode_targeted_by_function(lambda images, labels: (labels + 1) % classes, quiet=True)
        if self._name == "AutoAttack":
            _as_published(attack, classes)
        return attack

    def _perturb(self, model: DefendedModel, images: Tensor, labels: Tensor) -> Tensor:
        attack = self._build(model)  # before the freeze: LGV copies the network to train the copy
        pairs = zip(chunks(images, self.batch_size), chunks(labels, self.batch_size), strict=True)
        with frozen(model):
            return torch.cat([attack(x.to(model.device), y.to(model.device)).detach().cpu() for x, y in pairs])


def _find(name: str) -> Callable[..., Any]:
    try:
        import torchattacks
    except ImportError as error:
        raise ImportError("torchattacks is not installed: pip install 'art-ext[torchattacks]'") from error
    names = {n.lower(): n for n in torchattacks.__all__}
    if name.lower() not in names:
        near = get_close_matches(name.lower(), names, n=1, cutoff=0.4)
        hint = f" did you mean {names[near[0]]!r}?" if near else ""
        raise ValueError(f"unknown torchattacks attack {name!r};{hint} known: {', '.join(sorted(names.values()))}")
    if name.lower() == "multiattack":
        raise ValueError("MultiAttack is made of attacks: give a callable, lambda model: torchattacks.MultiAttack([…])")
    return getattr(torchattacks, names[name.lower()])


def _from_threat(
    name: str, parameters: Mapping[str, inspect.Parameter], threat: ThreatModel, given: dict[str, Any]
) -> dict[str, Any]:
    """``eps``, ``norm`` and ``alpha`` for the threat model; nothing for an attack that knows no radius."""
    radius = next((p for p in ("eps", "max_epsilon") if p in parameters), None)
    if radius is None:
        return {}
    if radius in given:
        raise ValueError(f"give {radius} or a threat model, not both: the threat model's radius is {threat.eps}")
    own = given.get("norm", "L2" if name.endswith("L2") else "Linf")
    if own.lower() != threat.norm and ("norm" in given or "norm" not in parameters):
        raise ValueError(f"torchattacks {name} attacks in {own}; the threat model is {threat}")
    implied = {radius: threat.eps, "norm": {"linf": "Linf", "l2": "L2"}[threat.norm]}
    step, own_radius = (parameters[p].default if p in parameters else None for p in ("alpha", radius))
    if isinstance(step, float) and isinstance(own_radius, float):  # the default step belongs to the default radius
        implied["alpha"] = step * threat.eps / own_radius
    return implied


def _as_published(attack: Any, classes: int) -> None:
    """Give torchattacks' AutoAttack the iterations, targets and schedule of the published one."""
    for part in attack._autoattack.attacks:
        if hasattr(part, "steps"):
            part.steps = AUTOATTACK_STEPS
        if hasattr(part, "n_target_classes"):
            part.n_target_classes = min(AUTOATTACK_TARGETS, classes - 1)
        if hasattr(part, "rescale_schedule"):
            part.rescale_schedule = False
