"""Format numbers for people."""

import math
import re

__all__ = ["format_area", "format_count", "format_minus", "format_number", "format_percent", "format_short"]


def format_minus(text: str) -> str:
    """Replace the hyphens of negative numbers by minus signs."""
    return re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", text)


def format_number(value: float, digits: int = 3, sign: str = "") -> str:
    """Format a value with a number of decimals; with ``sign`` "+" positive values have their sign too.

    >>> format_number(0.98765), format_number(0.02, 2, "+"), format_number(float("nan"))
    ('0.988', '+0.02', '–')
    """
    return format_minus(f"{value:{sign}.{digits}f}") if math.isfinite(value) else "–"


def format_count(count: float) -> str:
    """Format a count with thin spaces between thousands."""
    return format_minus(f"{count:,.0f}").replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_area(size: float) -> str:
    """Format an area, in whole units from 100 on.

    >>> format_area(345.6), format_area(12.34)
    ('346', '12.3')
    """
    return format_count(size) if abs(size) >= 100 and math.isfinite(size) else format_number(size, 1)


def format_short(value: float) -> str:
    """Format a value with three significant digits, without a power of ten below a million.

    >>> format_short(1234.5), format_short(-0.0123), format_short(1.5e9), format_short(float("nan"))
    ('1234', '\N{MINUS SIGN}0.0123', '1.5e+09', '–')
    """
    if not math.isfinite(value):
        return "–"
    return format_minus(f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}")


def format_percent(share: float) -> str:
    """Format a share as percent, with more digits where it is small.

    >>> format_percent(0.9137), format_percent(0.0068), format_percent(0.95), format_percent(0), format_percent(0.00002)
    ('91%', '0.68%', '95%', '0%', '<0.01%')
    """
    if not math.isfinite(share):
        return "–"
    if 0 < share < 0.00005:
        return "<0.01%"
    digits = 0 if share >= 0.095 or not share else 1 if share >= 0.0095 else 2
    return f"{100 * share:.{digits}f}%"
