"""The record of a model: a STAC item with the Machine Learning Model extension, for catalogues of models."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rasterio.warp import transform_bounds

from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.footprints import has_footprint
from data.scenes.scene import Scene
from ensemble.ensemble import Ensemble
from ensemble.predict import model_id
from terrablend.branches import branch_of
from terrablend.experiment.stacking import learning_order
from terrablend.run.scene_run import Run

__all__ = ["describe_model"]

EXTENSIONS = (
    "https://stac-extensions.github.io/mlm/v1.5.0/schema.json",
    "https://stac-extensions.github.io/classification/v2.0.0/schema.json",
    "https://stac-extensions.github.io/file/v2.1.0/schema.json",
)

TASKS = {"binary": "semantic-segmentation", "multiclass": "semantic-segmentation", "multilabel": "scene-classification"}

ARTIFACTS = {
    ".txt": ("LightGBM", "text/plain"),
    ".ubj": ("XGBoost", "application/ubjson"),
    ".cbm": ("CatBoost", "application/octet-stream"),
    ".npz": ("scikit-learn", "application/octet-stream"),
    ".zip": ("Terrablend", "application/zip"),
    ".safetensors": ("PyTorch", "application/octet-stream; application=safetensors"),
    ".json": ("Terrablend", "application/json"),
}
"""Framework and media type of a model file."""

ANY_TIME = {"datetime": None, "start_datetime": "1900-01-01T00:00:00Z", "end_datetime": "9999-12-31T23:59:59Z"}
"""An item must have a time, and the extension's examples say so that a model is bound to none."""

SHA256 = "1220"
"""What a multihash of SHA-256 begins with."""


def describe_model(
    run: Run, ensemble: Ensemble, catalogue: Catalogue, files: Mapping[str, tuple[str, int]]
) -> dict[str, Any]:
    """Return the record of a finished run as a STAC 1.1 item.

    Parameters
    ----------
    run : Run
    ensemble : Ensemble
    catalogue : Catalogue
        Where its training scenes lie is the item's place; null where they have none.
    files : mapping of str to (str, int)
        Path in the bundle → SHA-256 and size of each file of a model.

    Returns
    -------
    item : dict
        JSON-like.

    References
    ----------
    .. [1] https://github.com/stac-extensions/mlm/tree/v1.5.0
    """
    identity, classes = model_id(ensemble), catalogue.classes
    geometry = _geometry(catalogue.split("train"))
    task = TASKS[classes.task]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": list(EXTENSIONS),
        "id": f"{run.experiment.name}-{identity}",
        **geometry,
        "properties": {
            **ANY_TIME,
            "description": ensemble.verdict_,
            "mlm:name": "terrablend-" + re.sub(r"[^A-Za-z0-9_.-]", "_", f"{run.experiment.name}-{identity}"),
            "mlm:architecture": " + ".join(dict.fromkeys(_architectures(run, ensemble))),
            "mlm:framework": "Terrablend",
            "mlm:tasks": [task],
            "mlm:input": [taken for name in _members(run, ensemble) for taken in _inputs(run, name, classes)],
            "mlm:output": list(_outputs(classes, task)),
            "mlm:hyperparameters": {
                "metric": ensemble.metric,
                "score": ensemble.score_,
                "thresholds": list(ensemble.thresholds_),
                "weights": ensemble.weights_,
            },
        },
        "links": [],
        "assets": {_key(path): _asset(path, *facts, catalogue) for path, facts in files.items()},
    }


def _members(run: Run, ensemble: Ensemble) -> tuple[str, ...]:
    return learning_order(run.experiment.members, ensemble.used)


def _architectures(run: Run, ensemble: Ensemble) -> Iterator[str]:
    for name in _members(run, ensemble):
        settings = run.member_settings(name)
        yield branch_of(settings).architecture(settings)


def _inputs(run: Run, name: str, classes: Classes) -> Iterator[dict[str, Any]]:
    """Yield what each kind of model of a member takes."""
    for taken in branch_of(run.member_settings(name)).inputs(run.load_member(name), classes):
        described: dict[str, Any] = {
            "name": taken.name,
            "description": taken.description,
            "bands": [_band(feature) for feature in taken.features],
            "input": {"shape": [*taken.shape], "dim_order": [*taken.dimensions], "data_type": "float32"},
        }
        if taken.scaling is not None:
            described["value_scaling"] = [
                {"type": "z-score", "mean": offset, "stddev": scale} for offset, scale in taken.scaling
            ]
        yield described


def _band(feature: Mapping[str, Any]) -> str | dict[str, Any]:
    if feature["kind"] == "band":
        return str(feature["name"])
    return {"name": feature["name"], "format": "terrablend", "expression": feature["definition"]}


def _outputs(classes: Classes, task: str) -> Iterator[dict[str, Any]]:
    n = len(classes.names)
    scene = classes.task == "multilabel"
    where, order = ([], []) if scene else ([-1, -1], ["height", "width"])
    yield {
        "name": "probabilities",
        "tasks": [task],
        "description": "Calibrated and blended; in files as integers of 1/65534, 65535 where nothing was predicted.",
        "result": {"shape": [-1, n, *where], "dim_order": ["batch", "class", *order], "data_type": "float32"},
    }
    if not scene:
        yield {
            "name": "classes",
            "tasks": [task],
            "description": "Thresholds applied, cleaned; 255 where nothing was predicted.",
            "result": {"shape": [-1, -1, -1], "dim_order": ["batch", "height", "width"], "data_type": "uint8"},
            "classification:classes": [
                {
                    "value": value,
                    "name": re.sub(r"[^0-9A-Za-z_-]", "_", name),
                    "title": name,
                    "color_hint": "{:02X}{:02X}{:02X}".format(*color),
                }
                for value, name, color in zip(classes.label_ids, classes.label_names, classes.label_colors, strict=True)
            ],
        }


def _key(path: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", path)


def _asset(path: str, sha256: str, size: int, catalogue: Catalogue) -> dict[str, Any]:
    about = {"href": f"./{path}", "file:size": size, "file:checksum": SHA256 + sha256}
    suffix = Path(path).suffix
    if suffix not in ARTIFACTS or path.endswith("member.json"):
        return {**about, "type": "application/json" if suffix == ".json" else "application/yaml", "roles": ["metadata"]}
    framework, kind = ARTIFACTS[suffix]
    described = {"type": kind, "mlm:framework": framework, "mlm:artifact_type": f"terrablend.{suffix[1:]}"}
    if suffix == ".json":
        # The extension asks for bands where the model as a whole is.
        return {**about, **described, "roles": ["mlm:model"], "bands": [{"name": name} for name in catalogue.bands]}
    return {**about, **described, "roles": ["mlm:model", "mlm:weights"]}


def _geometry(scenes: tuple[Scene, ...]) -> dict[str, Any]:
    """Return the rectangle of longitude and latitude in which all scenes lie, if any does."""
    boxes = [_box(scene) for scene in scenes if has_footprint(scene)]
    if not boxes:
        return {"geometry": None}
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    left, bottom, right, top = min(lefts), min(bottoms), max(rights), max(tops)
    ring = [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]
    return {"geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [left, bottom, right, top]}


def _box(scene: Scene) -> tuple[float, float, float, float]:
    grid = scene.grid
    assert grid.transform is not None
    a, b, c, d, e, f = grid.transform
    corners = [(col, row) for col in (0, grid.width) for row in (0, grid.height)]
    x, y = [a * col + b * row + c for col, row in corners], [d * col + e * row + f for col, row in corners]
    box: tuple[float, float, float, float] = transform_bounds(grid.crs, "OGC:CRS84", min(x), min(y), max(x), max(y))
    return box
