"""Label scenes that have no labels by what members say of them, for the models of each fold without that fold.

For the model of fold k the teachers are their models of fold k, blended as is decided on the other folds: no label of
fold k has a part in it. The blend is calibrated, and a pixel's label is drawn by its probabilities, so that labels are
soft in their mean: where the teachers are sure by 0.9 one pixel in ten gets another class.
"""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from data.errors import ExperimentError
from data.files import scene_rng, temporary_prefix
from data.maps.geotiff import dequantise, write_class_map
from data.maps.member import Member, Prediction
from data.maps.store import open_store
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.opinions import pass_label
from data.scenes.scene import LabelFile, Scene
from data.scenes.taught import TAUGHT_FOLD, Taught
from data.survey.inspection import read_label_statistics
from ensemble.ensemble import Ensemble
from ensemble.fit import fit_maps
from ensemble.maps import MemberMaps, open_maps
from features.table import build_table
from terrablend.experiment.self_train import SelfTrainSettings

if TYPE_CHECKING:
    from terrablend.run.scene_run import Run

__all__ = ["draw_labels", "read_taught", "teach_fold", "unlabelled_scenes"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class OneFold:
    """A member that has the model of one fold alone."""

    member: Member
    fold: int

    @property
    def name(self) -> str:
        """That of the member."""
        return self.member.name

    @property
    def folds(self) -> tuple[int, ...]:
        """The fold."""
        return (self.fold,)

    def predict(self, scenes: Sequence[Scene], folds: Sequence[int]) -> Iterator[Prediction]:
        """Yield what the model says, whichever folds are asked for."""
        return self.member.predict(scenes, self.folds)


def unlabelled_scenes(catalogue: Catalogue, fold: int) -> list[Scene]:
    """Return the test scenes, and the training scenes outside a fold that have no labelled pixel."""
    labelled = {scene.id for scene in catalogue.labelled}
    blank = [scene for scene in catalogue.outside_fold(fold) if scene.id not in labelled]
    return [scene for scene in (*blank, *catalogue.split("test")) if scene.block is None]


def draw_labels(
    proba: NDArray[np.float32], classes: Classes, settings: SelfTrainSettings, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return labels (H, W) drawn by calibrated probabilities (n_classes, H, W), `IGNORE` where these are unsure.

    Parameters
    ----------
    proba : (n_classes, H, W) float32
        Of the classes of the maps, NaN where nothing was predicted.
    classes : Classes
        Of a binary or multiclass task.
    settings : SelfTrainSettings
    rng : Generator
    """
    labels = np.concatenate([1 - proba, proba]) if classes.task == "binary" else proba / proba.sum(axis=0)
    known = np.isfinite(labels).all(axis=0)
    labels = np.where(known, labels, 0)
    least = np.array([settings.confidence_of(name) for name in classes.label_names])
    first, second = rng.random((2, *known.shape))
    kept = known & (labels.max(axis=0) >= least[labels.argmax(axis=0)]) & (first < settings.weight)
    return np.where(kept, pass_label(labels, second), IGNORE).astype(np.uint8)


def teach_fold(run: "Run", settings: SelfTrainSettings, fold: int, with_rows: bool) -> None:
    """Write the labels that teachers give to scenes without, for the models of a fold, and the rows of their pixels.

    Parameters
    ----------
    run : Run
        Whose teachers are fitted and mapped.
    settings : SelfTrainSettings
    fold : int
    with_rows : bool
        Whether a pupil learns from the pixel table.

    Raises
    ------
    ExperimentError
        If there is no scene to label, or no pixel of one is sure enough.
    """
    catalogue, experiment = run.load_catalogue(), run.experiment
    folder = taught_folder(run, fold)
    scenes = unlabelled_scenes(catalogue, fold)
    if not scenes:
        raise ExperimentError(
            "self_train: expected scenes without labels, got none. Name them under scenes.test, or leave it out."
        )
    maps = open_maps({name: run.member_path(name) for name in settings.teachers}, catalogue.classes)
    inside = replace(catalogue, scenes=catalogue.outside_fold(fold))
    ensemble, _ = fit_maps(maps, inside, experiment.ensemble, seed=experiment.seed, masks=run.masks, track=run.track)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=temporary_prefix("teachers")) as temporary:
        for name in settings.teachers:
            store, member = open_store(Path(temporary) / name, catalogue.classes), OneFold(run.load_member(name), fold)
            for path, together in run.track(store.files(scenes).items(), f"{name} teaches fold {fold}", len(scenes)):
                store.write(path, member, together)
        taught = open_maps({name: Path(temporary) / name for name in settings.teachers}, catalogue.classes)
        for scene in scenes:
            _write_label(folder, scene, ensemble, taught, settings, experiment.seed)
    labelled = read_taught(run, fold)
    pixels = sum(sum(found.label_counts) for found in labelled.statistics.values())
    if not pixels:
        raise ExperimentError(
            f"self_train: expected pixels that the teachers are sure of, got none in {len(scenes)} scenes. Lower "
            "self_train.confidence, or leave it out."
        )
    logger.info("fold %d: %d pixels of %d scenes labelled by %s", fold, pixels, len(scenes), ", ".join(maps.names))
    if with_rows:
        build_table(
            labelled.alone(catalogue),
            run.pixel_features(catalogue),
            experiment.features.sample,
            labelled.pixels,
            experiment=experiment.name,
            seed=experiment.seed,
            track=run.track,
        )


def read_taught(run: "Run", fold: int) -> Taught:
    """Return what the models of a fold are taught, as `teach_fold` wrote it."""
    catalogue, folder = run.load_catalogue(), taught_folder(run, fold)
    classes = catalogue.classes
    values = (*zip(classes.label_ids, range(classes.n_labels), strict=True), (IGNORE, IGNORE))
    scenes, statistics = [], {}
    for scene in unlabelled_scenes(catalogue, fold):
        label = LabelFile(str(_label_path(folder, scene)), values)
        pupil = replace(
            scene, id=f"{scene.id}@{scene.split}", split="train", label=label, fold=TAUGHT_FOLD, group=f"@{scene.id}"
        )
        scenes.append(pupil)
        statistics[pupil.id] = read_label_statistics(pupil, catalogue.statistics[scene.split, scene.id], classes)
    return Taught(tuple(scenes), statistics, folder / "pixels")


def taught_folder(run: "Run", fold: int) -> Path:
    """Return the folder of what the models of a fold are taught."""
    return run.folder.path / "taught" / f"fold{fold}"


def _label_path(folder: Path, scene: Scene) -> Path:
    return folder / "labels" / f"{scene.id}@{scene.split}.tif"


def _write_label(
    folder: Path, scene: Scene, ensemble: Ensemble, maps: MemberMaps, settings: SelfTrainSettings, seed: int
) -> None:
    label, rng = np.empty((scene.grid.height, scene.grid.width), np.uint8), scene_rng(seed, scene.id)
    for window, stored in maps.windows(scene):
        proba = dequantise(ensemble.show(ensemble.decision.proba(stored)))
        label[window.slices] = draw_labels(proba, ensemble.classes, settings, rng)
    write_class_map(_label_path(folder, scene), label, scene.grid, ensemble.classes, {"scene": scene.id})
