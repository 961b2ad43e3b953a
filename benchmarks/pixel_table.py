"""The pixel table, measured: against a table built tile by tile in pandas, by tiles and workers, and on a big scene.

``python benchmarks/pixel_table.py [builder] [context] [scaling] [big] [--turns 3]``; all parts by default.

Everything is made up here, with one seed, in a temporary folder (some 5 GB at a time; ``TMPDIR`` says where). What is
timed runs in a process of its own, so that its memory is its own; sides take turns and medians are compared.
Neither imports nor the start of workers are counted. Files are read warm, from the system's cache.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as RasterWindow

from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import LabelFile, Scene
from data.scenes.windows import Grid
from data.workers import open_executor
from features.feature_set import FeatureSet
from features.indices import INDICES, indices_of, letter_bands
from features.settings import ContextSettings, FeatureSettings, SampleSettings, feature_names
from features.table import build_table

NODATA = -32768
KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
KELP_BANDS = ("swir16", "nir", "red", "green", "blue", "qa", "dem")
TILE = 350
POSITIVES = 0.0055
INDEX_NAMES = indices_of(KELP_BANDS)[:59]

LAND = Classes("multiclass", (0, 1, 2), ("water", "rock", "kelp"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
BIG_BANDS = ("blue", "green", "red", "rededge071", "rededge075", "rededge078", "nir", "nir08", "swir16", "swir22")
BIG = 10_980
TEXTURE = 1098

CONTEXT_BANDS = ("blue", "green", "red", "nir", "swir16")
CONTEXT_STATISTICS = ("mean", "std", "min", "max", "gradient")
CONTEXT_RADII = (1, 7)
CONTEXT_SIDE = 1024


# What is measured on


def write_raster(path: Path, planes: NDArray[Any], nodata: float | None = None) -> None:
    """Write planes (C, H, W) as the competition's files are: deflate, in strips."""
    with (
        maybe_ungeoreferenced(),
        rasterio.open(
            path,
            "w",
            driver="GTiff",
            count=len(planes),
            height=planes.shape[1],
            width=planes.shape[2],
            dtype=planes.dtype.name,
            nodata=nodata,
            compress="deflate",
        ) as raster,
    ):
        raster.write(planes)


def smooth_noise(rng: np.random.Generator, side: int, cell: int) -> NDArray[np.float32]:
    """Return (side, side) noise whose hills are ``cell`` pixels wide."""
    coarse = rng.normal(0, 1, (side // cell + 3,) * 2).astype(np.float32)
    return cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)


def kelp_tile(number: int, side: int) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    """Make up a tile (7, side, side) and its label (side, side): small blobs, nodata in a corner of every fifth."""
    rng = np.random.default_rng(number)
    label = np.zeros((side, side), np.uint8)
    # Discs of radius 4 have 49 pixels.
    for _ in range(max(round(POSITIVES * side**2 / 49), 1)):
        row, col = rng.integers(side, size=2)
        cv2.circle(label, (int(col), int(row)), 4, 1, thickness=-1)
    relief = smooth_noise(rng, side, 32)
    kelp = label.astype(np.float32)
    planes = [
        level + 600 * relief + 400 * smooth_noise(rng, side, 12) + gain * kelp + rng.normal(0, 60, (side, side))
        for level, gain in ((8000, 100), (9000, 2500), (8500, 150), (8800, 400), (8600, 80))
    ]
    planes += [rng.random((side, side)) < 0.02, np.maximum(300 * relief, 0)]
    image = np.stack(planes).astype(np.int16)
    if number % 5 == 0:
        corner = (slice(0, side // 5), slice(side - side // 4, side))
        image[:, *corner] = NODATA
        label[corner] = 0
    return image, label


def make_tiles(folder: Path, count: int, unique: int, side: int = TILE) -> None:
    """Write ``unique`` tiles below a folder, then give them new names until there are ``count``."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for number in range(count):
        image, label = (folder / kind / f"t{number:05d}.tif" for kind in ("images", "labels"))
        if number < unique:
            pixels, classes = kelp_tile(number, side)
            write_raster(image, pixels, NODATA)
            write_raster(label, classes[None])
        else:
            for path in (image, label):
                os.link(path.with_name(f"t{number % unique:05d}.tif"), path)


def kelp_catalogue(folder: Path, count: int, side: int = TILE) -> Catalogue:
    """Return the catalogue of the first ``count`` tiles of a folder."""
    scenes = tuple(
        Scene(
            f"t{number:05d}",
            "train",
            (ImageFile(str(folder / "images" / f"t{number:05d}.tif"), KELP_BANDS, (NODATA,)),),
            Grid(side, side),
            LabelFile(str(folder / "labels" / f"t{number:05d}.tif"), ((0, 0), (1, 1))),
            fold=number % 5,
        )
        for number in range(count)
    )
    return Catalogue(KELP, KELP_BANDS, scenes)


def make_big(folder: Path, *, tiled: bool) -> None:
    """Write a scene of 10 bands from one small texture, brighter or darker each time it is repeated, and its label."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    relief = smooth_noise(rng, TEXTURE, 40)
    texture = np.stack(
        [
            1500 + 100 * band + 300 * relief + 200 * smooth_noise(rng, TEXTURE, 9) + rng.normal(0, 12, relief.shape)
            for band in range(len(BIG_BANDS))
        ]
    )
    label = np.digitize(smooth_noise(rng, TEXTURE, 60), [0, 1.2]).astype(np.uint8)
    blocks = {"tiled": True, "blockxsize": 512, "blockysize": 512} if tiled else {}
    common = {
        "driver": "GTiff",
        "height": BIG,
        "width": BIG,
        "compress": "zstd",
        "zstd_level": 1,
        "num_threads": 2,
        "BIGTIFF": "YES",
        **blocks,
    }
    times = BIG // TEXTURE
    gains = rng.uniform(0.8, 1.2, (times, times))
    with (
        maybe_ungeoreferenced(),
        rasterio.open(folder / "image.tif", "w", count=len(texture), dtype="uint16", predictor=2, **common) as image,
        rasterio.open(folder / "label.tif", "w", count=1, dtype="uint8", **common) as classes,
    ):
        for number, row in enumerate(gains):
            window = RasterWindow(0, number * TEXTURE, BIG, TEXTURE)
            planes = np.concatenate([(gain * texture).astype(np.uint16) for gain in row], axis=2)
            image.write(planes, window=window)
            classes.write(np.tile(label, times), 1, window=window)


# The plain way


def build_in_pandas(folder: Path, count: int, path: Path) -> int:
    """Build the table as a runner-up of the kelp competition did: tile by tile in pandas, all of it held to the end.

    Returns
    -------
    rows : int
    """
    import pandas as pd
    import torch

    names = {"sqrt": torch.sqrt, "log": torch.log, "exp": torch.exp, "atan": torch.atan, "maximum": torch.maximum}
    letters = letter_bands(KELP_BANDS)
    random.seed(0)
    frames = []
    for number in range(count):
        with maybe_ungeoreferenced():
            with rasterio.open(folder / "images" / f"t{number:05d}.tif") as raster:
                image = raster.read()
            with rasterio.open(folder / "labels" / f"t{number:05d}.tif") as raster:
                label = raster.read(1)
        height, width = label.shape
        near = cv2.dilate(label, np.ones((21, 21), np.uint8))
        chosen = [*zip(*map(np.ndarray.tolist, np.nonzero(label)), strict=True)]
        chosen += zip(*map(np.ndarray.tolist, np.nonzero(near - label)), strict=True)
        taken = set(chosen)
        wanted = len(taken) + round(0.05 * label.size)
        while len(taken) < wanted:
            pixel = random.randrange(height), random.randrange(width)
            if pixel not in taken:
                taken.add(pixel)
                chosen.append(pixel)
        rows, cols = np.array(chosen).T
        frame = pd.DataFrame(image[:, rows, cols].T, columns=list(KELP_BANDS))
        tensor = torch.tensor(frame.to_numpy(np.float32))[:, :, None, None]
        for index in INDEX_NAMES:
            planes = {
                letter: tensor[:, KELP_BANDS.index(band)][:, None]
                for letter, band in letters.items()
                if band in KELP_BANDS
            }
            # The formulas are our own, from indices.csv.
            tensor = torch.cat([tensor, eval(INDICES[index].formula, names, planes)], dim=1)
        frame = pd.DataFrame(tensor[:, :, 0, 0].numpy(), columns=[*KELP_BANDS, *INDEX_NAMES])
        frame = frame.replace([np.inf, -np.inf], np.nan).fillna(NODATA)
        frame["row"], frame["col"], frame["label"], frame["tile_id"] = rows, cols, label[rows, cols], f"t{number:05d}"
        frames.append(frame)
    table = pd.concat(frames, ignore_index=True)
    table.to_parquet(path, index=False)
    return len(table)


def plain_context(plane: NDArray[np.float32], radius: int) -> dict[str, NDArray[np.float64]]:
    """Local statistics by scipy in float64, nodata left out of account by normalised filtering."""
    from scipy import ndimage

    size, edge = 2 * radius + 1, radius + 1
    padded = np.pad(plane, edge, constant_values=np.nan)
    finite = np.isfinite(padded)
    filled = np.where(finite, padded, 0).astype(np.float64)
    with np.errstate(all="ignore"):
        share = ndimage.uniform_filter(finite.astype(np.float64), size, mode="constant")
        share[share < 0.5 / size**2] = np.nan
        mean = ndimage.uniform_filter(filled, size, mode="constant") / share
        square = ndimage.uniform_filter(filled**2, size, mode="constant") / share
    down = (mean[2:, 1:-1] - mean[:-2, 1:-1]) / 2
    right = (mean[1:-1, 2:] - mean[1:-1, :-2]) / 2
    inside = (slice(edge, -edge),) * 2
    return {
        "mean": mean[inside],
        "std": np.sqrt(np.maximum(square - mean**2, 0))[inside],
        "min": ndimage.minimum_filter(np.where(finite, padded, np.inf), size, mode="constant", cval=np.inf)[inside],
        "max": ndimage.maximum_filter(np.where(finite, padded, -np.inf), size, mode="constant", cval=-np.inf)[inside],
        "gradient": np.hypot(down, right)[(slice(edge - 1, 1 - edge),) * 2],
    }


# What runs in a process of its own


def cpu_seconds() -> float:
    """Return the processor time of this process and of its workers that have ended."""
    return sum(os.times()[:4])


def import_and_wait(_: int) -> float:
    """Load what a worker needs, stay busy while the others do, and return the processor time that it took."""
    importlib.import_module("features.table")
    time.sleep(1)
    return cpu_seconds()


def run_ours(
    catalogue: Catalogue, names: Sequence[str], settings: SampleSettings, directory: Path, workers: int
) -> dict[str, float]:
    """Build the table; return seconds, rows and the peak in MiB."""
    import pyarrow.parquet as pq

    cv2.setNumThreads(1)
    feature_set = FeatureSet(catalogue.bands, names)
    used = cpu_seconds()
    with open_executor(workers) as executor:
        if executor is not None:
            # Imports are not counted here either; one that is asleep takes no second task.
            used += sum(executor.map(import_and_wait, range(workers)))
        start = time.perf_counter()
        build_table(catalogue, feature_set, settings, directory, experiment="benchmark", seed=0, executor=executor)
        seconds = time.perf_counter() - start
    rows = sum(pq.read_metadata(path).num_rows for path in directory.rglob("*.parquet"))
    return {"seconds": seconds, "cpu": cpu_seconds() - used, "rows": rows}


def child_pandas(folder: str, count: int, out: str) -> dict[str, float]:
    """Build the table of the part `builder` in pandas."""
    for module in ("pandas", "pyarrow.parquet", "torch"):
        importlib.import_module(module)
    start, used = time.perf_counter(), cpu_seconds()
    rows = build_in_pandas(Path(folder), count, Path(out))
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - used
    return {"seconds": seconds, "cpu": cpu, "rows": rows}


def child_builder(folder: str, count: int, out: str, workers: int) -> dict[str, float]:
    """Build the table of the part `builder`."""
    settings = SampleSettings(positives="all", buffer=10, negatives=0.05)
    return run_ours(kelp_catalogue(Path(folder), count), (*KELP_BANDS, *INDEX_NAMES), settings, Path(out), workers)


def child_typical(folder: str, count: int, out: str, workers: int, side: int = TILE) -> dict[str, float]:
    """Build a table of typical features: bands, 3 indices, 30 context features."""
    settings = FeatureSettings(
        indices=["NDVI", "NDWI", "MNDWI"], context=ContextSettings(of=["nir", "NDVI"], radii=[1, 3, 7])
    )
    names = feature_names(KELP_BANDS, settings)
    sample = SampleSettings(buffer=5, negatives=1000)
    return run_ours(kelp_catalogue(Path(folder), count, side), names, sample, Path(out), workers)


def child_big(folder: str, out: str) -> dict[str, float]:
    """Build the table of one big scene."""
    settings = FeatureSettings(
        indices=["NDVI"],
        context=ContextSettings(of=["nir", "NDVI"], radii=[1, 3, 7], statistics=["mean", "std"]),
        extra=["nir_above_scene"],
    )
    scene = Scene(
        "big",
        "train",
        (ImageFile(f"{folder}/image.tif", BIG_BANDS),),
        Grid(BIG, BIG),
        LabelFile(f"{folder}/label.tif", ((0, 0), (1, 1), (2, 2))),
        fold=0,
    )
    names = feature_names(BIG_BANDS, settings)
    return run_ours(Catalogue(LAND, BIG_BANDS, (scene,)), names, SampleSettings(quota=5000), Path(out), 1)


def child_context(folder: str, turns: int) -> dict[str, float]:
    """Time the context features of planes that are in memory, ours and scipy's in turn."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    shape = (CONTEXT_SIDE, CONTEXT_SIDE)
    planes = np.stack([3000 + 500 * smooth_noise(rng, CONTEXT_SIDE, 20) for _ in CONTEXT_BANDS])
    planes += rng.normal(0, 100, planes.shape).astype(np.float32)
    planes[:, rng.random(shape) < 0.05] = np.nan
    path = Path(folder) / "planes.tif"
    write_raster(path, planes)
    scene = Scene("planes", "train", (ImageFile(str(path), CONTEXT_BANDS),), Grid(*shape))
    names = [
        f"{band}_{statistic}_r{radius}"
        for band in CONTEXT_BANDS
        for radius in CONTEXT_RADII
        for statistic in CONTEXT_STATISTICS
    ]
    opened = FeatureSet(CONTEXT_BANDS, names).open(scene)
    opened.valid()  # Reads the pixels, which are then kept.

    def plain() -> NDArray[np.float32]:
        found = [plain_context(plane, radius) for plane in planes for radius in CONTEXT_RADII]
        return np.stack([each[statistic] for each in found for statistic in CONTEXT_STATISTICS], dtype=np.float32)

    ours, theirs = opened.compute(), plain()
    for position, name in enumerate(names):
        deviation = float(np.nanstd(planes[CONTEXT_BANDS.index(name.partition("_")[0])]))
        expected = np.where(np.isfinite(theirs[position]), theirs[position], np.nan)
        np.testing.assert_allclose(ours[position], expected, rtol=1e-4, atol=1e-4 * deviation, err_msg=name)
    del ours, theirs
    times: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(turns):
        for side, function in (("ours", opened.compute), ("plain", plain)):
            start = time.perf_counter()
            function()
            times[side].append(time.perf_counter() - start)
    return {side: statistics.median(seconds) for side, seconds in times.items()}


CHILDREN: dict[str, Callable[..., dict[str, float]]] = {
    "pandas": child_pandas,
    "pandas, torch's own threads": child_pandas,
    "builder": child_builder,
    "typical": child_typical,
    "big": child_big,
    "context": child_context,
}


def run_child(name: str, *arguments: object) -> dict[str, float]:
    """Run one of `CHILDREN` in a fresh process, with one thread unless it says otherwise."""
    environment = dict(os.environ) if "own threads" in name else {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", json.dumps([name, *arguments], default=str)]
    peak = 0.0
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak = max(peak, memory_mib(process.pid))
            time.sleep(0.05)
        printed = process.communicate()[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return {**found, "peak": peak}


def memory_mib(pid: int) -> float:
    """Return what a process and its workers hold now, in MiB; pages that several hold are counted once. Linux only."""
    process = Path("/proc") / str(pid)
    try:
        children = (process / "task" / str(pid) / "children").read_text().split()
        sizes = (process / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = sum(int(line.split()[1]) for line in sizes.splitlines() if line.startswith("Pss:")) / 1024
    return own + sum(memory_mib(int(child)) for child in children)


# The parts


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a temporary folder."""
    with tempfile.TemporaryDirectory(prefix="pixel_table_") as folder:
        yield Path(folder)


def table_of(name: str, folder: Path, *arguments: object) -> dict[str, float]:
    """Run a child that writes a table, and delete the table."""
    out = folder / "table"
    found = run_child(name, *arguments[:2], out, *arguments[2:])
    out.unlink() if out.is_file() else shutil.rmtree(out)
    return found


def show(what: str, found: dict[str, float], count: int) -> None:
    """Print one side's figures."""
    print(
        f"  {what:<30} {found['seconds']:8.2f} s ({found['cpu']:.1f} s of processors), "
        f"{1000 * found['seconds'] / count:.1f} ms a scene, "
        f"{found['rows'] / 1e6:7.2f} M rows, {found['peak']:8.0f} MiB peak",
        flush=True,
    )


def check_tables(folder: Path, tiles: Path, count: int) -> None:
    """Make sure that both ways give the same values of the same pixels: all positives and rings with data."""
    import pandas as pd
    import pyarrow.parquet as pq

    run_child("pandas", tiles, count, folder / "plain.parquet")
    run_child("builder", tiles, count, folder / "ours", 1)
    plain = pd.read_parquet(folder / "plain.parquet").rename(columns={"tile_id": "scene"})
    columns = ["scene", "row", "col", "label", "stratum", *KELP_BANDS, *INDEX_NAMES]
    parts = [pq.read_table(path, columns=columns, partitioning=None) for path in (folder / "ours").rglob("*.parquet")]
    ours = pd.concat([part.to_pandas().astype({"scene": str}) for part in parts])
    ours = ours[ours["stratum"] < 2]
    both = ours.merge(plain, on=["scene", "row", "col"], suffixes=("", "_plain"))
    assert len(both) == len(ours), "expected every positive and ring pixel in both tables"
    assert (both["label"] == both["label_plain"]).all()
    assert ours["label"].sum() == plain["label"].sum(), "expected as many positives in both tables"
    for name in (*KELP_BANDS, *INDEX_NAMES):
        own, other = both[name].to_numpy(), both[f"{name}_plain"].to_numpy()
        known = np.isfinite(own)
        assert (other[~known] == NODATA).all(), name
        np.testing.assert_allclose(own[known], other[known], rtol=0 if name in KELP_BANDS else 1e-4, err_msg=name)
    print(f"  the same values of {len(both)} positive and ring pixels × {len(KELP_BANDS) + len(INDEX_NAMES)} features")


def builder(turns: int) -> None:
    """Bands and 59 indices of positives, their rings and 5 % of the rest, against pandas and torch."""
    print(f"builder: against pandas + torch.cat, tile by tile; medians of {turns} turns")
    with scratch() as folder:
        tiles = folder / "tiles"
        make_tiles(tiles, 600, 150)
        check_tables(folder, tiles, 10)
        plain_sides = ["pandas", "pandas, torch's own threads"]
        for count in (150, 600):
            print(f" {count} tiles")
            sides: dict[str, Callable[[], dict[str, float]]] = {
                name: partial(table_of, name, folder, tiles, count) for name in plain_sides
            }
            for workers in (1, 2):
                sides[f"ours, {workers} worker(s)"] = partial(table_of, "builder", folder, tiles, count, workers)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
            for _ in range(turns):
                for name, side in sides.items():
                    found[name].append(side())
            medians = {
                name: {key: statistics.median(each[key] for each in runs) for key in runs[0]}
                for name, runs in found.items()
            }
            for name, median in medians.items():
                show(name, median, count)
            # On a busy machine torch's threads wait for each other: ours is measured against the better of the two.
            best = min(plain_sides, key=lambda name: medians[name]["seconds"])
            plain, plain_sides = medians[best], [best]
            for name, median in medians.items():
                if name.startswith("ours"):
                    rate, cpu = (
                        plain[kind] / plain["rows"] * median["rows"] / median[kind] for kind in ("seconds", "cpu")
                    )
                    less = plain["peak"] / median["peak"]
                    print(
                        f"  {name} against {best}: {rate:.1f} × the rows a second, {cpu:.1f} × a second of processor, "
                        f"1/{less:.1f} of the memory"
                    )


def context(turns: int) -> None:
    """50 context features on one core against scipy.ndimage in float64."""
    with scratch() as folder:
        found = run_child("context", folder, turns)
    pixels = CONTEXT_SIDE**2 / 1e6
    print(
        f"context: 50 features of {len(CONTEXT_BANDS)} planes of 1 Mpx, 1 core: "
        f"{pixels / found['ours']:.2f} Mpx/s against {pixels / found['plain']:.2f} by scipy.ndimage in float64: "
        f"{found['plain'] / found['ours']:.1f} ×",
        flush=True,
    )


def scaling(turns: int) -> None:
    """How seconds and memory grow with the tiles, and shrink with the workers."""
    print("scaling: 7 bands, 3 indices, 30 context features; one turn")
    with scratch() as folder:
        tiles = folder / "tiles"
        make_tiles(tiles, 5600, 100)
        for count in (100, 1000, 5600):
            seconds = []
            for workers in (1, 2) if count < 5600 else (2,):
                found = table_of("typical", folder, tiles, count, workers)
                seconds.append(found["seconds"])
                show(f"{count} tiles, {workers} worker(s)", found, count)
            if len(seconds) == 2:
                print(f"  {count} tiles: 2 workers are {seconds[0] / seconds[1]:.2f} × as fast as 1")


def big(turns: int) -> None:
    """One scene of 10980 × 10980 pixels and 10 bands, then 10 000 tiles of 64 × 64."""
    print("big: 10980 × 10980 × 10 bands, 10 bands + NDVI + 12 context features + nir_above_scene; 1 worker, one turn")
    for kind in ("tiled", "striped"):
        with scratch() as folder:
            make_big(folder / kind, tiled=kind == "tiled")
            size = (folder / kind / "image.tif").stat().st_size / 2**20
            show(f"{kind}, {size:.0f} MiB of zstd", run_child("big", folder / kind, folder / "table"), 1)
    with scratch() as folder:
        make_tiles(folder / "tiles", 10_000, 50, 64)
        show("10000 tiles of 64 × 64, 2 workers", table_of("typical", folder, folder / "tiles", 10_000, 2, 64), 10_000)


PARTS: dict[str, Callable[[int], None]] = {"builder": builder, "context": context, "scaling": scaling, "big": big}


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, *rest = json.loads(arguments.child)
        print(json.dumps(CHILDREN[name](*rest)))
        return
    unknown = set(arguments.parts) - set(PARTS)
    if unknown:
        parser.error(f"expected parts among {', '.join(PARTS)}, got {', '.join(sorted(unknown))}")
    for part in arguments.parts or PARTS:
        PARTS[part](arguments.turns)


if __name__ == "__main__":
    main()
