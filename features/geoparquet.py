"""Write the pixel table as points on a map: one GeoParquet file that QGIS, geopandas and DuckDB open."""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError
from rasterio.warp import transform

from data.errors import TableError
from data.files import require_replaceable
from data.progress import Track, untracked
from data.records import parquet_writer, read_footer, read_parquet
from data.scenes.footprints import has_footprint
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from features.table import ROWS, table_path

__all__ = ["write_points"]

logger = logging.getLogger(__name__)

LONGITUDE_LATITUDE = "OGC:CRS84"
"""What GeoParquet takes coordinates to be in when a file names no reference system."""


def write_points(
    directory: Path, scenes: Sequence[Scene], path: Path, track: Track = untracked, *, batch_rows: int = 2**17
) -> int:
    """Write the rows of some scenes as one GeoParquet 1.1 file of points, the centres of the pixels.

    Coordinates stay in the scenes' reference system if they share one, else they become longitude and latitude
    (OGC:CRS84). All columns of the table are kept, with their metadata. The scenes are read one after the other,
    so that a table larger than memory can be written.

    Parameters
    ----------
    directory : Path
        Of the pixel table.
    scenes : sequence of Scene
        Training scenes, georeferenced.
    path : Path
        Of the file to write; it is either whole or left as it was.
    track : Track
    batch_rows : int
        Rows held in memory at a time, and at most in a row group.

    Returns
    -------
    rows : int
        Number of points written.

    Raises
    ------
    TableError
        If a scene has tags, no coordinates or none that can be converted, if its rows are missing, or the scenes'
        rows differ in their columns.
    OutputError
        If there is a file that is no earlier table of points.

    References
    ----------
    .. [1] https://geoparquet.org/releases/v1.1.0/
    """
    require_replaceable(path, _are_points)
    _check_scenes(directory, scenes)
    crs = _shared_crs(scenes)
    schema = read_footer(table_path(directory, scenes[0]), ROWS).schema.to_arrow_schema()
    floats = [field.name for field in schema if field.type == pa.float32()]
    points = schema.append(
        pa.field("geometry", pa.binary(), False, metadata={"unit": "", "description": "centre of the pixel, WKB"})
    )
    corners = np.array([[np.inf, np.inf], [-np.inf, -np.inf]])
    rows = 0
    with (
        # As in the table itself; points hardly ever repeat either.
        parquet_writer(
            path,
            points,
            compression="zstd",
            compression_level=1,
            write_statistics=False,
            use_dictionary=["scene"],
            use_byte_stream_split=floats,
        ) as writer
    ):
        for scene in track(scenes, "points", len(scenes)):
            for batch in _read_batches(table_path(directory, scene), schema, batch_rows):
                xy = _pixel_centres(scene.grid, batch.column("row").to_numpy(), batch.column("col").to_numpy())
                if crs is None:
                    xy = _to_longitude_latitude(xy, scene)
                corners = np.array([np.minimum(corners[0], xy.min(axis=0)), np.maximum(corners[1], xy.max(axis=0))])
                rows += batch.num_rows
                shapes = pa.array(shapely.to_wkb(shapely.points(xy), byte_order=1), pa.binary())
                writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, shapes], schema=points))
        geo = _describe_geometry(crs, corners.ravel().tolist() if rows else None)
        writer.add_key_value_metadata({"geo": json.dumps(geo)})
    logger.info("points: %d pixels of %d scenes in %s, %s", rows, len(scenes), crs or LONGITUDE_LATITUDE, path)
    return rows


def _are_points(path: Path) -> bool:
    """Return whether a file is a table of ours as points."""
    try:
        metadata = pq.read_metadata(path).metadata or {}
    except (pa.ArrowException, OSError):
        return False
    return {b"geo", b"terrablend"} <= metadata.keys()


def _check_scenes(directory: Path, scenes: Sequence[Scene]) -> None:
    if not scenes:
        raise TableError(f"{directory}: expected scenes with coordinates, got no scene. Name one or more.")
    if any(scene.tags is not None for scene in scenes):
        raise TableError(f"{directory}: expected rows that are pixels, got scenes with tags. Leave --points out.")
    nowhere = [scene for scene in scenes if not has_footprint(scene)]
    if nowhere:
        raise TableError(
            f"scene {nowhere[0].id}: expected scenes with coordinates, got {len(nowhere)} of {len(scenes)} without a "
            "reference system or transform. Export their images with georeferencing, or leave these scenes out."
        )


def _shared_crs(scenes: Sequence[Scene]) -> CRS | None:
    """Return the one reference system of all scenes, or None if they have several."""
    # Texts can differ though the systems they describe do not.
    systems = [CRS.from_wkt(wkt) for wkt in dict.fromkeys(scene.grid.crs for scene in scenes)]
    return systems[0] if all(system == systems[0] for system in systems) else None


def _read_batches(path: Path, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a scene that has the columns of ``schema``, in that order."""
    footer = read_footer(path, ROWS)
    found = footer.schema.to_arrow_schema()
    if not found.equals(schema):
        raise TableError(
            f"{path}: expected the columns {', '.join(schema.names)} like the first scene, got "
            f"{', '.join(found.names)}. Run `terrablend features --overwrite`."
        )
    for group in range(footer.num_row_groups):
        yield from (batch for batch in read_parquet(path, ROWS, group=group).to_batches(batch_rows) if batch.num_rows)


def _pixel_centres(grid: Grid, row: NDArray[np.int32], col: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return (n, 2) x and y of the centres of pixels, in the grid's reference system."""
    assert grid.transform is not None
    a, b, c, d, e, f = grid.transform
    across, down = col + 0.5, row + 0.5
    return np.column_stack([a * across + b * down + c, d * across + e * down + f])


def _to_longitude_latitude(xy: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    try:
        moved = np.column_stack(transform(CRS.from_wkt(scene.grid.crs), LONGITUDE_LATITUDE, *xy.T))
        problem = "" if np.isfinite(moved).all() else "pixels outside its projection"
    except (CRSError, CPLE_BaseError) as error:
        problem = str(error)
    if problem:
        raise TableError(
            f"scene {scene.id}: expected a reference system that converts to longitude and latitude, got: {problem}. "
            "Correct the georeferencing of its image, or write scenes of one reference system at a time."
        )
    return moved


def _describe_geometry(crs: CRS | None, bounds: list[float] | None) -> dict[str, Any]:
    """Return the file metadata ``geo`` of the standard."""
    column: dict[str, Any] = {"encoding": "WKB", "geometry_types": ["Point"]}
    if crs is not None:
        column["crs"] = crs.to_dict(projjson=True)
    if bounds is not None:
        column["bbox"] = bounds
    return {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
