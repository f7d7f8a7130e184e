"""Signs that an evaluation is not to be trusted, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

UNCHECKED = "unchecked"  # nothing is flagged because nothing was measured
VERDICTS = ("trusted", "suspect", "broken evaluation")


@dataclass(frozen=True, kw_only=True)
class Indicator:
    """One sign, measured: is this accuracy an artefact of an attack that could not work?

    Args:
        name: short, e.g. ``"zero gradients"``.
        value: what was measured; None where it could not be.
        threshold: from where on it is flagged.
        flagged: the sign is there.
        severity: the verdict that it causes when flagged, ``"suspect"`` or ``"broken evaluation"``.
        source: where the threshold comes from.
        explanation: one sentence: what the value says.
        proposal: what to run next where it is flagged.

    Raises:
        ValueError: an unknown severity.

    Example:
        >>> sign = Indicator(name="zero gradients", value=0.8, threshold=0.01, flagged=True,
        ...                  severity="broken evaluation", source="Croce et al. 2020", explanation="…", proposal="…")
        >>> verdict([sign])
        'broken evaluation'
    """

    name: str
    value: float | None
    threshold: float
    flagged: bool
    severity: str
    source: str
    explanation: str
    proposal: str = ""

    def __post_init__(self) -> None:
        """Refuse a severity that is no verdict."""
        if self.severity not in VERDICTS[1:]:
            raise ValueError(f"severity must be one of {', '.join(VERDICTS[1:])}; got {self.severity!r}")


def verdict(indicators: Iterable[Indicator]) -> str:
    """The worst severity among the flagged ones, ``"trusted"`` where none is, ``"unchecked"`` where none was measured.

    Example:
        >>> verdict([])
        'unchecked'
    """
    measured = [i for i in indicators if i.flagged or i.value is not None]
    default = VERDICTS[0] if measured else UNCHECKED
    return max((i.severity for i in measured if i.flagged), key=VERDICTS.index, default=default)
