"""Parse the name of a feature, a column of the table: the name says how it is computed.

``nir`` is a band, ``NDVI`` an index, ``NDVI_after_minus_before`` a change: see `features.bases`. Of any of these,
``NDVI_std_r7`` is a statistic of the pixels within 7 pixels; ``nir_above_scene`` and ``nir_above_water`` are
relative to the median of the scene's valid pixels, or of those where the formula ``water`` holds; ``nir_rank`` is the
share of the scene's pixels below. ``water_share`` and ``valid_share`` are one value for the whole scene, ``at_row``,
``at_col``, ``at_x`` and ``at_y`` the pixel's coordinates.
"""

import re
from dataclasses import dataclass

from data.errors import FeatureError
from features.bases import Base, Bases
from features.context import STATISTICS

__all__ = ["COORDINATES", "Feature", "parse_feature"]

WIDEST = 1024
"""Pixels to each side that a feature may look."""

CONTEXT = re.compile(rf"(?P<base>.+)_(?P<statistic>{'|'.join(STATISTICS)})_r(?P<radius>[1-9]\d*)")
ABOVE = re.compile(r"(?P<base>.+)_above_(?P<mask>.+)")
RANK = re.compile(r"(?P<base>.+)_rank")
SHARE = re.compile(r"(?P<base>.+)_share")

COORDINATES = {
    "row": "row in the scene, from its upper edge",
    "col": "column in the scene, from its left edge",
    "x": "x of the pixel's centre, in units of the scene's coordinate system",
    "y": "y of the pixel's centre, in units of the scene's coordinate system",
}


@dataclass(frozen=True)
class Feature:
    """One column of the table.

    Parameters
    ----------
    name : str
    operation : str
        What is done with the base: ``value``, a key of `features.context.STATISTICS`, ``above``, ``rank`` or
        ``share``; or, without a base, a key of `COORDINATES`.
    base : Base or None
    radius : int
        Of a statistic, in pixels.
    mask : Base or None
        Whose pixels ``above`` compares with; all valid ones if None.
    """

    name: str
    operation: str
    base: Base | None = None
    radius: int = 0
    mask: Base | None = None

    @property
    def halo(self) -> int:
        """Pixels around a window that it depends on."""
        return STATISTICS[self.operation].halo(self.radius) if self.operation in STATISTICS else 0

    @property
    def needs_scene(self) -> bool:
        """Whether it depends on the scene as a whole."""
        return self.operation in ("above", "rank", "share")

    @property
    def bands(self) -> frozenset[str]:
        """The bands that it is computed from."""
        return frozenset().union(*(base.formula.names for base in (self.base, self.mask) if base is not None))

    def describe(self) -> dict[str, str | int]:
        """Return name, kind, definition, halo, reference and unit."""
        kind, definition, reference, unit = self.operation, "", "", ""
        base = "" if self.base is None else self.base.name
        if self.base is not None and self.operation == "value":
            kind, definition, reference = self.base.kind, self.base.definition, self.base.reference
            unit = "as in the file" if kind == "band" else ""
        elif self.operation in STATISTICS:
            side = 2 * self.radius + 1
            kind = "context"
            definition = STATISTICS[self.operation].meaning.format(side=side, radius=self.radius, base=base)
            unit = "pixel" if self.operation == "distance" else ""
        elif self.operation == "above":
            kind = "relative"
            where = "valid pixels" if self.mask is None else f"pixels where {self.mask.name}: {self.mask.definition}"
            definition = f"{base} less its median over the scene's {where}"
        elif self.operation == "rank":
            kind, definition = "relative", f"share of the scene's valid pixels with less {base}"
        elif self.operation == "share":
            kind = "scene"
            where = "are valid" if self.base is None else f"have {base}: {self.base.definition}"
            definition = f"share of the scene's pixels that {where}"
        else:
            kind, definition = "coordinate", COORDINATES[self.operation]
            unit = "pixel" if self.operation in ("row", "col") else "of the coordinate system"
        return {
            "name": self.name,
            "kind": kind,
            "definition": definition,
            "halo": self.halo,
            "reference": reference,
            "unit": unit,
        }


def parse_feature(name: str, bases: Bases) -> Feature:
    """Return the feature of a name.

    Raises
    ------
    FeatureError
        If the name is no feature of these bands and formulas.
    """
    base = bases.find(name)
    if base is not None:
        return Feature(name, "value", base)
    if name.removeprefix("at_") in COORDINATES and name.startswith("at_"):
        return Feature(name, name.removeprefix("at_"))
    if name == "valid_share":
        return Feature(name, "share")
    if match := CONTEXT.fullmatch(name):
        if len(match["radius"]) > 4 or int(match["radius"]) > WIDEST:
            raise FeatureError(
                f"feature {name[:200]}: expected a radius of at most {WIDEST} pixels, got {match['radius'][:9]}."
            )
        return Feature(name, match["statistic"], _base(name, match["base"], bases), int(match["radius"]))
    if match := ABOVE.fullmatch(name):
        mask = None if match["mask"] == "scene" else _base(name, match["mask"], bases)
        return Feature(name, "above", _base(name, match["base"], bases), mask=mask)
    for operation, pattern in (("rank", RANK), ("share", SHARE)):
        if match := pattern.fullmatch(name):
            return Feature(name, operation, _base(name, match["base"], bases))
    raise FeatureError(f"feature {name}: {bases.why_unknown(name)}")


def _base(feature: str, name: str, bases: Bases) -> Base:
    base = bases.find(name)
    if base is None:
        raise FeatureError(f"feature {feature}: {bases.why_unknown(name)}")
    return base
