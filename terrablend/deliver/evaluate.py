"""Score class maps against labels pixel by pixel, or by a design sample of points."""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from data.errors import ExperimentError, LabelError, MapError
from data.files import is_hidden
from data.metrics.metric import Metric
from data.pages.numbers import format_count
from data.scenes.classes import Classes
from data.scenes.formats import allow_vrt
from data.scenes.labels import label_file
from data.scenes.placement import place_label
from data.scenes.rasters import read_grid
from data.scenes.scene import Scene
from data.settings import VECTOR_SUFFIXES, LabelSettings, MeaningSettings, VectorSettings
from data.survey.images import framing
from data.survey.patterns import find_files
from data.vectors.burn import burn_label
from data.vectors.drawn import drawn_label
from ensemble.score.area_estimates import areas_of_evaluation
from ensemble.score.design_sample import SampleScores, score_sample
from ensemble.score.evaluation import MAP, evaluate_class_maps
from ensemble.score.intervals import Interval
from ensemble.score.scores import label_metrics, score_table, suitable_metrics
from terrablend.deliver.scene_mapper import CLASSES, PROBA
from terrablend.experiment import Experiment

logger = logging.getLogger(__name__)

__all__ = ["evaluate_maps", "evaluate_sample"]

NAMES = {"precision": "user’s", "recall": "producer’s"}
"""What remote sensing calls precision and recall: user's and producer's accuracy."""


def evaluate_maps(experiment: Experiment, maps: Path, labels: str) -> str:
    """Score the class maps of a folder against labels.

    Parameters
    ----------
    experiment : Experiment
        Says what the classes and the values of its training labels are.
    maps : Path
        Folder of ``<id>.tif``, or of ``<id>_classes.tif`` as `terrablend predict` writes them; labels of other
        scenes are not looked at.
    labels : str
        Pattern with {id}, a folder of ``<id>.tif``, or a file of shapes.

    Returns
    -------
    text : str
        Scores pooled and as the mean over scenes, scores of each class, and class areas, all with intervals over
        scenes.

    Raises
    ------
    MapError
        If there is no map, or a map has no label.
    SceneError
        If a label lies elsewhere than its map.
    ExperimentError
        If the task is multilabel.
    """
    classes, settings = _classes(experiment), experiment.ensemble
    mapped = _class_maps(maps)
    names = sorted(mapped)
    if labels.lower().endswith(VECTOR_SUFFIXES) and "{id}" not in labels:
        files = dict.fromkeys(names, labels)
    else:
        pattern = Path(labels if "{id}" in labels else f"{labels}/{{id}}.tif").absolute()
        files = find_files(str(pattern), Path())
    lacking = [name for name in names if name not in files]
    if lacking or not names:
        raise MapError(
            f"{maps}: expected class maps <id>.tif with a label {labels} each, got {len(names)} maps, "
            f"{len(lacking)} of them without a label {lacking[:3]}. Correct the pattern of the labels."
        )
    with tempfile.TemporaryDirectory() as folder:
        scenes = {
            name: _scene_of_map(mapped[name], files[name], experiment, Path(folder) / f"{name}.tif") for name in names
        }
        evaluation = evaluate_class_maps([(mapped[name], scene) for name, scene in scenes.items()], classes)
        scores = score_table([evaluation], classes, settings)
        areas = areas_of_evaluation(
            evaluation, evaluation.mapped[MAP], [*scenes.values()], classes, settings, labelled=True
        )
    counts = evaluation.total(MAP)
    if not counts.any():
        raise MapError(
            f"{maps}: expected labelled pixels on the maps, got none in {labels}. Name the labels of this place."
        )
    lines = [
        f"{len(names)} scenes, {format_count(counts.sum())} labelled pixels, "
        f"{format_count(counts[..., -1].sum())} of them not mapped",
        f"Intervals: {settings.confidence_level:.0%}, as if other scenes had been labelled.",
        "",
        *_score_lines(scores, classes),
        "",
        *_class_lines(scores, classes),
        "",
        "Areas: all that is mapped is labelled, so these are the areas of the labels."
        if areas.labelled == 1
        else "Areas, if the labelled pixels are a fair sample of what is mapped:",
        *areas.lines(),
    ]
    return "\n".join(lines)


def evaluate_sample(experiment: Experiment, maps: Path, sample: Path, proba: Path | None = None) -> str:
    """Score the class maps of a folder by a design sample.

    Parameters
    ----------
    experiment : Experiment
        Says what the classes are.
    maps : Path
        Folder of ``<id>.tif``: together the mapped area.
    sample : Path
        CSV file, as `ensemble.score.design_sample.read_sample` reads it.
    proba : Path, optional
        Folder of probability maps; by default those that lie beside the class maps of `terrablend predict`, or in
        ``proba/`` beside the folder of `terrablend submit`, if there are any.

    Returns
    -------
    text : str
        Accuracy and class areas, adjusted for how often points were drawn in each mapped class, with intervals; and
        areas that the probabilities helped to estimate.

    Raises
    ------
    MapError
        If there is no map, or a probability map is missing or lies elsewhere.
    LabelError
        If a point does not fit the maps, or a mapped class has too few.
    ExperimentError
        If the task is multilabel.
    """
    classes, confidence_level = _classes(experiment), experiment.ensemble.confidence_level
    files = _class_maps(maps)
    if not files:
        raise MapError(f"{maps}: expected class maps <id>.tif, got none. Name a folder of class maps.")
    soft = _proba_maps(maps, files, proba)
    scores = score_sample(sample, files, classes, confidence_level, soft)
    width = max(map(len, classes.label_names)) + 2
    lines = [
        f"{scores.points} points on {len(files)} maps; {scores.unmapped} where nothing is mapped are left out",
        "",
        "Points by class (rows) and map (columns):",
        "".join(f"{name:>{width}}" for name in ("", *classes.label_names)),
        *(
            f"{name:>{width}}" + "".join(f"{count:>{width}}" for count in row[:-1])
            for name, row in zip(classes.label_names, scores.counts, strict=True)
        ),
        "",
        f"Stratified by the map’s classes (Olofsson et al. 2014), {confidence_level:.0%} intervals (Jeffreys):",
        *scores.areas.lines(),
        *(f"Warning: {place}." for place in scores.unsettled),
        *_assisted_lines(scores),
    ]
    return "\n".join(lines)


def _proba_maps(maps: Path, files: Mapping[str, Path], given: Path | None) -> dict[str, Path] | None:
    """Return the probability map of each class map; None where none are given and not all lie where they usually do."""
    if given is not None:
        found = {scene: given / f"{scene}.tif" for scene in files}
        found = {scene: path if path.exists() else given / f"{scene}{PROBA}.tif" for scene, path in found.items()}
        lacking = [scene for scene, path in found.items() if not path.exists()]
        if lacking:
            raise MapError(
                f"{given}: expected a probability map of each of {len(files)} class maps, {len(lacking)} are missing: "
                f"{', '.join(lacking[:3])}. Correct --proba."
            )
        return found
    beside = {scene: path.with_name(f"{scene}{PROBA}.tif") for scene, path in files.items()}
    submitted = {scene: maps.resolve().parent / "proba" / f"{scene}.tif" for scene in files}
    return next((found for found in (beside, submitted) if all(path.exists() for path in found.values())), None)


def _assisted_lines(scores: SampleScores) -> Iterator[str]:
    """Yield a table of areas that probabilities helped to estimate, and how many points these saved."""
    if scores.assisted is None:
        return
    areas, found, n_points = scores.areas, scores.assisted, scores.points - scores.unmapped
    width = max(14, *(len(label) + 2 for label in areas.labels))
    yield ""
    yield "With the help of the map’s probabilities (model-assisted, prediction-powered):"
    yield f"{'class':<{width}}{f'area, {areas.unit[0]}':>16}{'interval':>22}{'points saved':>21}"
    for label, area, saved in zip(areas.labels, found.area, found.saved, strict=True):
        value, ends = areas.write(area.value), areas.write_range(area)
        yield f"{label:<{width}}{value:>16}{ends:>22}{format_count(round(saved)):>21}"
    yield f"Points saved: so many more than {n_points} would be needed for as good an estimate without probabilities."


def _scene_of_map(path: Path, label: str, experiment: Experiment, burnt: Path) -> Scene:
    """Return a scene on the grid of a map, with its label where it lies; one of shapes is burnt into a file."""
    classes, given, grid = experiment.label_classes(), experiment.scenes.train.label, read_grid(str(path))[0]
    # Of several annotators' labels the first says what values mean.
    given = given[0] if isinstance(given, list) else given
    if label.lower().endswith(VECTOR_SUFFIXES):
        settings = given if isinstance(given, VectorSettings) else VectorSettings(vector=label)
        drawn = burn_label(drawn_label(label, settings, classes, None), grid, classes, burnt)
        if drawn.problem:
            raise LabelError(drawn.problem)
        placed, warnings = drawn.label, (*drawn.warnings, *filter(None, [drawn.elsewhere]))
    else:
        raster = given if isinstance(given, MeaningSettings) else LabelSettings(path=label)
        file = allow_vrt(label, Path(label).parent) if "vrt" in experiment.scenes.allow else label
        heights = framing(experiment.scenes.train, experiment.scenes, experiment.root).heights
        placed, odd = place_label(label_file(file, raster, classes), grid, heights=heights)
        warnings = (odd,) if odd else ()
    for warning in warnings:
        logger.warning("%s", warning)
    return Scene(burnt.stem, "val", (), grid, placed)


def _class_maps(folder: Path) -> dict[str, Path]:
    """Return the class maps in a folder by scene: those of `terrablend predict` if there are any, else all."""
    maps = sorted(path for path in folder.glob("*.tif") if not is_hidden(path))
    predicted = {path.stem.removesuffix(CLASSES): path for path in maps if path.stem.endswith(CLASSES)}
    return predicted or {path.stem: path for path in maps}


def _classes(experiment: Experiment) -> Classes:
    classes = experiment.label_classes()
    if classes.task == "multilabel":
        raise ExperimentError("expected maps of classes to score, got tags, which have none. See the run's report.")
    return classes


def _score_lines(scores: pl.DataFrame, classes: Classes) -> Iterator[str]:
    """Yield a table of scores over all classes: pooled, and as the mean over scenes."""
    whole = scores.filter(pl.col("label") == "")
    yield f"{'':<14}{'pooled':>24}{'mean over scenes':>24}"
    for name, metric in suitable_metrics(classes).items():
        row = {row["scope"]: row for row in whole.filter(pl.col("metric") == name).rows(named=True)}
        yield f"{metric.title:<14}{_score(row['pooled'], 4):>24}{_score(row['scene mean'], 4):>24}"


def _class_lines(scores: pl.DataFrame, classes: Classes) -> Iterator[str]:
    """Yield a table of the pooled scores of each class."""
    metrics = label_metrics(classes)
    pooled = scores.filter((pl.col("label") != "") & (pl.col("scope") == "pooled"))
    width = max(14, *(len(label) + 2 for label in classes.label_names))
    yield f"{'class':<{width}}" + "".join(f"{_title(name, metric):>21}" for name, metric in metrics.items())
    for label in classes.label_names:
        row = {row["metric"]: row for row in pooled.filter(pl.col("label") == label).rows(named=True)}
        yield f"{label:<{width}}" + "".join(f"{_score(row[name], 3):>21}" for name in metrics)


def _title(name: str, metric: Metric) -> str:
    return f"{metric.title} ({NAMES[name]})" if name in NAMES else metric.title


def _score(row: Mapping[str, float], digits: int) -> str:
    return Interval(row["value"], row["low"], row["high"]).words(digits)
