"""Numbers as the printed forms of a report show them."""

from __future__ import annotations

from math import isnan

MINUS = "\N{MINUS SIGN}"


def points(difference: float | None) -> str:
    """A difference of accuracies in percentage points, with its sign; a dash where it is not known.

    Example:
        >>> points(0.0123), points(-0.5), points(0.0), points(None)
        ('+1.23', '−50.00', '0.00', '–')
    """
    if difference is None or isnan(difference):
        return "–"
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def p_text(p_value: float | None) -> str:
    """A p-value with the digits that mean something.

    Example:
        >>> p_text(0.0342), p_text(2e-9), p_text(1.0), p_text(None)
        ('0.034', '< 0.001', '1.000', '–')
    """
    if p_value is None or isnan(p_value):
        return "–"
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def significant(value: float | None) -> str:
    """A measured value with three significant digits, in words where it could not be measured.

    Example:
        >>> significant(0.12345), significant(1234567.0), significant(0.0), significant(None)
        ('0.123', '1.23e+06', '0', 'not measured')
    """
    return "not measured" if value is None or isnan(value) else f"{value:.3g}".replace("-", MINUS)
