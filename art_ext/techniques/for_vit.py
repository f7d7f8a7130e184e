"""The techniques that trainers have a keyword for: what helps the inner attack of a vision transformer."""

from __future__ import annotations

from collections.abc import Sequence

from art_ext.naming import lookup
from art_ext.technique import Technique
from art_ext.techniques.base import TECHNIQUES

VIT = ("a&p", "ard", "prm", "eps-warm-up")


def with_vit(
    techniques: str | Technique | Sequence[str | Technique], vit: str | None
) -> str | Technique | Sequence[str | Technique]:
    """``techniques`` and, on top of them, the one that ``vit`` names.

    Args:
        techniques: names or objects.
        vit: one of `VIT`, or None.

    Raises:
        ValueError: another name; the nearest one is proposed.

    Example:
        >>> with_vit("awp", "a&p")
        ['awp', 'a&p']
    """
    if vit is None:
        return techniques
    lookup({name: TECHNIQUES[name] for name in VIT}, vit, what="vit (or None)")
    given = [techniques] if isinstance(techniques, str | Technique) else techniques
    return [*given, vit]
