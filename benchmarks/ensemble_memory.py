"""A whole ensemble fitted to the maps of many members and applied: how long it takes, and the memory that it needs.

``python benchmarks/ensemble_memory.py [--members 20] [--megapixels 200] [--classes 4]``

Scenes of 2048 × 2048 pixels in five folds. A binary label is one that 0.7 % of the pixels have, of several classes each
has its share. Four maps of each scene are made up; further members share their files, since what is measured does not
depend on it. Memory is the peak of the process above what it has once all is imported, as Linux tells it.
"""

import argparse
import os
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter

from data.maps.geotiff import map_writer
from data.maps.store import map_path
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import LabelFile, Scene, Split
from data.scenes.windows import Grid
from ensemble import Ensemble, EnsembleSettings, fit_ensemble
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.maps import open_maps
from ensemble.predict import write_prediction

SIDE, FOLDS, DISTINCT = 2048, 5, 4


def make_classes(count: int) -> Classes:
    """Return one class with a background, or several."""
    if count == 1:
        return Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
    return Classes("multiclass", tuple(range(count)), tuple(f"c{k}" for k in range(count)), ((0, 0, 0),) * count)


def make_scene(folder: Path, number: int, members: int, classes: Classes) -> tuple[Scene, SceneStatistics]:
    """Write the label of a scene and a map of each member."""
    rng, grid, n_labels = np.random.default_rng(number), Grid(SIDE, SIDE), classes.n_labels
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)).astype(np.float32), 12)
    field /= field.std()
    edges = np.array([2.457]) if n_labels == 2 else np.linspace(-1, 1, n_labels - 1)
    label = np.digitize(field, edges).astype(np.uint8)
    path = folder / "labels" / f"s{number}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        maybe_ungeoreferenced(),
        rasterio.open(
            path, "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint8", compress="zstd", tiled=True
        ) as raster,
    ):
        raster.write(label, 1)
    values = tuple((value, value) for value in range(n_labels))
    scene = Scene(
        f"s{number}", "train", (), grid, LabelFile(str(path), values), group=f"g{number}", fold=number % FOLDS
    )
    for member in range(members):
        target = map_path(folder / f"m{member}", scene)
        target.parent.mkdir(parents=True, exist_ok=True)
        if member < DISTINCT:
            error = gaussian_filter(rng.normal(size=(SIDE, SIDE)).astype(np.float32), 3)
            seen = field + (1 + member / 4) / 3 * error / error.std()
            # Each label's chance falls with the distance from the middle of its range.
            middles = np.concatenate([edges[:1] - 0.15, (edges[:-1] + edges[1:]) / 2, edges[-1:] + 0.15])
            shares = np.exp(-3 * np.abs(seen - middles[:, None, None]))
            shares /= shares.sum(axis=0)
            with map_writer(target, grid, classes.names, {}) as writer:
                writer.write(grid.window, shares[n_labels - len(classes.names) :].astype(np.float32))
        else:
            os.link(map_path(folder / f"m{member % DISTINCT}", scene), target)
    counts = np.bincount(label.ravel(), minlength=n_labels)
    return scene, SceneStatistics(label.size, tuple(counts.tolist()))


def begin_peak() -> float:
    """Forget the peak of this process, which begins with that of the process that started it; return its MiB now."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> float:
    """Return the peak memory of this process since `begin_peak`, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10  # type: ignore[index]


def fit(folder: Path, catalogue: Catalogue, members: int) -> tuple[float, float, str]:
    """Fit, and return the seconds and the MiB that it took, and the verdict."""
    before, start = begin_peak(), time.perf_counter()
    paths = {f"m{member}": folder / f"m{member}" for member in range(members)}
    ensemble, _ = fit_ensemble(paths, catalogue, EnsembleSettings(), seed=0)
    return time.perf_counter() - start, peak_memory() - before, ensemble.verdict_


def predict(folder: Path, catalogue: Catalogue, members: int) -> tuple[float, float]:
    """Map a scene with the mean of all members, and its uncertainty; return the seconds and the MiB that it took."""
    before, start = begin_peak(), time.perf_counter()
    classes = catalogue.classes
    names = tuple(f"m{member}" for member in range(members))
    blend = Blend(((1 / members,) * members,), exclusive=classes.task == "multiclass")
    decision = Decision((Calibration(),) * members, blend, plain_thresholds(classes))
    maps = open_maps({name: folder / name for name in names}, classes)
    out = [folder / "out" / f"{name}.tif" for name in ("label", "proba", "uncertainty")]
    write_prediction(Ensemble(classes, names, "", decision, 0.0, ""), maps, catalogue.scenes[0], *out)
    return time.perf_counter() - start, peak_memory() - before


def main() -> None:
    """Make the maps, fit, predict, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--megapixels", type=int, default=200)
    parser.add_argument("--classes", type=int, default=1)
    arguments = parser.parse_args()
    n_scenes = max(2 * FOLDS, arguments.megapixels * 1_000_000 // SIDE**2)
    classes, members = make_classes(arguments.classes), arguments.members
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [make_scene(folder, number, members, classes) for number in range(n_scenes)]
        scenes = tuple(scene for scene, _ in made)
        statistics: dict[tuple[Split, str], SceneStatistics] = {("train", scene.id): found for scene, found in made}
        catalogue = Catalogue(classes, ("red",), scenes, statistics)
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as process:
            predicted = process.submit(predict, folder, catalogue, members).result()
            fitted = process.submit(fit, folder, catalogue, members).result()
    print(
        f"{members} members × {len(classes.names)} classes, scenes of {SIDE} × {SIDE} pixels; memory above the imports:"
    )
    print(f"a scene predicted: {predicted[0]:.0f} s, {predicted[1]:.0f} MiB")
    print(f"fitted to {n_scenes * SIDE**2 / 1e6:.0f} Mpx in {FOLDS} folds: {fitted[0]:.0f} s, {fitted[1]:.0f} MiB")
    print(fitted[2])


if __name__ == "__main__":
    main()
