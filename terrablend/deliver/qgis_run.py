"""Export the ensemble of a run for QGIS: which members, and for layers of which bands."""

import logging
import math
from pathlib import Path

from data.errors import MemberError
from data.scenes.ground import pixel_metres
from data.scenes.rasters import open_raster
from terrablend.branches import branch_of
from terrablend.run.scene_run import Run

__all__ = ["export_run"]

logger = logging.getLogger(__name__)


def export_run(run: Run, path: Path) -> float:
    """Write the networks of a finished run and its decision as one ONNX file; see `export_for_qgis`.

    Raises
    ------
    MemberError
        If the ensemble uses what ONNX cannot hold.
    """
    ensemble = run.load_ensemble()
    run.require_models(ensemble)
    makers = {name: branch_of(run.experiment.members[name]).tiles for name in ensemble.used}
    others = [name for name, maker in makers.items() if maker is None]
    if others:
        raise MemberError(
            f"export --qgis: expected an ensemble of networks, got {', '.join(others)}, too, whose columns are "
            "computed around each pixel, which one input of bands cannot hold. Use the Terrablend provider of the "
            "folder qgis/, or fit an ensemble of networks alone."
        )
    from terrablend.deliver.qgis_model import Layer, export_for_qgis

    scene = run.load_catalogue().split("train")[0]
    if scene.invalid:
        names = ", ".join(band for band, _ in scene.invalid)
        logger.warning("%s: tiles in QGIS are mapped too where %s condemns pixels", path, names)
    nodata = {float(value) for image in scene.images for value in (*image.nodata, *_declared(image.path))}
    known = tuple(sorted(value for value in nodata if math.isfinite(value)))
    layer = Layer(scene.bands, known, pixel_metres(scene.grid) if scene.grid.crs else None)
    models = [maker(run.load_member(name)) for name, maker in makers.items() if maker is not None]
    return export_for_qgis(ensemble, models, layer, path)


def _declared(path: str) -> set[float]:
    with open_raster(path) as raster:
        return {value for value in raster.nodatavals if value is not None}
