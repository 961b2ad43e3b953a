"""Write a submission from the maps of the test scenes, read it back and check it against these scenes."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data.errors import SubmissionError
from data.scenes.classes import Classes, Task
from ensemble.settings import FormatName
from ensemble.submit.polygon_format import check_polygons, write_polygons
from ensemble.submit.predictions import Predictions
from ensemble.submit.raster_formats import (
    check_kelp,
    check_maps,
    check_pngs,
    check_probabilities,
    write_kelp,
    write_nothing,
    write_pngs,
)
from ensemble.submit.text_formats import check_runs, check_tags, write_runs, write_tags

__all__ = ["FORMATS", "Format", "require_task", "write_submission"]

SEGMENTATION: tuple[Task, ...] = ("binary", "multiclass")


@dataclass(frozen=True)
class Format:
    """A format of submissions.

    Parameters
    ----------
    file : str
        Name of the file below the run folder, or of the folder where maps are the submission.
    tasks : tuple of str
        That it suits.
    write : callable
        (path, predictions) → None; raises SubmissionError.
    check : callable
        The same arguments; reads the file and raises SubmissionError unless it is what the format demands.
    """

    file: str
    tasks: tuple[Task, ...]
    write: Callable[[Path, Predictions], None]
    check: Callable[[Path, Predictions], None]


FORMATS: dict[FormatName, Format] = {
    "geotiff": Format("maps", SEGMENTATION, write_nothing, check_maps),
    "kelp": Format("submission.tar", ("binary",), write_kelp, check_kelp),
    "png": Format("submission.zip", SEGMENTATION, write_pngs, check_pngs),
    "rle": Format("submission.csv", SEGMENTATION, write_runs, check_runs),
    "tags": Format("submission.csv", ("multilabel",), write_tags, check_tags),
    "probabilities": Format("proba", SEGMENTATION, write_nothing, check_probabilities),
    "polygons": Format("submission.gpkg", SEGMENTATION, write_polygons, check_polygons),
}


def require_task(name: FormatName, classes: Classes) -> None:
    """Refuse a format that does not suit the task.

    Raises
    ------
    SubmissionError
        Naming those that do.
    """
    if classes.task not in FORMATS[name].tasks:
        suited = [key for key, form in FORMATS.items() if classes.task in form.tasks]
        raise SubmissionError(
            f"submission.format {name}: expected the task {' or '.join(FORMATS[name].tasks)}, got {classes.task}. "
            f"Use one of {', '.join(suited)}."
        )


def write_submission(name: FormatName, folder: Path, predictions: Predictions) -> Path:
    """Write the submission, read it back and check it.

    Parameters
    ----------
    name : str
        Key of `FORMATS`.
    folder : Path
        Gets the file.
    predictions : Predictions

    Returns
    -------
    path : Path
        The file, or the folder of maps.

    Raises
    ------
    SubmissionError
        If the format does not suit the classes or scenes, or what was written is not whole.
    """
    require_task(name, predictions.classes)
    predictions.require_maps()
    chosen = FORMATS[name]
    path = folder / chosen.file
    chosen.write(path, predictions)
    chosen.check(path, predictions)
    return path
