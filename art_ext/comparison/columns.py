"""The columns of a comparison: attacks, and the threat models that they are carried out under."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from art_ext.evaluation.facts import threat_text
from art_ext.naming import lookup
from art_ext.recipes import Recipe
from art_ext.recipes.build import make_threat
from art_ext.threat import ThreatModel

KEYS = ("eps", "norm")


class Column(NamedTuple):
    """What stands under a heading.

    Args:
        attack: suite or attack.
        threat: fields of the threat model; what is left out is that of a run's own training.

    Example:
        >>> from art_ext.recipes import load_recipe
        >>> print(Column("pgd-20", {"eps": 0.05}).under(load_recipe("fashion-mnist-5k-piat")))
        ℓ∞ ε=0.05
    """

    attack: str
    threat: Mapping[str, Any]

    def under(self, recipe: Recipe) -> ThreatModel:
        """The threat model, for a run of this recipe."""
        own = make_threat(recipe)
        return ThreatModel(self.threat.get("norm", own.norm), self.threat.get("eps", own.eps), own.clip)

    def elsewhere(self, recipe: Recipe) -> str:
        """The threat model as a part of a file's name; empty where it is that of the training.

        Example:
            >>> from art_ext.recipes import load_recipe
            >>> recipe = load_recipe("fashion-mnist-5k-piat")
            >>> Column("pgd-20", {}).elsewhere(recipe), Column("pgd-20", {"eps": 0.05}).elsewhere(recipe)
            ('', '_linf-0.05')
        """
        threat, own = self.under(recipe), make_threat(recipe)
        return "" if (threat.norm, threat.eps) == (own.norm, own.eps) else f"_{threat.norm}-{threat.eps:g}"


def columns_of(attacks: Mapping[str, str], threats: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Column]:
    """By heading, attack by attack.

    Example:
        >>> list(columns_of({"PGD": "pgd-20"}, {"own": {}, "8/255": {"eps": 8 / 255}}))
        ['PGD, own', 'PGD, 8/255']
    """
    if threats is None:
        return {heading: Column(attack, {}) for heading, attack in attacks.items()}
    return {
        f"{heading}, {name}": Column(attack, fields)
        for heading, attack in attacks.items()
        for name, fields in threats.items()
    }


def check_threats(threats: Any) -> None:
    """Refuse what cannot be threat models by name.

    Raises:
        ValueError: no mapping of mappings, an unknown field (the nearest is proposed), a value out of its range.
    """
    if not isinstance(threats, Mapping) or not threats:
        raise ValueError(f"threats must name at least one threat model, such as {{own: {{}}}}; got {threats!r}")
    for name, fields in threats.items():
        if not isinstance(fields, Mapping):
            raise ValueError(f"threats: {name} must be a mapping of eps, norm, both or none; got {fields!r}")
        for key in fields:
            lookup(dict.fromkeys(KEYS), key, what=f"field of threat {name!r}:")
        ThreatModel(**{"norm": "linf", "eps": 1.0, **fields})


def told(name: str, fields: Mapping[str, Any]) -> str:
    """A threat model in words.

    Example:
        >>> told("own", {}), told("far", {"eps": 0.2}), told("ℓ2", {"norm": "l2", "eps": 1.0})
        ('own: the threat model of the training', 'far: ε = 0.2', 'ℓ2: ℓ2, ε = 1')
    """
    if not fields:
        return f"{name}: the threat model of the training"
    whole = threat_text(ThreatModel(**{"norm": "linf", "eps": 1.0, **fields}))
    ball, eps = whole.split(", ")
    return f"{name}: " + ", ".join(part for key, part in (("norm", ball), ("eps", eps)) if key in fields)
