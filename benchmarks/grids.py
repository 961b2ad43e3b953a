"""Scenes of files on grids of their own: time against warping whole files, cost where grids agree, memory of a map.

``python benchmarks/grids.py [stack agree map] [--side 2048] [--repeats 5]``

A made-up scene of six files on four grids lies in a temporary folder: four bands of 10 m in two files, one of 20 m on
the same corner, one of 60 m, elevation of 30 m in degrees, and a radar image of 10 m that is shifted by parts of a
pixel. Times are seconds of processor time, since other programs may run beside, and medians of alternating repeats.

- ``stack``: all bands by `read_scene`, window by window, against `rasterio.warp.reproject` of each whole file.
- ``agree``: the files of 10 m alone, which need no warping, against rasterio's reading of the same windows.
- ``map``: peak memory of a process that maps the scene by boosted trees on all bands and the means around them.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import lightgbm
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.warp import reproject, transform_bounds

from data.maps.store import open_store
from data.scenes.classes import Classes
from data.scenes.image import ImageFile, raster_window
from data.scenes.placement import place_images
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Window, tile_windows
from features.feature_set import FeatureSet
from trees.boosters.lightgbm_booster import LightGBMBooster
from trees.member import TreeMember

UTM, LEFT, TOP = "EPSG:32632", 500_000.0, 5_200_000.0
KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
WINDOW = 1024

Pixels = NDArray[np.float32]


def write_files(folder: Path, side: int) -> list[ImageFile]:
    """Write the files of the scene, ``side`` pixels of 10 m wide."""
    west, south, east, north = transform_bounds(UTM, "EPSG:4326", LEFT, TOP - 10 * side, LEFT + 10 * side, TOP)
    degrees = 30 / 111_320
    files = [
        ("visible", ("blue", "green"), 10.0, side, UTM, (LEFT, TOP)),
        ("red_nir", ("red", "nir"), 10.0, side, UTM, (LEFT, TOP)),
        ("swir", ("swir16",), 20.0, -(-side // 2), UTM, (LEFT, TOP)),
        ("aerosol", ("coastal",), 60.0, -(-side // 6), UTM, (LEFT, TOP)),
        (
            "dem",
            ("dem",),
            degrees,
            round((max(east - west, north - south) + 0.02) / degrees),
            "EPSG:4326",
            (west - 0.01, north + 0.01),
        ),
        ("radar", ("vv",), 10.0, side + 20, UTM, (LEFT - 63.3, TOP + 71.7)),
    ]
    images = []
    for number, (name, bands, step, pixels, crs, (x, y)) in enumerate(files):
        path, rng = folder / f"{name}.tif", np.random.default_rng(number)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=pixels,
            width=pixels,
            count=len(bands),
            dtype="uint16",
            crs=crs,
            transform=Affine(step, 0, x, 0, -step, y),
            nodata=0,
            tiled=True,
            blockxsize=512,
            blockysize=512,
        ) as raster:
            for window in tile_windows(pixels, pixels, 512):
                rows, cols = np.indices((window.height, window.width))
                surface = 5000 + 2000 * np.sin((rows + window.row) / 90) * np.cos((cols + window.col) / 70)
                noise = rng.normal(0, 0 if name == "dem" else 300, (len(bands), window.height, window.width))
                raster.write((surface + noise).astype(np.uint16), window=raster_window(window))
        images.append(ImageFile(str(path), bands))
    return images


def open_scene(images: Sequence[ImageFile]) -> Scene:
    """Return the scene of some files."""
    placed, grid, _ = place_images(images)
    return Scene("a", "test", placed, grid)


def read_windows(scene: Scene) -> Iterator[Pixels]:
    """Yield a scene window by window."""
    with keep_open():
        for window in tile_windows(scene.grid.height, scene.grid.width, WINDOW):
            yield read_scene(scene, window)


def put_together(windows: Iterable[Pixels], scene: Scene) -> Pixels:
    """Return the pixels of a scene that is read window by window."""
    pixels = np.empty((len(scene.bands), scene.grid.height, scene.grid.width), np.float32)
    for window, part in zip(tile_windows(scene.grid.height, scene.grid.width, WINDOW), windows, strict=True):
        pixels[:, *window.slices] = part
    return pixels


def warp_whole(scene: Scene) -> Pixels:
    """Warp each whole file onto the scene's grid, and stack them."""
    grid, planes = scene.grid, []
    for image in scene.images:
        with rasterio.open(image.path) as raster:
            stored = raster.read().astype(np.float32)
            stored[stored == raster.nodata] = np.nan
            if image.grid is None:
                planes.append(stored)
                continue
            warped = np.empty((raster.count, grid.height, grid.width), np.float32)
            reproject(
                stored,
                warped,
                src_transform=raster.transform,
                src_crs=raster.crs,
                src_nodata=np.nan,
                dst_transform=Affine(*grid.transform or ()),
                dst_crs=grid.crs,
                dst_nodata=np.nan,
                resampling=Resampling[image.resampling],
                UNIFIED_SRC_NODATA="NO",
            )
            planes.append(warped)
    return np.concatenate(planes)


def read_plainly(scene: Scene) -> Iterator[Pixels]:
    """Yield files that share a grid window by window, by rasterio alone, no data as NaN."""
    rasters = [rasterio.open(image.path) for image in scene.images]
    for window in tile_windows(scene.grid.height, scene.grid.width, WINDOW):
        first, pixels = 0, np.empty((len(scene.bands), window.height, window.width), np.float32)
        for raster in rasters:
            stored = raster.read(window=raster_window(window))
            part = pixels[first : first + raster.count]
            part[...] = stored
            part[stored == raster.nodata] = np.nan
            first += raster.count
        yield pixels
    for raster in rasters:
        raster.close()


def drop(windows: Iterable[Pixels]) -> None:
    """Read window by window, and keep none."""
    for _ in windows:
        pass


def compare(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median processor time of two ways, which take turns; the first of each is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats + 1):
        for way, taken in zip((ours, theirs), times, strict=True):
            begin = time.process_time()
            way()
            taken.append(time.process_time() - begin)
    first, second = (float(np.median(taken[1:])) for taken in times)
    return first, second


def map_scene(images: Sequence[ImageFile], folder: Path) -> float:
    """Map the scene and return the peak memory of this process in GB."""
    scene = open_scene(images)
    feature_set = FeatureSet(scene.bands, (*scene.bands, *(f"{band}_mean_r3" for band in scene.bands)))
    rng = np.random.default_rng(0)
    rows = rng.uniform(1, 10_000, (5000, len(feature_set))).astype(np.float32)
    data = lightgbm.Dataset(rows, rows[:, 0] > rows[:, 1], feature_name=list(feature_set.names))
    model = lightgbm.train({"objective": "binary", "verbose": -1, "num_threads": 1}, data, 10)
    member = TreeMember("lightgbm", {0: LightGBMBooster(model)}, feature_set, 1)
    store = open_store(folder / "member", KELP)
    for path, held in store.files([scene]).items():
        store.write(path, member, held)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["stack", "agree", "map"])
    parser.add_argument("--side", type=int, default=2048, help="pixels of 10 m on a side")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_files(folder, options.side)
        if "stack" in options.parts:
            scene = open_scene(images)
            ours, theirs = put_together(read_windows(scene), scene), warp_whole(scene)
            inner = Window(0, 0, options.side, options.side).grow(-8).slices
            same = np.isclose(ours, theirs, rtol=0, atol=1, equal_nan=True)[:, *inner]
            shares = ", ".join(f"{band} {part.mean():.2%}" for band, part in zip(scene.bands, same, strict=True))
            first, second = compare(
                lambda: put_together(read_windows(scene), scene), lambda: warp_whole(scene), options.repeats
            )
            print(f"stack: windows {first:.2f} s, whole files {second:.2f} s, ratio {first / second:.2f}")
            print(f"       values that differ by less than 1: {shares}")
        if "agree" in options.parts:
            scene = open_scene(images[:2])
            for ours, theirs in zip(read_windows(scene), read_plainly(scene), strict=True):
                np.testing.assert_array_equal(ours, theirs)
            first, second = compare(
                lambda: drop(read_windows(scene)), lambda: drop(read_plainly(scene)), options.repeats
            )
            print(f"agree: read_scene {first:.3f} s, rasterio {second:.3f} s, ratio {first / second:.3f}")
        if "map" in options.parts:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                begin = time.perf_counter()
                peak = pool.submit(map_scene, images, folder).result()
            print(f"map: {options.side}², {peak:.2f} GB at most, {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
