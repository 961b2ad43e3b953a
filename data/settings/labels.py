"""Settings of classes, and of the labels that show them."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from data.settings.base import Settings, aliases

__all__ = [
    "VECTOR_SUFFIXES",
    "AssetLabelSettings",
    "ClassSettings",
    "Color",
    "LabelSettings",
    "MeaningSettings",
    "TagSettings",
    "VectorSettings",
]

Color = Annotated[tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=3, max_length=3)]
"""Red, green and blue."""


class ClassSettings(Settings):
    """A class: its name, and the colour it is drawn in."""

    shorthand: ClassVar[str] = "name"

    name: str = Field(description="name of the class")
    color: Color | None = Field(
        None, description="[red, green, blue], 0 … 255; default: from a palette", json_schema_extra=aliases("colour")
    )


class MeaningSettings(Settings):
    """What the values of a label mean."""

    values: dict[int, str] | None = Field(
        None, description="value in the file → class name, `background` or `ignore`; default: the ids under `classes`"
    )
    ignore: list[int] = Field([], description="values in the file that are never trained on or scored")
    colors: bool | dict[str, Color | list[Color]] = Field(
        False,
        description="true: the file is a colour-coded image, the colours are those under `classes`; or a mapping of "
        "class name, `background` or `ignore` → [red, green, blue], or a list of such colours",
    )
    nearest: bool = Field(
        False, description="read an unknown colour as the nearest known one, as labels saved as JPEG need"
    )
    probability: bool | Annotated[float, Field(gt=0)] = Field(
        False,
        description="true: the file holds the probability of each class, one band a class, of a binary task its one "
        "class's; or the value in the file that stands for 1, such as 100. The likeliest class is scored",
    )

    @property
    def certain(self) -> float:
        """The value that stands for a probability of 1; 0 if the file holds none."""
        return float(self.probability)

    @model_validator(mode="after")
    def _values_or_colors(self) -> "MeaningSettings":
        if self.certain and (self.colors is not False or self.values is not None or self.ignore):
            raise ValueError("expected probability alone, got values, colors or ignore too. Leave these out")
        if self.colors is not False and (self.values is not None or self.ignore):
            raise ValueError("expected values or colors, got both. Name what is ignored as colors: {ignore: [0, 0, 0]}")
        if self.nearest and self.colors is False:
            raise ValueError("nearest is for colours: set colors too")
        return self


class LabelSettings(MeaningSettings):
    """Where a scene's label lies and what its values mean."""

    shorthand: ClassVar[str] = "path"

    path: str = Field(
        description="file under `root`, {id} standing for the scene's id; without {id} every scene uses the same file"
    )


class AssetLabelSettings(MeaningSettings):
    """The asset of a STAC item that is the scene's label, and what its values mean."""

    asset: str = Field(description="key of the asset of a STAC item that is the label")


class TagSettings(Settings):
    """The CSV table of the scenes' tags."""

    tags: str = Field(description="CSV file under `root`, one row per scene")
    id: str = Field("id", description="column with the scene's id or file name")
    column: str = Field("tags", description="column with the scene's tags; may be empty")
    separator: str = Field(" ", min_length=1, description="text between two tags")
    ignore: list[str] = Field([], description="tags of the table that are not classes of the experiment")


class VectorSettings(Settings):
    """Labels that are drawn: polygons, lines or points of a file, or a table of coordinates."""

    vector: str = Field(
        description="file of shapes under `root` (GeoPackage, Shapefile, GeoJSON, GeoParquet, FlatGeobuf, KML), or CSV "
        "table with columns x and y, or lon and lat; {id} stands for the scene's id; without {id} one for all scenes"
    )
    layer: str | None = Field(None, description="layer of a file that has several")
    field: str | None = Field(
        None,
        description="column with the class; default: one called class, label or the like, or in a binary task none: "
        "every shape is of the class",
        json_schema_extra=aliases("attribute", "class_column"),
    )
    values: dict[bool | int | float | str, str] | None = Field(
        None, description="value in the column → class name, `background` or `ignore`; default: names and ids"
    )
    ignore: list[bool | int | float | str] = Field(
        [], description="values in the column that are never trained on or scored"
    )
    crs: str | None = Field(
        None, description="coordinate system, such as EPSG:32610, where the file names none or a wrong one"
    )
    outside: Literal["ignore", "background"] = Field(
        "ignore", description="what lies outside of all shapes: unlabelled, or background"
    )
    area: str | None = Field(
        None, description="file of polygons under `root`: what lies outside of these is unlabelled in any case"
    )
    touched: Literal["centre", "all"] = Field(
        "centre", description="pixels that a polygon labels: those whose centre it covers, or all that it touches"
    )
    radius: float = Field(0, ge=0, description="pixels around its own that a point labels")
    buffer: float | None = Field(None, gt=0, description="pixels on either side of a line that it labels")

    @model_validator(mode="before")
    @classmethod
    def _path_of_shapes(cls, values: Any) -> Any:
        if isinstance(values, str):
            return {"vector": values}
        if isinstance(values, dict) and "path" in values and "vector" not in values:
            return {("vector" if key == "path" else key): value for key, value in values.items()}
        return values


VECTOR_SUFFIXES = (
    ".shp", ".gpkg", ".geojson", ".json", ".fgb", ".parquet", ".geoparquet", ".kml", ".kmz", ".gml", ".gdb", ".csv",
    ".tsv", ".zip", ".shz", ".geojson.gz", ".json.gz",
)  # fmt: skip
"""By which a file of shapes, or a table of coordinates, is known."""
