"""The report's tables of class areas."""

from dataclasses import asdict

from data.pages.axis import Axis
from ensemble.report.section import ReportSource, Row
from ensemble.score.areas import Areas
from ensemble.score.intervals import Interval

__all__ = ["HECTARE", "area_values"]

HECTARE = 10_000
"""In m²."""


def area_values(source: ReportSource) -> Row | None:
    """Return the areas of the classes in each split, in hectares or pixels; None where none were estimated."""
    splits = [{"split": split, **_split_values(areas)} for split, areas in source.fitted.areas.items()]
    return {"splits": splits} if splits else None


def _split_values(areas: Areas) -> Row:
    """Return the areas of one split, and the scale that their shares lie on."""
    unit, whole = (HECTARE if areas.metric else 1.0), sum(areas.mapped)
    shares = [_divide(area, whole) for area in areas.area]
    axis = Axis.spanning([0.0, *(end for share in shares for end in share.values())])
    rows = [
        {
            "mapped": mapped / unit,
            "at": axis.place(mapped / whole),
            "share": axis.mark(**share),
            "area": _divide(area, unit),
            "user": asdict(user),
            "producer": asdict(producer),
        }
        for mapped, share, area, user, producer in zip(
            areas.mapped, shares, areas.area, areas.user, areas.producer, strict=True
        )
    ]
    return {
        "axis": axis,
        "rows": rows,
        "overall": asdict(areas.overall),
        "metric": areas.metric,
        "labelled": areas.labelled,
    }


def _divide(area: Interval, unit: float) -> dict[str, float]:
    return {end: size / unit for end, size in asdict(area).items()}
