"""How numbers are written for people."""

import math
import re

__all__ = ["area", "many", "minus", "number", "percent", "short"]


def minus(text: str) -> str:
    """Write negative numbers with a minus sign instead of a hyphen."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)


def number(value: float, digits: int = 3, sign: str = "") -> str:
    """Write a value with so many decimals, and with ``sign`` "+" also the sign of one above 0.

    >>> number(0.98765), number(0.02, 2, "+"), number(float("nan"))
    ('0.988', '+0.02', '–')
    """
    return minus(f"{value:{sign}.{digits}f}") if math.isfinite(value) else "–"


def many(count: float) -> str:
    """Write a count with thin spaces between thousands."""
    return minus(f"{count:,.0f}").replace(",", "\N{NARROW NO-BREAK SPACE}")


def area(size: float) -> str:
    """Write an area, in whole units from 100 on.

    >>> area(345.6), area(12.34)
    ('346', '12.3')
    """
    return many(size) if abs(size) >= 100 and math.isfinite(size) else number(size, 1)


def short(value: float) -> str:
    """Write a value with three digits that matter, and no power of ten where it can be helped.

    >>> short(1234.5), short(-0.0123), short(1.5e9), short(float("nan"))
    ('1234', '\N{MINUS SIGN}0.0123', '1.5e+09', '–')
    """
    if not math.isfinite(value):
        return "–"
    return minus(f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}")


def percent(share: float) -> str:
    """Write a share with as many digits as it deserves.

    >>> percent(0.9137), percent(0.0068), percent(0.95), percent(0), percent(0.00002)
    ('91%', '0.68%', '95%', '0%', '<0.01%')
    """
    if not math.isfinite(share):
        return "–"
    if 0 < share < 0.00005:
        return "<0.01%"
    digits = 0 if share >= 0.095 or not share else 1 if share >= 0.0095 else 2
    return f"{100 * share:.{digits}f}%"
