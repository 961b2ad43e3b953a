"""Write the audit as files: tables of regions and scenes, and outlines for a map."""

import logging
from pathlib import Path

import polars as pl
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError

from data.csv_cells import quote_formula
from data.errors import EnsembleError
from data.files import replacing
from data.records import FileKind, read_parquet, write_parquet
from data.scenes.catalogue import Catalogue
from ensemble.audit.geopackage import Layer, Polygons, Value, layer_for, write_geopackage
from ensemble.audit.label_audit import Audit
from ensemble.audit.outlines import to_coordinates, to_longitude_latitude, write_geojson
from ensemble.audit.regions import Region

__all__ = ["read_audit", "write_audit"]

logger = logging.getLogger(__name__)

SCHEMA = {
    "rank": pl.Int32,
    **dict.fromkeys(("scene", "label", "prediction"), pl.String),
    "area": pl.Int64,
    **dict.fromkeys(("error", "confidence", "score"), pl.Float64),
    **dict.fromkeys(("row", "col", "top", "left", "height", "width"), pl.Int32),
}

FIELDS = ("scene", "label", "prediction", "area", "error", "confidence", "score", "row", "col")
"""Fields of a region that are columns of the table."""

UNANSWERED: dict[str, Value] = {"verdict": "", "corrected": ""}
"""Columns for the person who looks: ``right`` or ``wrong``, and the class that is there, if it is not the predicted."""

Features = list[tuple[Polygons, dict[str, Value]]]


AUDIT = FileKind("an audit", EnsembleError, "terrablend ensemble")


def read_audit(path: Path) -> pl.DataFrame:
    """Read the regions of ``audit.parquet``; raises EnsembleError if it is missing or damaged."""
    return pl.DataFrame(read_parquet(path, AUDIT))


def write_audit(audit: Audit, folder: Path, catalogue: Catalogue) -> None:
    """Write the regions and scenes whose labels should be checked.

    ``audit.parquet`` lists the regions and ``audit.csv`` the scenes, the worst first. ``audit.gpkg`` holds the
    outlines of the regions, a layer for each reference system; scenes without georeferencing have one in pixels, x the
    column and y minus the row. ``audit.geojson`` has those of georeferenced scenes in longitude and latitude. Without
    any such outline the file is not written, and an old one is removed.
    """
    ranked = [({"rank": rank, **_row(region)}, region) for rank, region in enumerate(audit.regions, 1)]
    write_parquet(folder / "audit.parquet", pl.DataFrame([row for row, _ in ranked], schema=SCHEMA).to_arrow())
    scenes = pl.DataFrame(
        {
            "rank": range(1, len(audit.scenes) + 1),
            "scene": [quote_formula(scene.scene) for scene in audit.scenes],
            "score": [scene.score for scene in audit.scenes],
            "share": [scene.share for scene in audit.scenes],
            "error": [scene.error for scene in audit.scenes],
            "contradicted": [scene.contradicted for scene in audit.scenes],
            "labelled": [scene.labelled for scene in audit.scenes],
            "edge_width": [scene.edges.width for scene in audit.scenes],
            "edge_growth": [scene.edges.growth for scene in audit.scenes],
            "move_down": [scene.edges.down for scene in audit.scenes],
            "move_right": [scene.edges.right for scene in audit.scenes],
        }
    )
    with replacing(folder / "audit.csv") as temporary:
        scenes.write_csv(temporary, float_precision=6)

    grids = {scene.id: scene.grid for scene in catalogue.split("train")}
    layers: dict[str, Layer] = {}
    on_ground: Features = []
    unplaced: list[str] = []
    for values, region in ranked:
        if region.outline:
            grid = grids[region.scene]
            polygons = to_coordinates(region.outline, grid)
            layer = layer_for(grid, "audit")
            layers.setdefault(layer.name, layer).features.append((polygons, values | UNANSWERED))
            if layer.crs is not None:
                try:
                    on_ground.append((to_longitude_latitude(polygons, layer.crs), values))
                except (CRSError, CPLE_BaseError):
                    unplaced.append(region.scene)
    if unplaced:
        logger.warning(
            "label audit: %d of %d regions are not in audit.geojson, since the reference systems of their scenes "
            "(%s …) cannot be turned into longitude and latitude",
            len(unplaced),
            len(ranked),
            unplaced[0],
        )
    for path in (folder / "audit.gpkg", folder / "audit.geojson"):
        path.unlink(missing_ok=True)
    if layers:
        write_geopackage(folder / "audit.gpkg", list(layers.values()))
    if on_ground:
        write_geojson(folder / "audit.geojson", on_ground)


def _row(region: Region) -> dict[str, Value]:
    window = region.window
    values: dict[str, Value] = {name: getattr(region, name) for name in FIELDS}
    return values | {"top": window.row, "left": window.col, "height": window.height, "width": window.width}
