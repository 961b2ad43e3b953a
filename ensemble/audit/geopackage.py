"""Polygons as a GeoPackage, the SQLite file that QGIS, GDAL and ArcGIS open as they find it.

Written by the standard library after OGC 12-128r19 (GeoPackage 1.3.1), without the optional spatial index.
"""

import sqlite3
import struct
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from rasterio.crs import CRS
from rasterio.enums import WktVersion

from data.errors import EnsembleError
from data.files import fingerprint, replacing
from data.scenes.windows import Grid

__all__ = ["Layer", "Polygons", "Ring", "Value", "layer_for", "read_geopackage", "write_geopackage"]

Ring = Sequence[tuple[float, float]]
"""(x, y) of each corner, the first again at the end."""
Polygons = Sequence[Sequence[Ring]]
"""Polygons of one feature; each its rings, the outer one first."""

Value = str | int | float

UNDEFINED = -1
"""What GeoPackage calls a flat reference system that it knows nothing about."""

CREATE = """
PRAGMA application_id = 0x47504B47;
PRAGMA user_version = 10301;
CREATE TABLE gpkg_spatial_ref_sys (
    srs_name TEXT NOT NULL, srs_id INTEGER NOT NULL PRIMARY KEY, organization TEXT NOT NULL,
    organization_coordsys_id INTEGER NOT NULL, definition TEXT NOT NULL, description TEXT);
CREATE TABLE gpkg_contents (
    table_name TEXT NOT NULL PRIMARY KEY, data_type TEXT NOT NULL, identifier TEXT UNIQUE, description TEXT DEFAULT '',
    last_change DATETIME NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now')),
    min_x DOUBLE, min_y DOUBLE, max_x DOUBLE, max_y DOUBLE, srs_id INTEGER,
    CONSTRAINT fk_gc_r_srs_id FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys(srs_id));
CREATE TABLE gpkg_geometry_columns (
    table_name TEXT NOT NULL, column_name TEXT NOT NULL, geometry_type_name TEXT NOT NULL, srs_id INTEGER NOT NULL,
    z TINYINT NOT NULL, m TINYINT NOT NULL,
    CONSTRAINT pk_geom_cols PRIMARY KEY (table_name, column_name), CONSTRAINT uk_gc_table_name UNIQUE (table_name),
    CONSTRAINT fk_gc_tn FOREIGN KEY (table_name) REFERENCES gpkg_contents(table_name),
    CONSTRAINT fk_gc_srs FOREIGN KEY (srs_id) REFERENCES gpkg_spatial_ref_sys (srs_id));
"""

KINDS: dict[type, str] = {str: "TEXT", int: "INTEGER", float: "DOUBLE"}

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
        Of at least one feature; the values of each by the same names in the same order.
    description : str
    """

    name: str
    crs: str | None
    features: list[tuple[Polygons, dict[str, Value]]]
    description: str = ""


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
    # SQLite takes the empty file for a new database.
    with replacing(path) as temporary, closing(sqlite3.connect(temporary)) as database:
        database.executescript(CREATE)
        systems: dict[str, int] = {}
        _add_system(database, "EPSG:4326", systems)
        for srs_id, name in ((UNDEFINED, "Undefined Cartesian"), (0, "Undefined geographic")):
            values = (name, srs_id, "NONE", srs_id, "undefined", None)
            database.execute("INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)", values)
        for layer in layers:
            srs_id = UNDEFINED if layer.crs is None else _add_system(database, layer.crs, systems)
            _add_layer(database, layer, srs_id)
        database.commit()


def read_geopackage(path: Path) -> list[Layer]:
    """Read the polygons of a file that `write_geopackage` wrote and that somebody edited.

    Attributes that were left empty are empty texts.

    Raises
    ------
    EnsembleError
        If it is no GeoPackage, or has other shapes than polygons.
    """
    try:
        # Opened to be read alone, as QGIS may have it open too.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            database.row_factory = sqlite3.Row
            return [
                Layer(row["table_name"], row["definition"] if row["srs_id"] > 0 else None, _read_rows(database, row))
                for row in database.execute(
                    "SELECT table_name, column_name, srs_id, definition FROM gpkg_geometry_columns "
                    "JOIN gpkg_spatial_ref_sys USING (srs_id) ORDER BY table_name"
                ).fetchall()
            ]
    except (sqlite3.Error, struct.error, ValueError) as error:
        raise EnsembleError(
            f"{path}: expected a GeoPackage of polygons, got: {error}. Name the audit.gpkg that was edited."
        ) from error


def _read_rows(database: sqlite3.Connection, layer: sqlite3.Row) -> list[tuple[Polygons, dict[str, Value]]]:
    rows = database.execute(f'SELECT * FROM "{layer["table_name"]}"').fetchall()
    geometry = layer["column_name"]
    return [
        (
            _decode(row[geometry]) if row[geometry] else [],
            {name: "" if row[name] is None else row[name] for name in row.keys() if name != geometry},  # noqa: SIM118
        )
        for row in rows
    ]


def _decode(blob: bytes) -> Polygons:
    """Return the polygons of a GeoPackage's geometry; heights are left out."""
    if blob[:2] != b"GP":
        raise ValueError("a geometry without the header of GeoPackage")
    # Bits 1 to 3 of the flags say how many numbers the envelope has.
    start = 8 + 8 * (0, 4, 6, 6, 8)[blob[3] >> 1 & 0b111]
    return _read_shape(blob, start)[0]


def _read_shape(blob: bytes, at: int) -> tuple[list[list[Ring]], int]:
    order = "<" if blob[at] else ">"
    kind, count = struct.unpack_from(f"{order}II", blob, at + 1)
    shape, numbers = kind % 1000, 2 + (0, 1, 1, 2)[kind // 1000]
    at += 9
    polygons: list[list[Ring]] = []
    if shape == 6:
        for _ in range(count):
            parts, at = _read_shape(blob, at)
            polygons += parts
        return polygons, at
    if shape != 3:
        raise ValueError(f"a geometry of kind {shape}")
    rings: list[Ring] = []
    for _ in range(count):
        (points,) = struct.unpack_from(f"{order}I", blob, at)
        values = struct.unpack_from(f"{order}{points * numbers}d", blob, at + 4)
        at += 4 + 8 * points * numbers
        rings.append(list(zip(values[::numbers], values[1::numbers], strict=True)))
    return [rings], at


def _add_system(database: sqlite3.Connection, text: str, systems: dict[str, int]) -> int:
    crs = CRS.from_user_input(text)
    definition = crs.to_wkt(version=WktVersion.WKT1_GDAL)
    if definition not in systems:
        code = crs.to_epsg()
        # Numbers of one's own begin where EPSG's end.
        srs_id = code or 100_000 + len(systems)
        systems[definition] = srs_id
        name, organisation = (f"EPSG:{code}", "EPSG") if code else (definition.split('"')[1], "NONE")
        database.execute(
            "INSERT INTO gpkg_spatial_ref_sys VALUES (?, ?, ?, ?, ?, ?)",
            (name, srs_id, organisation, srs_id, definition, None),
        )
    return systems[definition]


def _add_layer(database: sqlite3.Connection, layer: Layer, srs_id: int) -> None:
    columns = {name: KINDS[type(value)] for name, value in layer.features[0][1].items()}
    declared = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    database.execute(
        f'CREATE TABLE "{layer.name}" (fid INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL, geom MULTIPOLYGON, {declared})'
    )
    boxes = [_bounds(polygons) for polygons, _ in layer.features]
    low_x, low_y, high_x, high_y = zip(*boxes, strict=True)
    extent = min(low_x), min(low_y), max(high_x), max(high_y)
    database.execute(
        "INSERT INTO gpkg_contents VALUES (?, 'features', ?, ?, ?, ?, ?, ?, ?, ?)",
        (layer.name, layer.name, layer.description, WHEN, *extent, srs_id),
    )
    database.execute(
        "INSERT INTO gpkg_geometry_columns VALUES (?, 'geom', 'MULTIPOLYGON', ?, 0, 0)", (layer.name, srs_id)
    )
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join("?" * len(columns))
    database.executemany(
        f'INSERT INTO "{layer.name}" (geom, {names}) VALUES (?, {places})',
        [
            (_encode(polygons, box, srs_id), *(values[name] for name in columns))
            for (polygons, values), box in zip(layer.features, boxes, strict=True)
        ],
    )


def _bounds(polygons: Polygons) -> tuple[float, float, float, float]:
    # Holes lie within.
    xs, ys = zip(*(point for polygon in polygons for point in polygon[0]), strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def _encode(polygons: Polygons, box: tuple[float, float, float, float], srs_id: int) -> bytes:
    """Return a multipolygon as well-known binary, after the header of GeoPackage: little endian, with an envelope."""
    low_x, low_y, high_x, high_y = box
    header = struct.pack("<2sBBi4d", b"GP", 0, 0b11, srs_id, low_x, high_x, low_y, high_y)
    parts = [header, struct.pack("<BII", 1, 6, len(polygons))]
    for rings in polygons:
        parts.append(struct.pack("<BII", 1, 3, len(rings)))
        parts += [struct.pack(f"<I{2 * len(ring)}d", len(ring), *chain.from_iterable(ring)) for ring in rings]
    return b"".join(parts)
