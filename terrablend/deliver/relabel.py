"""Correct labels as somebody judged the regions of an audit: copies beside the originals, which stay as they are."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
import rasterio.features
from numpy.typing import NDArray

from data.addresses import is_elsewhere
from data.errors import EnsembleError, LabelError, OutputError
from data.files import replacing, write_json
from data.names import nearest
from data.pages.numbers import format_count
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced, open_raster
from data.scenes.scene import Scene
from data.settings import LabelSettings
from ensemble.audit.geopackage import Polygons, read_geopackage
from terrablend.run.scene_run import Run

__all__ = ["relabel_scenes"]

MARK = "relabel.json"
"""Lies in the folder of corrected labels: what is there is ours."""


@dataclass(frozen=True)
class Correction:
    """Polygons of a scene, in (column, row), and the label that is there."""

    polygons: Polygons
    label: int


def relabel_scenes(run: Run, audit: Path) -> str:
    """Write corrected labels of all training scenes into a folder of their own, beside the originals.

    Parameters
    ----------
    run : Run
        Whose audit it is.
    audit : Path
        ``audit.gpkg``, in which somebody wrote ``wrong`` or ``right`` under ``verdict`` and, where another class than
        the predicted one is there, its name under ``corrected``. Outlines may have been redrawn.

    Returns
    -------
    text : str
        What was changed, and what to do for it to count.

    Raises
    ------
    EnsembleError
        If the file is no such audit, or no verdict says ``wrong``.
    LabelError
        If a label is no raster of values on its scene's grid.
    OutputError
        If the folder holds what this command did not write.
    """
    catalogue = run.load_catalogue()
    scenes = {scene.id: scene for scene in catalogue.split("train")}
    corrections = _read_corrections(audit, scenes, catalogue.classes)
    labels = {scene.id: scene.label.path for scene in scenes.values() if scene.label is not None}
    if away := [path for path in labels.values() if is_elsewhere(path)]:
        raise LabelError(
            f"{away[0]}: expected labels on this disk, to write corrected ones beside them, got an address. Download "
            "the data, and name its folder as root."
        )
    files = {name: Path(path) for name, path in labels.items()}
    root = Path(os.path.commonpath([path.parent for path in files.values()]))
    out = root.with_name(f"{root.name}_corrected")
    if out.exists() and not (out / MARK).exists():
        raise OutputError(f"{out}: expected no such folder yet, got one of somebody else's. Move it away.")
    # Everything is read before anything is written.
    corrected = {name: _correct(scenes[name], found, catalogue.classes) for name, found in corrections.items()}
    out.mkdir(exist_ok=True)
    write_json(out / MARK, {"audit": str(audit), "changed": {name: count for name, (_, count) in corrected.items()}})
    for name, path in files.items():
        target = out / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            if name in corrected:
                _write_like(path, temporary, corrected[name][0])
            else:
                shutil.copyfile(path, temporary)
    changed = ", ".join(f"{name} {format_count(count)} px" for name, (_, count) in corrected.items())
    stale = [stage.name for stage in run.stages if run.folder.state(stage) == "done"]
    return (
        f"{len(corrected)} of {len(files)} labels corrected ({changed}), all of them in {out}.\n"
        f"Name them under scenes.train.label: {_pattern(run, root, out)}\n"
        f"Then {', '.join(stale) or 'nothing'} will be stale: run again, best into a folder of its own to compare."
    )


def _read_corrections(audit: Path, scenes: Mapping[str, Scene], classes: Classes) -> dict[str, list[Correction]]:
    """Return, by scene, what was judged to be wrong."""
    names = classes.label_names
    corrections: dict[str, list[Correction]] = {}
    for layer in read_geopackage(audit):
        for polygons, values in layer.features:
            verdict, scene = str(values.get("verdict", "")).strip().lower(), str(values.get("scene", ""))
            if verdict not in ("", "right", "wrong"):
                raise EnsembleError(
                    f"{audit}: expected the verdict right or wrong, or none, got {verdict}. Correct it."
                )
            if verdict != "wrong":
                continue
            name = str(values.get("corrected", "")).strip() or str(values.get("prediction", ""))
            if scene not in scenes or name not in names:
                what, known = (scene, scenes) if scene not in scenes else (name, names)
                raise EnsembleError(
                    f"{audit}: expected a training scene and one of its classes, got {what} (nearest: "
                    f"{nearest(what, known, 1)}). Correct it in the row of scene {scene}."
                )
            placed = _to_pixels(polygons, scenes[scene])
            corrections.setdefault(scene, []).append(Correction(placed, names.index(name)))
    if not corrections:
        raise EnsembleError(
            f"{audit}: expected regions with the verdict wrong, got none. Write it into the column verdict in QGIS."
        )
    return corrections


def _to_pixels(polygons: Polygons, scene: Scene) -> Polygons:
    a, b, c, d, e, f = tuple(~rasterio.Affine(*(scene.grid.transform or (1, 0, 0, 0, -1, 0))))[:6]
    return [[[(a * x + b * y + c, d * x + e * y + f) for x, y in ring] for ring in rings] for rings in polygons]


def _correct(scene: Scene, corrections: list[Correction], classes: Classes) -> tuple[NDArray[np.generic], int]:
    """Return the corrected values of a scene's label file, and how many pixels have another."""
    assert scene.label is not None
    with open_raster(scene.label.path) as raster:
        values = raster.read(1)
        bands = raster.count
        moved = scene.label.grid is not None
    if scene.label.colors or bands != 1 or moved or values.shape != (scene.grid.height, scene.grid.width):
        raise LabelError(
            f"{scene.label.path}: expected a label of class values on the grid of scene {scene.id} to correct, got "
            f"{'colours' if scene.label.colors else f'{bands} bands of {values.shape[0]} × {values.shape[1]} pixels'}"
            f"{' elsewhere' if moved else ''}. "
            "Correct it by hand."
        )
    value_of = {label: value for value, label in reversed(scene.label.values)}
    before = values.copy()
    for correction in corrections:
        geometry = {"type": "MultiPolygon", "coordinates": correction.polygons}
        inside = rasterio.features.geometry_mask([geometry], values.shape, rasterio.Affine.identity(), invert=True)
        if correction.label not in value_of:
            name = classes.label_names[correction.label]
            raise LabelError(
                f"{scene.label.path}: expected a value that means {name}, got none. Add it to label.values."
            )
        values[inside] = value_of[correction.label]
    return values, int(np.count_nonzero(values != before))


def _write_like(original: Path, path: Path, values: NDArray[np.generic]) -> None:
    """Write values with the grid, type and nodata of another file."""
    with open_raster(str(original)) as raster:
        profile = {key: raster.profile[key] for key in ("width", "height", "dtype", "crs", "transform", "nodata")}
        driver = raster.driver if raster.driver == "PNG" else "GTiff"
    with maybe_ungeoreferenced(), rasterio.open(path, "w", driver=driver, count=1, **profile) as new:
        new.write(values, 1)


def _pattern(run: Run, root: Path, out: Path) -> str:
    """Return the pattern of labels as it would be with the new folder."""
    settings = run.experiment.scenes.train.label
    if not isinstance(settings, LabelSettings):
        return str(out)
    base = run.experiment.root.resolve()
    old, new = (os.path.relpath(folder.resolve(), base) for folder in (root, out))
    return settings.path.replace(old, new, 1) if settings.path.startswith(old) else f"{new} in place of {old}"
