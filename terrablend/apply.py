"""A finished ensemble at work on scenes it has never seen, and class maps scored against labels."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from data.discovery import find_files, image_files, label_values, mask_rules
from data.errors import ExperimentError, MapError, SceneError
from data.members import map_path, write_map
from data.metrics import CLASS_METRICS, METRICS
from data.scene import LabelFile, Scene, read_grid
from data.settings import LabelSettings
from ensemble.evaluation import MAP, evaluate_class_maps
from ensemble.predict import write_prediction
from ensemble.scores import score_table
from terrablend.experiment import Experiment
from terrablend.stacking import learning_order
from terrablend.stages import Run

__all__ = ["evaluate_maps", "predict_scenes", "scene_of_files"]

logger = logging.getLogger(__name__)


def predict_scenes(run: Run, scenes: Sequence[str], out: Path) -> None:
    """Write the probability map and the class map of each scene.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    scenes : sequence of str
        Paths; those of a scene of several files joined by commas, in the order of ``scenes.train.image``.
    out : Path
        Gets ``<name>.tif`` and ``<name>_proba.tif``, where name is that of the scene's first file.

    Raises
    ------
    SceneError
        If a scene cannot be read or has other bands than the models were trained on.
    EnsembleError
        If there is no ensemble yet.
    """
    ensemble = run.load_ensemble()
    opened = [scene_of_files(text, run.experiment) for text in scenes]
    names = [scene.id for scene in opened]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError(f"expected scenes of distinct names, got {', '.join(twice)} twice. Map them one by one.")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".members-") as temporary:
        folder = Path(temporary)
        members = [run.load_member(name, folder) for name in learning_order(run.experiment.members, ensemble.used)]
        for scene in run.track(opened, "scenes", len(opened)):
            maps = {member.name: map_path(folder / member.name, scene) for member in members}
            for member in members:
                write_map(member, scene, member.folds, ensemble.classes.names, maps[member.name])
            used = [maps[name] for name in ensemble.used]
            write_prediction(ensemble, used, scene, out / f"{scene.id}.tif", out / f"{scene.id}_proba.tif")
            for path in maps.values():
                path.unlink()
    logger.info("%d scenes mapped, in %s", len(opened), out)


def scene_of_files(text: str, experiment: Experiment) -> Scene:
    """Return the scene made of some files, with the bands of the experiment's training scenes."""
    entries = experiment.scenes.train.image
    paths = text.split(",")
    if len(paths) != len(entries):
        raise ExperimentError(
            f"{text}: expected {len(entries)} files a scene, like {' and '.join(entry.path for entry in entries)}, "
            f"got {len(paths)}. Join the files of a scene by commas."
        )
    images = image_files(experiment.scenes.train, experiment.scenes, paths)
    grids = [read_grid(path) for path in paths]
    for image, (grid, count) in zip(images, grids, strict=True):
        if count != len(image.bands):
            raise SceneError(
                f"{image.path}: expected the bands {', '.join(image.bands)}, the file has {count}. "
                "Export the scene with the bands that the models were trained on."
            )
        if (grid.height, grid.width) != (grids[0][0].height, grids[0][0].width):
            raise SceneError(
                f"{image.path}: expected {grids[0][0].height} × {grids[0][0].width} pixels like {paths[0]}, "
                f"got {grid.height} × {grid.width}. Resample it to that grid."
            )
    return Scene(Path(paths[0]).stem, "test", images, grids[0][0], invalid=mask_rules(experiment.scenes))


def evaluate_maps(experiment: Experiment, maps: Path, labels: str) -> str:
    """Score the class maps of a folder against labels.

    Parameters
    ----------
    experiment : Experiment
        Says what the classes and the values of its training labels are.
    maps : Path
        Folder of ``<id>.tif``; labels of other scenes are not looked at.
    labels : str
        Pattern with {id}, or a folder of ``<id>.tif``.

    Returns
    -------
    table : str
        Pooled scores with intervals over scenes, their means over scenes, and scores of each class.

    Raises
    ------
    MapError
        If there is no map, or a map has no label.
    """
    classes = experiment.label_classes()
    pattern = Path(labels if "{id}" in labels else f"{labels}/{{id}}.tif").absolute()
    root = Path(pattern.anchor)
    found = find_files(pattern.relative_to(root).as_posix(), root)
    names = sorted(path.stem for path in maps.glob("*.tif"))
    lacking = [name for name in names if name not in found]
    if lacking or not names:
        raise MapError(
            f"{maps}: expected class maps <id>.tif with a label {labels} each, got {len(names)} maps, "
            f"{len(lacking)} of them without a label {lacking[:3]}. Correct the pattern of the labels."
        )
    values = label_values(experiment.scenes.train.label or LabelSettings(path=labels), classes)
    pairs = [
        (maps / f"{name}.tif", Scene(name, "val", (), read_grid(found[name])[0], LabelFile(found[name], values)))
        for name in names
    ]
    evaluation = evaluate_class_maps(pairs, classes)
    scores = score_table([evaluation], classes.label_names, classes.task, experiment.ensemble, experiment.seed)
    return "\n".join([f"{len(pairs)} scenes, {evaluation.total(MAP).sum()} labelled pixels", "", *_lines(scores)])


def _lines(scores: pl.DataFrame) -> Iterator[str]:
    """Yield the lines of two tables: scores over all classes, and those of each class."""
    whole = scores.filter(pl.col("label") == "")
    yield f"{'':<14}{'pooled':>8}{'interval':>19}{'scene mean':>12}"
    for name, metric in METRICS.items():
        rows = {row["scope"]: row for row in whole.filter(pl.col("metric") == name).rows(named=True)}
        if rows:
            row = rows["all"]
            interval = f"{row['low']:.4f} – {row['high']:.4f}"
            yield f"{metric.title:<14}{row['value']:8.4f}{interval:>19}{rows['scene mean']['value']:12.4f}"
    yield ""
    yield f"{'class':<14}" + "".join(f"{metric.title:>10}" for metric in CLASS_METRICS.values())
    single = scores.filter(pl.col("label") != "")
    for label in single["label"].unique(maintain_order=True):
        values = single.filter(pl.col("label") == label)["value"]
        yield f"{label:<14}" + "".join(f"{value:10.4f}" for value in values)
