"""Apply the ensemble to the members' maps of scenes."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.files import fingerprint
from data.maps.geotiff import TOP, dequantise, flag_writer, map_writer, write_class_map
from data.maps.qgis_style import write_class_style, write_ramp_style
from data.scenes.scene import Scene
from ensemble.decide.decision.cleaning import Masks, no_masks
from ensemble.ensemble import Ensemble
from ensemble.maps import MemberMaps
from ensemble.uncertainty import UNCERTAINTIES, measure_uncertainty

__all__ = ["model_id", "model_tags", "predict_tags", "write_prediction"]


DOUBT = (204, 121, 167)
"""Colour of the greatest uncertainty, which is none of the classes' by default."""


def model_id(ensemble: Ensemble) -> str:
    """Return a hash of all that the ensemble and its members learned, which identifies it."""
    return fingerprint(asdict(ensemble))[:16]


def model_tags(ensemble: Ensemble) -> dict[str, str]:
    """Return what a map says of the ensemble that made it."""
    classes = ensemble.classes
    return {
        "model": model_id(ensemble),
        "terrablend": version("terrablend"),
        "members": ",".join(ensemble.used),
        "classes": ",".join(f"{key}:{name}" for key, name in zip(classes.label_ids, classes.label_names, strict=True)),
        "thresholds": ",".join(map(str, ensemble.thresholds_)),
        "cleaning": ensemble.decision.cleaning.words,
    }


def write_prediction(
    ensemble: Ensemble,
    maps: MemberMaps,
    scene: Scene,
    class_map: Path,
    proba_map: Path | None = None,
    uncertainty_map: Path | None = None,
    masks: Masks = no_masks,
    sets_map: Path | None = None,
) -> None:
    """Blend and decide, window by window, clean the whole, and write a scene's maps as Cloud Optimized GeoTIFFs.

    Beside each map but that of sets lies a style for QGIS.

    Parameters
    ----------
    ensemble : Ensemble
    maps : MemberMaps
        Those of the members in ``ensemble.used``, in that order.
    scene : Scene
    class_map : Path
        Class ids, with colours and names.
    proba_map : Path, optional
        Gets the blended probabilities, calibrated; thresholds and cleaning have no part in them.
    uncertainty_map : Path, optional
        Gets the measures of `measure_uncertainty`, a band each.
    masks : Masks
        Where the conditions of rules hold.
    sets_map : Path, optional
        Gets a band for each label: 1 where it is in the prediction set, else 0.
    """
    tags = {"scene": scene.id, **model_tags(ensemble)}
    label = np.empty((1, scene.grid.height, scene.grid.width), np.uint8)
    with ExitStack() as opened:
        proba, uncertainty = (
            path and opened.enter_context(map_writer(path, scene.grid, names, tags, cloud_optimized=True))
            for path, names in ((proba_map, ensemble.classes.names), (uncertainty_map, UNCERTAINTIES))
        )
        for window, stored in maps.windows(scene):
            blended = ensemble.proba(stored)
            label[:, *window.slices] = ensemble.decide(blended)
            shown = ensemble.show(blended)
            if proba:
                proba.write(window, dequantise(shown))
            if uncertainty:
                uncertainty.write(window, measure_uncertainty(shown, stored))
    [cleaned] = ensemble.clean(label, masks(scene))
    write_class_map(class_map, cleaned, scene.grid, ensemble.classes, tags)
    write_class_style(class_map, ensemble.classes)
    if proba_map:
        write_ramp_style(proba_map, ensemble.classes.colors[0])
    if uncertainty_map:
        write_ramp_style(uncertainty_map, DOUBT, ("sure", "", "undecided"))
    if sets_map:
        _write_sets(ensemble, maps, scene, cleaned, sets_map, tags)


def _write_sets(
    ensemble: Ensemble, maps: MemberMaps, scene: Scene, cleaned: NDArray[np.uint8], path: Path, tags: Mapping[str, str]
) -> None:
    """Write the prediction sets of a scene, in a pass of their own, since what is mapped after cleaning is in them."""
    sets, names = ensemble.prediction_sets, ensemble.classes.label_names
    facts = {"coverage": f"{sets.coverage:g}", "levels": ",".join(f"{level / TOP:.6g}" for level in sets.levels)}
    with flag_writer(path, scene.grid, names, {**tags, **facts}) as writer:
        for window, stored in maps.windows(scene):
            blended = ensemble.proba(stored)
            [mapped] = ensemble.decide(blended)
            writer.write(window, sets.apply(ensemble.show(blended), mapped, cleaned[window.slices]))


def predict_tags(ensemble: Ensemble, maps: MemberMaps, scenes: Sequence[Scene]) -> dict[str, NDArray[np.bool_]]:
    """Blend and decide which tags scenes have.

    Parameters
    ----------
    ensemble : Ensemble
        Of the task multilabel.
    maps : MemberMaps
        Those of the members in ``ensemble.used``, in that order.
    scenes : sequence of Scene

    Returns
    -------
    tags : dict of str to (K,) bool
        A scene of which nothing is known has no tag.
    """
    return {scene.id: (ensemble.decide(ensemble.proba(maps.read(scene))) == 1).ravel() for scene in scenes}
