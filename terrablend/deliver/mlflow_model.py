"""A bundle as a model of MLflow, in the flavour that any of its tools can serve: arrays in, classes out."""

import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from data.errors import BundleError, ExperimentError
from data.scenes.rasters import maybe_ungeoreferenced, open_raster
from terrablend.deliver.bundle import open_model
from terrablend.deliver.predict import predict_scenes
from terrablend.deliver.scene_mapper import CLASSES
from terrablend.run.opening import open_scene_run

__all__ = ["ServedBundle", "write_mlflow_model"]


class ServedBundle:
    """What MLflow makes of a bundle when it loads it.

    Parameters
    ----------
    path : Path
        The bundle's folder or zip, whose files are verified each time.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def predict(self, scenes: NDArray[np.floating[Any]], params: Any = None) -> NDArray[np.uint8]:
        """Map scenes.

        Parameters
        ----------
        scenes : (N, C, H, W) float
            Bands in the order of the experiment's; NaN, or its nodata, where there is none.
        params : None
            MLflow hands them on; there are none.

        Returns
        -------
        classes : (N, H, W) uint8
            Ids of classes, 255 where nothing was predicted.
        """
        scenes = np.asarray(scenes, np.float32)
        if scenes.ndim != 4:
            raise ExperimentError(f"expected scenes (N, C, H, W), got an array of shape {scenes.shape}.")
        with tempfile.TemporaryDirectory() as temporary, open_model(self.path) as model:
            folder = Path(temporary)
            files = [folder / f"{number}.tif" for number in range(len(scenes))]
            for file, values in zip(files, scenes, strict=True):
                _write_scene(file, values)
            predict_scenes(open_scene_run(model, workers=1), list(map(str, files)), folder / "maps")
            return np.stack([_read_map(folder / "maps" / f"{file.stem}{CLASSES}.tif") for file in files])


def write_mlflow_model(bundle: Path, out: Path) -> None:
    """Write a bundle as a model of MLflow, for ``mlflow models serve``, its registry and its evaluation.

    Parameters
    ----------
    bundle : Path
        Folder or zip.
    out : Path
        A new folder.

    Raises
    ------
    BundleError
        If MLflow is not installed, the folder is there already, or the bundle makes no maps from one file a scene.
    """
    try:
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import Schema, TensorSpec
    except ImportError as error:
        raise BundleError(
            "--mlflow: expected MLflow, which is not installed: pip install 'terrablend[mlflow]'."
        ) from error
    if out.exists():
        raise BundleError(f"{out}: expected a new folder for --mlflow, got one that is there. Choose another.")
    with open_model(bundle) as model:
        experiment = open_scene_run(model).experiment
    files, classes = experiment.scenes.train.rasters, experiment.label_classes()
    if len(files) > 1 or experiment.task == "multilabel":
        raise BundleError(
            f"{bundle}: expected a model that maps scenes of one file each, since an array stands for a file, got one "
            f"of {'tags' if len(files) == 1 else f'{len(files)} files'}. Leave --mlflow out."
        )
    bands = [*(files[0].bands or experiment.scenes.bands or ())]
    taken = TensorSpec(np.dtype("float32"), (-1, len(bands) or -1, -1, -1))
    given = TensorSpec(np.dtype("uint8"), (-1, -1, -1))
    pyfunc.save_model(
        path=str(out),
        loader_module=__name__,
        data_path=str(bundle),
        pip_requirements=[f"terrablend=={version('terrablend')}"],
        signature=ModelSignature(inputs=Schema([taken]), outputs=Schema([given])),
        metadata={"bands": bands, "classes": dict(zip(classes.label_names, classes.label_ids, strict=True))},
    )


def _load_pyfunc(path: str) -> ServedBundle:
    """Return a saved bundle; MLflow calls this by its name."""
    return ServedBundle(Path(path))


def _write_scene(path: Path, values: NDArray[np.float32]) -> None:
    count, height, width = values.shape
    facts = {"driver": "GTiff", "count": count, "height": height, "width": width, "dtype": "float32"}
    with maybe_ungeoreferenced(), rasterio.open(path, "w", **facts) as raster:
        raster.write(values)


def _read_map(path: Path) -> NDArray[np.uint8]:
    with open_raster(str(path)) as raster:
        classes: NDArray[np.uint8] = raster.read(1)
    return classes
