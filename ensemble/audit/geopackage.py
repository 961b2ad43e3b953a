"""Polygons as a GeoPackage, the file that QGIS, GDAL and ArcGIS open as they find it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS

from data.errors import EnsembleError, LabelError
from data.files import fingerprint, replacing
from data.scenes.windows import Grid

__all__ = ["Layer", "Polygons", "Ring", "Value", "layer_for", "read_geopackage", "write_geopackage"]

Ring = Sequence[tuple[float, float]]
"""(x, y) of each corner, the first again at the end."""
Polygons = Sequence[Sequence[Ring]]
"""Polygons of one feature; each its rings, the outer one first."""

Value = str | int | float

WHEN = "1970-01-01T00:00:00.000Z"
"""When layers changed: the file must say, and the same layers shall make the same bytes."""


@dataclass(frozen=True)
class Layer:
    """Polygons in one reference system.

    Parameters
    ----------
    name : str
        Letters, digits and underscores.
    crs : str or None
        As WKT, or as anything else that PROJ reads; None where coordinates lie on no ground.
    features : list of (polygons, values)
        The values of each by the same names in the same order.
    description : str
    """

    name: str
    crs: str | None
    features: list[tuple[Polygons, dict[str, Value]]]
    description: str = ""


def load_pyogrio() -> Any:
    """Return pyogrio, imported late: pandas comes with it, for which a worker that predicts need not wait."""
    import pyogrio.raw

    return pyogrio


def layer_for(grid: Grid, name: str) -> Layer:
    """Return the layer, still empty, that outlines on a grid belong to: one for each reference system."""
    if grid.transform is None:
        return Layer(f"{name}_pixels", None, [], "Scenes without georeferencing: x is the column, y minus the row.")
    if grid.crs is None:
        return Layer(f"{name}_unknown", None, [], "Coordinates of scenes whose files name no reference system.")
    # Texts can differ though the systems that they describe do not.
    code = CRS.from_wkt(grid.crs).to_epsg()
    return Layer(f"{name}_epsg_{code}" if code else f"{name}_{fingerprint(grid.crs)[:8]}", grid.crs, [])


def write_geopackage(path: Path, layers: Sequence[Layer]) -> None:
    """Write layers as one file; it is either whole or left as it was."""
    with replacing(path) as temporary, _at(WHEN), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "'crs' was not provided", UserWarning)
        for number, layer in enumerate(layers or [Layer("empty", None, [])]):
            names = [*layer.features[0][1]] if layer.features else []
            load_pyogrio().raw.write(
                temporary,
                shapely.to_wkb(_shapes(layer.features)),
                [_column([values[name] for _, values in layer.features]) for name in names],
                names,
                layer=layer.name,
                driver="GPKG",
                geometry_type="MultiPolygon",
                crs=layer.crs,
                append=number > 0,
                layer_options={
                    "DESCRIPTION": layer.description,
                    # Its triggers call functions that only GDAL has: no other program could edit a row.
                    "SPATIAL_INDEX": "NO",
                    **({} if layer.crs else {"SRID": "-1"}),
                },
            )


def read_geopackage(path: Path) -> list[Layer]:
    """Read the polygons of a file that `write_geopackage` wrote and that somebody edited.

    Attributes that were left empty are empty texts.

    Raises
    ------
    EnsembleError
        If it is no GeoPackage, or has other shapes than polygons.
    """
    pyogrio = load_pyogrio()
    try:
        names = sorted(str(name) for name, kind in pyogrio.list_layers(path) if kind is not None)
        return [_read_layer(path, name) for name in names]
    except (pyogrio.errors.DataSourceError, LabelError, ValueError) as error:
        raise EnsembleError(
            f"{path}: expected a GeoPackage of polygons, got: {error}. Name the audit.gpkg that was edited."
        ) from error


def _read_layer(path: Path, name: str) -> Layer:
    from data.vectors.shapes import read_shapes

    shapes = read_shapes(str(path), name)
    if not np.isin(shapely.get_type_id(shapes.geometries), (3, 6)).all():
        raise ValueError(f"other shapes in the layer {name}")
    rows = zip(*(column.tolist() for column in shapes.values.values()), strict=True)
    values = [
        # A number that is lacking is none that equals itself.
        {key: "" if value is None or value != value else value for key, value in zip(shapes.values, row, strict=True)}
        for row in rows
    ]
    polygons = [
        [[shapely.get_coordinates(ring).tolist() for ring in (part.exterior, *part.interiors)] for part in parts]
        for parts in map(shapely.get_parts, shapes.geometries)
    ]
    return Layer(name, shapes.crs, list(zip(polygons, values, strict=True)))


def _shapes(features: Sequence[tuple[Polygons, dict[str, Value]]]) -> NDArray[np.object_]:
    shapes = np.empty(len(features), object)
    shapes[:] = [shapely.MultiPolygon([(outer, inner) for outer, *inner in polygons]) for polygons, _ in features]
    return shapes


def _column(values: Sequence[Value]) -> NDArray[Any]:
    return np.array(values, object if isinstance(values[0], str) else None)


@contextmanager
def _at(moment: str) -> Iterator[None]:
    """Make GDAL write a moment in place of the present one."""
    pyogrio = load_pyogrio()
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": moment})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
