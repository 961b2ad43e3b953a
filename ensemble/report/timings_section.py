"""The report's table of time and memory."""

from ensemble.report.section import ReportSource, Row

__all__ = ["timing_values"]


def timing_values(source: ReportSource) -> Row | None:
    """Return what each stage took, and the length of its bar in percent of the longest; None without timings."""
    timings = source.run.timings
    longest = max((timing.seconds for timing in timings), default=0) or 1
    stages = [
        {
            "name": timing.stage,
            "length": round(100 * timing.seconds / longest, 1),
            "time": format_seconds(timing.seconds),
            "mib": timing.mib,
        }
        for timing in timings
    ]
    return {"stages": stages} if stages else None


def format_seconds(seconds: float) -> str:
    """Write a time in the unit that suits it.

    >>> format_seconds(4.24), format_seconds(75), format_seconds(7500)
    ('4.2 s', '1 min 15 s', '2 h 05 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
