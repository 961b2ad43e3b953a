"""Runs from Python: train, look at what was found, predict."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import rasterio
from affine import Affine

from data.errors import ExperimentError
from data.maps.geotiff import dequantise
from data.maps.store import open_store
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.workers import cores, open_executor
from ensemble.ensemble import Ensemble
from terrablend.deliver.predict import predict_scenes
from terrablend.deliver.scene_mapper import CLASSES
from terrablend.experiment import load_experiment, read_experiment
from terrablend.progress import bars, show_log
from terrablend.run.opening import run_of
from terrablend.run.scene_run import Run
from terrablend.run.table_run import TableRun

__all__ = ["FinishedRun", "OofMaps", "Report", "open_run", "train"]


@dataclass(frozen=True)
class Report:
    """The report of a run: a notebook shows it, and ``path`` is its file."""

    path: Path

    def _repr_html_(self) -> str:
        from html import escape

        page = escape(self.path.read_text("utf-8"), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 1px solid #8884"></iframe>'


@dataclass(frozen=True)
class OofMaps(Mapping[str, Any]):
    """A member's out-of-fold maps: scene id → DataArray (class, y, x) float32, NaN where nothing was predicted."""

    run: Run
    member: str

    def __getitem__(self, scene_id: str) -> Any:
        scene = self._scenes[scene_id]
        store = open_store(self.run.member_path(self.member), self._catalogue.classes)
        return as_data_array(dequantise(store.read(scene)), list(store.names_of(scene)), scene.grid, self.member)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scenes)

    def __len__(self) -> int:
        return len(self._scenes)

    @property
    def _catalogue(self) -> Catalogue:
        return self.run.load_catalogue()

    @property
    def _scenes(self) -> dict[str, Scene]:
        return {scene.id: scene for scene in self._catalogue.split("train")}


@dataclass(frozen=True)
class FinishedRun:
    """A run folder: what was trained, decided and scored in it.

    Parameters
    ----------
    run : Run or TableRun
    """

    run: Run | TableRun

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.run.folder.path

    @property
    def ensemble(self) -> Ensemble:
        """The fitted ensemble: ``weights_``, ``thresholds_``, ``score_``, ``verdict_``, ``worths_``."""
        return self.run.load_ensemble()

    @property
    def scores(self) -> pl.DataFrame:
        """Every candidate by split, scope, class and metric, with intervals over groups."""
        return pl.read_parquet(self.path / "ensemble" / "scores.parquet")

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the members, in the order of the experiment file."""
        return tuple(self.run.experiment.members)

    def oof(self, member: str) -> Any:
        """Return a member's out-of-fold probabilities.

        Parameters
        ----------
        member : str

        Returns
        -------
        oof : OofMaps, or DataFrame of a run on a table
            ``run.oof("unet")["scene 7"]`` is a DataArray (class, y, x).
        """
        self.run.member_settings(member)
        if isinstance(self.run, TableRun):
            return pl.read_parquet(self.run.member_path(member) / "oof.parquet")
        return OofMaps(self.run, member)

    def table(self) -> pl.LazyFrame:
        """Return the pixel table, read as it is asked for: a row a sampled pixel, its weight, its features."""
        return pl.scan_parquet(self.run.pixels / "**" / "*.parquet", hive_partitioning=True)

    def predict(self, image: Any) -> Any:
        """Map a scene that was never seen.

        Parameters
        ----------
        image : path or DataArray (band, y, x)
            A file, files joined by commas, or an array whose planes are the experiment's bands in order.

        Returns
        -------
        classes : DataArray (y, x) uint8
            The id of each pixel's class, 255 where nothing was predicted.

        Raises
        ------
        SceneError
            If the scene has other bands than the models were trained on.
        """
        run = self.run
        if isinstance(run, TableRun):
            raise ExperimentError(f"{self.path}: expected a run on scenes to map one, got one on a table.")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            source = str(image)
            if hasattr(image, "dims"):
                source = str(folder / "scene.tif")
                _write_array(image, Path(source))
            predict_scenes(run, [source], folder / "out")
            [path] = (folder / "out").glob(f"*{CLASSES}.tif")
            with maybe_ungeoreferenced(), rasterio.open(path) as raster:
                grid = Grid(
                    raster.height, raster.width, raster.crs and raster.crs.to_wkt(), tuple(raster.transform)[:6]
                )
                return as_data_array(raster.read(1), None, grid, "class")

    def explore(self, scene_id: str, side: int = 1024) -> Any:
        """Return a map of a scene that a notebook shows; `.save("scene.html")` writes it as a page.

        Its layers are the picture, the members' out-of-fold probabilities, what the ensemble makes of them, the label
        and the errors. Where the scene is georeferenced they lie on OpenStreetMap.

        Parameters
        ----------
        scene_id : str
        side : int
            Most pixels on a side that are drawn; of a larger scene every second, third, … one is.

        Returns
        -------
        widget : folium.Map

        Raises
        ------
        ExperimentError
            If folium is not installed, or the run is on a table.
        SceneError
            If there is no such scene, or it has tags.
        """
        from terrablend.api.explore import explore_scene

        if isinstance(self.run, TableRun):
            raise ExperimentError(f"{self.path}: expected a run on scenes to show one, got one on a table.")
        return explore_scene(self.run, scene_id, side)

    def report(self) -> Report:
        """Return the report, which a notebook shows."""
        return Report(self.path / "ensemble" / "report.html")


def open_run(path: str | Path) -> FinishedRun:
    """Open a run folder.

    Raises
    ------
    ExperimentError
        If it is none.
    """
    folder = Path(path)
    return FinishedRun(run_of(load_experiment(folder / "experiment.yaml"), folder, folder))


def train(
    experiment: str | Path | Mapping[str, Any],
    run: str | Path | None = None,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: bool = True,
) -> FinishedRun:
    """Carry out every stage of an experiment, and go on where an earlier try stopped: `terrablend run`.

    Parameters
    ----------
    experiment : path or mapping
        An experiment file, or what stands in one; a relative ``root`` then starts from the working directory.
    run : path, optional
        The run folder; ``runs/<name>`` by default.
    overwrite : bool
        Whether results that were made with other settings are made again; else they are named and refused.
    workers : int, optional
        Cores to use; all by default.
    progress : bool
        Whether to say what is done.

    Raises
    ------
    ExperimentError
        If a value is missing, unknown or of the wrong kind; other errors as those of the stages.
    """
    if isinstance(experiment, Mapping):
        loaded = read_experiment(dict(experiment), Path.cwd() / "experiment.yaml")
        source = Path(run) if run is not None else Path("runs") / loaded.name
    else:
        source = Path(experiment)
        loaded = load_experiment(source)
    folder = Path(run) if run is not None else Path("runs") / loaded.name
    if progress:
        show_log(verbose=False)
    count = workers or cores()
    with open_executor(count, None) as executor:
        machine: dict[str, Any] = {"workers": count, "executor": executor}
        opened = run_of(loaded, source, folder, **machine, **({"track": bars} if progress else {}))
        opened.carry_out(opened.stages, overwrite)
    return open_run(folder)


def _write_array(image: Any, path: Path) -> None:
    """Write a labelled array (band, y, x) as a GeoTIFF, where its coordinates say that it lies."""
    values = np.asarray(image.values)
    if values.ndim != 3:
        raise ExperimentError(f"expected an array (band, y, x), got dimensions {', '.join(map(str, image.dims))}.")
    facts: dict[str, Any] = {}
    rows, cols = (image.coords.get(dim) for dim in image.dims[1:])
    if rows is not None and cols is not None and min(values.shape[1:]) > 1:
        down, across = (float(axis[-1] - axis[0]) / (len(axis) - 1) for axis in (rows.values, cols.values))
        left, top = float(cols.values[0]) - across / 2, float(rows.values[0]) - down / 2
        facts["transform"] = Affine(across, 0, left, 0, down, top)
    accessor = getattr(image, "rio", None)
    if crs := (image.attrs.get("crs") or (accessor and accessor.crs)):
        facts["crs"] = crs
    with (
        maybe_ungeoreferenced(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(values),
            height=values.shape[1],
            width=values.shape[2],
            dtype=values.dtype,
            **facts,
        ) as raster,
    ):
        raster.write(values)


def as_data_array(values: Any, names: list[str] | None, grid: Grid, title: str) -> Any:
    """Return planes (class, y, x), or one plane (y, x), as a labelled array with the coordinates of pixels' centres."""
    try:
        import xarray
    except ImportError as error:
        raise ExperimentError(
            "expected xarray for labelled arrays, which is not installed: pip install xarray."
        ) from error
    coords: dict[str, Any] = {} if names is None else {"class": names}
    dims = (*coords, "y", "x")
    a, _, c, _, e, f = grid.transform or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    height, width = values.shape[-2:]
    coords |= {"y": f + e * (np.arange(height) + 0.5), "x": c + a * (np.arange(width) + 0.5)}
    return xarray.DataArray(values, dims=dims, coords=coords, name=title, attrs={"crs": grid.crs} if grid.crs else {})
