"""A whole ensemble fitted to the maps of many members: how long it takes, and the peak memory of its process.

``python benchmarks/ensemble_memory.py [--members 20] [--megapixels 200]``

Scenes of 2000 × 2000 pixels in five folds, a binary label that 0.7 % of the pixels have. Four maps of each are made up;
further members share their files, since what is measured does not depend on it.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
from scipy.ndimage import gaussian_filter

from data.maps.geotiff import map_writer
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.scene import LabelFile, Scene, Split, maybe_ungeoreferenced
from data.scenes.windows import Grid
from ensemble import EnsembleSettings, fit_ensemble

SIDE, FOLDS, DISTINCT = 2000, 5, 4
CLASSES = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))


def make_scene(folder: Path, number: int, members: int) -> tuple[Scene, SceneStatistics]:
    """Write the label of a scene and a map of each member."""
    rng, grid = np.random.default_rng(number), Grid(SIDE, SIDE)
    field = gaussian_filter(rng.normal(size=(SIDE, SIDE)).astype(np.float32), 12)
    field /= field.std()
    label = (field > 2.457).astype(np.uint8)
    path = folder / "labels" / f"s{number}.tif"
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        maybe_ungeoreferenced(),
        rasterio.open(
            path, "w", driver="GTiff", height=SIDE, width=SIDE, count=1, dtype="uint8", compress="zstd", tiled=True
        ) as raster,
    ):
        raster.write(label, 1)
    scene = Scene(
        f"s{number}", "train", (), grid, LabelFile(str(path), ((0, 0), (1, 1))), group=f"g{number}", fold=number % FOLDS
    )
    for member in range(members):
        target = folder / f"m{member}" / "oof" / f"{scene.id}.tif"
        target.parent.mkdir(parents=True, exist_ok=True)
        if member < DISTINCT:
            error = gaussian_filter(rng.normal(size=(SIDE, SIDE)).astype(np.float32), 3)
            logits = 3 * (field - 2.3) + (1 + member / 4) * error / error.std()
            with map_writer(target, grid, CLASSES.names, {}) as writer:
                writer.write(grid.window, (1 / (1 + np.exp(-logits)))[None].astype(np.float32))
        else:
            os.link(folder / f"m{member % DISTINCT}" / "oof" / target.name, target)
    counts = np.bincount(label.ravel(), minlength=2)
    return scene, SceneStatistics(label.size, tuple(counts.tolist()))


def fit(folder: Path, catalogue: Catalogue, members: int) -> tuple[float, float, str]:
    """Fit, and return the seconds it took, the peak memory of this process in GB, and the verdict."""
    start = time.perf_counter()
    paths = {f"m{member}": folder / f"m{member}" for member in range(members)}
    ensemble, _ = fit_ensemble(paths, catalogue, EnsembleSettings(metric="dice"), seed=0)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return time.perf_counter() - start, peak, ensemble.verdict_


def main() -> None:
    """Make the maps, fit, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--megapixels", type=int, default=200)
    arguments = parser.parse_args()
    n_scenes = max(2 * FOLDS, arguments.megapixels * 1_000_000 // SIDE**2)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        made = [make_scene(folder, number, arguments.members) for number in range(n_scenes)]
        scenes = tuple(scene for scene, _ in made)
        statistics: dict[tuple[Split, str], SceneStatistics] = {("train", scene.id): found for scene, found in made}
        catalogue = Catalogue(CLASSES, ("red",), scenes, statistics)
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds, peak, verdict = process.submit(fit, folder, catalogue, arguments.members).result()
    print(
        f"{arguments.members} members × {n_scenes * SIDE**2 / 1e6:.0f} Mpx in {FOLDS} folds: {seconds:.0f} s, "
        f"peak memory {peak:.2f} GB\n{verdict}"
    )


if __name__ == "__main__":
    main()
