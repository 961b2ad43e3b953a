"""Read the shapes of a vector file, or of a table of coordinates, with a value each."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyogrio
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from pyogrio.errors import DataLayerError, DataSourceError, FieldError
from rasterio.crs import CRS

from data.csv_cells import read_rows
from data.errors import LabelError
from data.names import list_names
from data.scenes.grids import ground_system, parse_system
from data.scenes.paths import files_on_disk
from data.vectors.formats import require_own_shapes

__all__ = ["Shapes", "open_shapes", "read_shapes"]

TABLES = (".csv", ".tsv", ".txt")

DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    RecursionError,
    TypeError,
    AttributeError,
    csv.Error,
    pa.ArrowException,
    shapely.errors.ShapelyError,
    DataSourceError,
    DataLayerError,
    FieldError,
)
"""What the libraries raise at a damaged file."""

COORDINATES = (
    ("x", "y"), ("lon", "lat"), ("longitude", "latitude"), ("long", "lat"), ("lng", "lat"), ("easting", "northing"),
    ("point_x", "point_y"), ("xcoord", "ycoord"), ("x_coord", "y_coord"), ("e", "n"),
)  # fmt: skip
"""Names that columns of coordinates have, small letters for all."""

GEOMETRIES = ("wkt", "geometry", "geom", "the_geom", "wkt_geom", "shape")
"""Names that a column of shapes written as text has, small letters for all."""


pyogrio.set_gdal_config_options({"GML_DOWNLOAD_SCHEMA": "NO"})


@dataclass(frozen=True)
class Shapes:
    """Shapes with a value each.

    Parameters
    ----------
    path : str
    crs : str or None
        Coordinate reference system as WKT; None where the file names none.
    geometries : (n,) object
        Shapely geometries, in its coordinates.
    values : dict
        Column → (n,) values.
    """

    path: str
    crs: str | None
    geometries: NDArray[np.object_]
    values: dict[str, NDArray[Any]] = field(repr=False)

    def __len__(self) -> int:
        return len(self.geometries)

    def take(self, chosen: NDArray[np.integer] | NDArray[np.bool_]) -> "Shapes":
        """Return some of the shapes."""
        return Shapes(
            self.path, self.crs, self.geometries[chosen], {name: column[chosen] for name, column in self.values.items()}
        )

    def column(self, name: str) -> NDArray[Any]:
        """Return the values of a column; raises LabelError with those that there are.

        Letters may be large or small, and a Shapefile keeps ten of them.
        """
        if name in self.values:
            return self.values[name]
        for wanted in (name.lower(), name.lower()[:10] if self.path.lower().endswith((".shp", ".zip")) else None):
            alike = [column for column in self.values if column.lower() == wanted]
            if len(alike) == 1:
                return self.values[alike[0]]
        raise LabelError(
            f"{self.path}: expected the column {name}, got {list_names(self.values) or 'none'}. "
            "Correct label.field or the name of the column."
        )


def open_shapes(path: str, layer: str | None = None, crs: str | None = None) -> Shapes:
    """Return the shapes of a file, which are read once as long as the file stays as it is; see `read_shapes`."""
    try:
        stats = [file.stat() for file in files_on_disk([path])]
    except OSError as error:
        raise LabelError(f"{path}: expected a file of shapes, got: {error}. Correct label.vector or root.") from error
    return _open_shapes(path, layer, crs, tuple((stat.st_mtime_ns, stat.st_size) for stat in stats))


@lru_cache(maxsize=4)
def _open_shapes(path: str, layer: str | None, crs: str | None, state: tuple[tuple[int, int], ...]) -> Shapes:
    return read_shapes(path, layer, crs)


def read_shapes(path: str, layer: str | None = None, crs: str | None = None) -> Shapes:
    """Read all shapes of a file, those that are empty left out.

    Parameters
    ----------
    path : str
        What GDAL reads, GeoParquet, or a table with columns such as x and y, or lon and lat.
    layer : str, optional
        Of a file of several.
    crs : str, optional
        Such as ``EPSG:32610``, where the file names none or a wrong one. Columns called lon and lat are degrees
        of WGS 84 by default.

    Raises
    ------
    LabelError
        If the file cannot be read, has several layers and none is named, or a coordinate is no number.
    """
    require_own_shapes(path)
    suffix = Path(path).suffix.lower()
    try:
        if suffix in TABLES:
            shapes = _read_table(path)
        elif suffix in (".parquet", ".geoparquet"):
            shapes = _read_parquet(path)
        else:
            shapes = _read_layer(path, layer)
    except DAMAGED as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabelError(f"{path}: expected a file of shapes, got: {reason[:300]}. Export it again.") from error
    if crs is not None:
        shapes = Shapes(path, _wkt(path, crs), shapes.geometries, shapes.values)
    known = ~(shapely.is_missing(shapes.geometries) | shapely.is_empty(shapes.geometries))
    return shapes if known.all() else shapes.take(known)


def _read_layer(path: str, layer: str | None) -> Shapes:
    # QGIS keeps styles in a table beside the layers.
    source = f"/vsigzip/{Path(path).absolute()}" if path.lower().endswith(".gz") else path
    layers = [str(name) for name, kind in pyogrio.list_layers(source) if kind is not None]
    if layer is None and len(layers) > 1:
        raise LabelError(
            f"{path}: expected one layer, got {list_names(layers)}. Name the one of the labels: label.layer."
        )
    if layer is not None and layers and layer not in layers:
        raise LabelError(f"{path}: expected the layer {layer}, got {list_names(layers)}. Correct label.layer.")
    layer = layer or (layers[0] if layers else None)
    meta, _, geometry, columns = pyogrio.raw.read(source, layer=layer)
    if geometry is None:
        raise LabelError(f"{path}: expected shapes, got a table without any. Export it with its geometries.")
    names = [str(name) for name in meta["fields"]]
    crs, values = meta["crs"], dict(zip(names, columns, strict=True))
    return Shapes(path, None if crs is None else _wkt(path, crs), _shapes(geometry), values)


def _read_parquet(path: str) -> Shapes:
    table = pq.read_table(path)
    table.validate(full=True)
    stored = (table.schema.metadata or {}).get(b"geo")
    if stored is None:
        raise LabelError(f"{path}: expected shapes (GeoParquet), got a table without. Export it with its geometries.")
    about = json.loads(stored)
    primary = about["primary_column"]
    encoding = str(about["columns"][primary].get("encoding", "WKB"))
    if encoding.upper() != "WKB":
        raise LabelError(f"{path}: expected shapes written as WKB, got {encoding[:40]}. Write it with encoding WKB.")
    # Without a system GeoParquet means degrees, and by null that there is none.
    crs = about["columns"][primary].get("crs", "OGC:CRS84")
    geometry = _shapes(table[primary].to_numpy(zero_copy_only=False))
    plain = [name for name in table.column_names if name != primary]
    values = {name: table[name].to_numpy(zero_copy_only=False) for name in plain}
    text = None if crs is None else crs if isinstance(crs, str) else json.dumps(crs)
    return Shapes(path, None if text is None else _wkt(path, text), geometry, values)


def _read_table(path: str) -> Shapes:
    names, _, rows = read_rows(Path(path))
    small = {name.strip().lower(): name for name in names}
    found = next((pair for pair in COORDINATES if pair[0] in small and pair[1] in small), None)
    written = next((small[name] for name in GEOMETRIES if name in small), None)
    if found is None and written is not None:
        return _read_written(path, names, rows, written)
    if found is None:
        raise LabelError(
            f"{path}: expected columns called x and y, lon and lat, or wkt, got {list_names(names) or 'none'}. "
            "Rename those of the coordinates."
        )
    points = np.empty((len(rows), 2))
    for number, row in enumerate(rows):
        for axis, name in enumerate(found):
            text = row.get(small[name], "")
            try:
                points[number, axis] = float(text)
            except ValueError as error:
                raise LabelError(
                    f"{path}, row {number + 1}, {small[name]}: expected a number, got {text[:100]!r}. Correct the cell."
                ) from error
    values = {name: np.array([row.get(name, "") for row in rows], object) for name in names if name not in found}
    crs = CRS.from_epsg(4326).to_wkt() if found[0].startswith("l") else None
    return Shapes(path, crs, np.asarray(shapely.points(points), object), values)


def _read_written(path: str, names: Sequence[str], rows: Sequence[dict[str, str]], column: str) -> Shapes:
    """Return the shapes of a table that writes each as text (WKT)."""
    shapes = np.empty(len(rows), object)
    for number, row in enumerate(rows):
        try:
            shapes[number] = shapely.from_wkt(row.get(column) or None, on_invalid="raise")
        except shapely.errors.ShapelyError as error:
            raise LabelError(
                f"{path}, row {number + 1}, {column}: expected a shape such as POINT (3 4), got "
                f"{row.get(column, '')[:100]!r}. Correct the cell."
            ) from error
    values = {name: np.array([row.get(name, "") for row in rows], object) for name in names if name != column}
    return Shapes(path, None, _flat(shapes), values)


def _shapes(wkb: Sequence[bytes] | NDArray[np.object_]) -> NDArray[np.object_]:
    return _flat(shapely.from_wkb(np.asarray(wkb, object), on_invalid="fix"))


def _flat(shapes: NDArray[np.object_]) -> NDArray[np.object_]:
    """Return valid shapes in two dimensions; what crosses itself, as QGIS lets people draw, is taken apart."""
    flat = np.asarray(shapely.force_2d(shapes), object)
    broken = ~shapely.is_valid(flat) & ~shapely.is_missing(flat)
    flat[broken] = shapely.make_valid(flat[broken])
    return flat


def _wkt(path: str, text: str) -> str | None:
    try:
        return ground_system(parse_system(text))
    except ValueError as error:
        raise LabelError(
            f"{path}: expected a coordinate system, got {text[:80]}: {error}. Name it: label.crs."
        ) from error
