"""Apply a finished ensemble to scenes that it has never seen."""

import logging
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data.addresses import is_elsewhere
from data.cluster import Cluster
from data.errors import ExperimentError
from data.files import clear_leftovers, require_replaceable, temporary_prefix
from data.maps.geotiff import is_prediction
from data.scenes.formats import allow_vrt
from data.scenes.placement import place_images
from data.scenes.scene import Scene
from data.stac.items import Item, read_items
from data.survey.discovery import mask_rules
from data.survey.foreign_values import find_foreign_values
from data.survey.images import framing, image_files, image_patterns, stac_entries
from data.survey.patterns import find_files
from ensemble.predict import predict_tags
from ensemble.submit.predictions import Predictions
from ensemble.submit.text_formats import write_tags
from terrablend.branches import branch_of
from terrablend.deliver.scene_mapper import APPLICABILITY, CLASSES, PROBA, SETS, UNCERTAINTY, SceneMapper
from terrablend.experiment import Experiment
from terrablend.experiment.stacking import learning_order
from terrablend.run.scene_run import Run

__all__ = ["expand_scenes", "from_anywhere", "name_maps", "predict_scenes", "scene_of_files", "take_shard"]

logger = logging.getLogger(__name__)


def predict_scenes(
    run: Run,
    scenes: Sequence[str],
    out: Path,
    uncertainty: bool = False,
    given: Mapping[str, str] | None = None,
    applicability: bool = False,
    sets: bool = False,
) -> None:
    """Write the probability map and the class map of each scene, or the table of their tags.

    Parameters
    ----------
    run : Run
        With a finished ensemble.
    scenes : sequence of str
        Paths; those of a scene of several files joined by commas, in the order of ``scenes.train.image``. In place of
        the assets of a STAC collection stands the file of an item, before all others.
    out : Path
        Gets ``<name>_classes.tif`` and ``<name>_proba.tif``, where name is that of the scene's first file; of the task
        multilabel ``tags.csv``.
    uncertainty : bool
        Whether to write ``<name>_uncertainty.tif`` too.
    given : mapping of str to str, optional
        Pattern with {id} of the maps of these scenes, for each member that computes none.
    applicability : bool
        Whether to write ``<name>_applicability.tif`` too: where the scene is unlike what was learned from.
    sets : bool
        Whether to write ``<name>_sets.tif`` too: all classes that cannot be ruled out.

    Raises
    ------
    SceneError
        If a scene cannot be read or has other bands than the models were trained on.
    EnsembleError
        If there is no ensemble yet, or the members are others than it was fitted to.
    OutputError
        If a file is there that is no earlier prediction.
    """
    ensemble = run.load_ensemble()
    run.require_models(ensemble)
    opened = [scene_of_files(text, run.experiment) for text in scenes]
    _warn_of_values(run, opened)
    names = [scene.id for scene in opened]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExperimentError(f"expected scenes of distinct names, got {', '.join(twice)} twice. Map them one by one.")
    tagged = ensemble.classes.task == "multilabel"
    layers = {UNCERTAINTY: uncertainty, SETS: sets, APPLICABILITY: applicability}
    asked = [kind for kind, wanted in layers.items() if wanted]
    if tagged and asked:
        option = asked[0].replace("_", "--")
        raise ExperimentError(f"{option}: expected scenes to map, got the task multilabel. Leave it out.")
    if sets:
        logger.info("%s", ensemble.prediction_sets.words(ensemble.classes.label_names))
    measured = run.applicable_member(ensemble) if applicability else None
    if applicability and measured is None:
        raise ExperimentError(
            f"--applicability: expected a member that learned from the pixel table, got {', '.join(ensemble.used)}. "
            "Leave it out, or add a member of trees."
        )
    order, given = learning_order(run.experiment.members, ensemble.used), given or {}
    _require_maps(run, order, given)
    kinds = [CLASSES, PROBA, *asked]
    outputs = [out / "tags.csv"] if tagged else [out / f"{name}{kind}.tif" for name in names for kind in kinds]
    sources = {Path(path).resolve() for scene in opened for image in scene.images for path in image.paths}
    for path in outputs:
        require_replaceable(path, lambda path: is_prediction(path) and path.resolve() not in sources)
    out.mkdir(parents=True, exist_ok=True)
    clear_leftovers(out)
    if isinstance(run.executor, Cluster):
        run.executor.require(out, [*sources, run.folder.path / "experiment.yaml"])
    with tempfile.TemporaryDirectory(dir=out, prefix=temporary_prefix("members")) as temporary:
        mapper = SceneMapper(run, out, Path(temporary), order, given, tuple(kinds), measured)
        if tagged:
            opened_by = mapper.open()
            tags = predict_tags(ensemble, opened_by.apply(opened), opened)
            columns = run.experiment.submission.columns
            write_tags(out / "tags.csv", Predictions(tuple(opened), ensemble.classes, out, tags, columns))
            logger.info("tags of %d scenes in %s", len(opened), out / "tags.csv")
            return
        for _ in run.track(mapper.map(opened, run.executor), "scenes", len(opened)):
            pass
    logger.info("%d scenes mapped, in %s", len(opened), out)


def take_shard(scenes: Sequence[str], shard: str | None) -> list[str]:
    """Return the scenes of a part such as ``3/40``, every 40th from the third on; all if there is none.

    Raises
    ------
    ExperimentError
        If it is not of that form.

    Examples
    --------
    >>> take_shard(["a", "b", "c", "d", "e"], "2/3"), take_shard(["a"], None)
    (['b', 'e'], ['a'])
    """
    if shard is None:
        return list(scenes)
    match = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", shard)
    if match is None or int(match[1]) > int(match[2]):
        raise ExperimentError(f"--shard {shard[:40]}: expected K/N with K from 1 to N, such as 3/40.")
    return list(scenes[int(match[1]) - 1 :: int(match[2])])


def from_anywhere(text: str) -> str:
    """Return the names of files joined by commas as they hold in any working directory.

    >>> from_anywhere("/a/b.tif,/a/c.tif")
    '/a/b.tif,/a/c.tif'
    """
    return ",".join(path if is_elsewhere(path) else str(Path(path).absolute()) for path in text.split(","))


def expand_scenes(texts: Sequence[str]) -> list[str]:
    """Return scenes with each pattern with {id} replaced by the scenes that it finds, in order of their ids.

    Raises
    ------
    ExperimentError
        If the files of a scene are not all there.
    CatalogueError
        If a pattern finds none.
    """
    return [scene for text in texts for scene in (_find(text) if "{id}" in text else [text])]


def _find(text: str) -> list[str]:
    files = [find_files(pattern, Path()) for pattern in text.split(",")]
    names = sorted(set().union(*files))
    for name in names:
        if lacking := [pattern for pattern, found in zip(text.split(","), files, strict=True) if name not in found]:
            raise ExperimentError(f"{lacking[0]}: expected a file of scene {name}, got none. Add it, or name scenes.")
    return [",".join(found[name] for found in files) for name in names]


def _warn_of_values(run: Run, scenes: Sequence[Scene]) -> None:
    """Warn of scenes whose values are not those that the models know; a bundle does not know them."""
    if (run.folder.path / "catalogue.parquet").exists():
        catalogue = run.load_catalogue()
        for scene in scenes:
            for line in find_foreign_values(scene, catalogue):
                logger.warning("%s", line)


def name_maps(texts: Sequence[str]) -> dict[str, str]:
    """Return member → pattern of its maps, from texts such as ``foundation=maps/{id}.tif``.

    Raises
    ------
    ExperimentError
        If a text is not of that form.
    """
    given = {}
    for text in texts:
        name, _, pattern = text.partition("=")
        if "{id}" not in pattern:
            raise ExperimentError(f"--maps {text}: expected NAME=PATTERN, with {{id}} where the scene's name stands.")
        given[name] = pattern
    return given


def _require_maps(run: Run, names: Sequence[str], given: Mapping[str, str]) -> None:
    """Refuse to begin where a member computes no maps and none are given, or where they are given for another."""
    wanted = [name for name in names if not branch_of(run.member_settings(name)).computes]
    lacking = [name for name in wanted if name not in given]
    if lacking:
        raise ExperimentError(
            f"expected maps of these scenes for member {lacking[0]}, which another tool made, got none. "
            f"Make them with that tool and name them: --maps '{lacking[0]}=FOLDER/{{id}}.tif'."
        )
    unknown = [name for name in given if name not in wanted]
    if unknown:
        raise ExperimentError(
            f"--maps {unknown[0]}: expected a member whose maps another tool made and the ensemble uses "
            f"({', '.join(wanted) or 'there is none'}), got {unknown[0]}. Leave it out."
        )


def scene_of_files(text: str, experiment: Experiment) -> Scene:
    """Return the scene made of some files, with the bands of the experiment's training scenes."""
    part, settings = experiment.scenes.train, experiment.scenes
    collections, paths = stac_entries(part), text.split(",")
    items = [_item_of(path) for path in paths[: len(collections)]]
    files, patterns = paths[len(collections) :], image_patterns(part, settings)
    if len(paths) != len(collections) + len(patterns):
        wanted = " and ".join([*(f"an item of {entry.stac}" for entry in collections), *patterns])
        raise ExperimentError(
            f"{text}: expected {len(collections) + len(patterns)} files a scene, like {wanted}, got {len(paths)}. Join "
            "the files of a scene by commas."
        )
    images, problems = image_files(part, settings, files, items)
    if problems:
        raise ExperimentError("\n".join(problems))
    if "vrt" in settings.allow:
        # A bundle knows no root: sources lie beside what is named.
        images = tuple(replace(image, path=allow_vrt(image.path, Path(image.path).parent)) for image in images)
    placed, grid, warnings = place_images(images, framing(part, settings, experiment.root))
    for warning in warnings:
        logger.warning("%s", warning)
    name = items[0].scene if items else Path(paths[0]).stem
    return Scene(name, "test", placed, grid, invalid=mask_rules(settings))


def _item_of(path: str) -> Item:
    items, problems = read_items(Path(path))
    if problems or len(items) != 1:
        raise ExperimentError("\n".join(problems) or f"{path}: expected one STAC item, got {len(items)}. Name one.")
    return items[0]
