"""A network over scenes of two sizes, and how many windows a second it sees by each way of running it.

``python benchmarks/cnn_prediction.py [memory] [speed] [--sides 3660 10980] [--bands 4] [--threads 2] [--turns 5]``

The network is a U-Net of six classes that has learned nothing. ``memory`` writes a scene of each size, uint16 with a
wedge of nodata, maps it in a process of its own to the file that a member would write, and prints that process's peak
memory. ``speed`` alternates between plain torch (float32, channels one after the other in memory, all threads on one
window) and the ways a member can be told, on windows of 512 × 512 pixels held in memory.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import rasterio
import torch

from cnn.inputs.normalisation import Normalisation
from cnn.machine import fast_on_cpu, limit_threads
from cnn.network.network import build_network
from cnn.predict.applied import Applied
from cnn.predict.predict_scene import Tiling, predict_scene
from cnn.predict.runner import Runner
from cnn.settings import CnnSettings
from data.maps.geotiff import map_writer
from data.scenes.image import ImageFile
from data.scenes.rasters import keep_open, maybe_ungeoreferenced
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from features.feature_set import FeatureSet

CLASSES = 6
SIDE, OVERLAP, MULTIPLE = 512, 128, 32
SMALL = {"encoder": "tu-regnetx_002", "encoder_depth": 3, "decoder_channels": [32, 16, 8]}
"""Small, since memory is the question: it depends on the windows, not on how long they take."""


def normalise(bands: int) -> Normalisation:
    """Return what suits the scenes of noise."""
    return Normalisation((1000.0,) * bands, (300.0,) * bands)


def build_model(bands: int, encoder: str | None = None) -> Applied:
    """Return a network of random weights, as it is applied."""
    torch.manual_seed(0)
    settings = CnnSettings(encoder=encoder) if encoder else CnnSettings(**SMALL)
    network = build_network(settings, bands, CLASSES).eval()
    return Applied(network, normalise(bands), multiple=MULTIPLE).eval()


def write_scene(path: Path, side: int, bands: int) -> None:
    """Write a scene of noise, block by block; a wedge at its left is nodata."""
    rng = np.random.default_rng(0)
    with maybe_ungeoreferenced(), rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=bands, dtype="uint16", nodata=0, tiled=True,
        blockxsize=512, blockysize=512, compress="zstd", zstd_level=1, predictor=2, BIGTIFF="IF_SAFER",
    ) as raster:  # fmt: skip
        for _, window in raster.block_windows(1):
            pixels = rng.normal(1000, 300, (bands, window.height, window.width)).clip(1, 4000).astype(np.uint16)
            if window.col_off < (side - window.row_off) // 4:
                pixels[:] = 0
            raster.write(pixels, window=window)


def map_scene(path: Path, side: int, bands: int, threads: int) -> tuple[float, float]:
    """Map a scene; return the seconds that took and the peak memory of this process in GB."""
    names = tuple(f"band{number}" for number in range(bands))
    scene = Scene(path.stem, "test", (ImageFile(str(path), names),), Grid(side, side))
    model, runner = build_model(bands), Runner(torch.device("cpu"), fast_on_cpu(), threads)
    model.network.to(memory_format=torch.channels_last)
    tiling, classes = Tiling(SIDE, OVERLAP, MULTIPLE, SIDE), [f"class{number}" for number in range(CLASSES)]
    start = time.perf_counter()
    with keep_open(), map_writer(path.with_name("map.tif"), scene.grid, classes, {}) as writer:
        for window, proba in predict_scene(scene, FeatureSet(names, names), model, CLASSES, tiling, runner):
            writer.write(window, proba)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    return time.perf_counter() - start, peak


def measure_memory(sides: list[int], bands: int, threads: int) -> None:
    """Print what mapping a scene of each size takes."""
    for side in sides:
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, get_context("spawn")) as process:
            path = Path(folder) / "scene.tif"
            write_scene(path, side, bands)
            seconds, peak = process.submit(map_scene, path, side, bands, threads).result()
        print(
            f"{side} × {side} × {bands} bands to {CLASSES} classes, {threads} thread(s): peak memory {peak:.2f} GB; "
            f"{side**2 / seconds / 1e6:.2f} Mpx/s",
            flush=True,
        )


def measure_speed(bands: int, threads: int, turns: int, encoder: str) -> None:
    """Print how many windows a second each way of running a network sees."""
    rng = np.random.default_rng(0)
    windows = list(rng.normal(1000, 300, (2 * threads, bands, SIDE, SIDE)).astype(np.float32))
    plain, fast = build_model(bands, encoder), build_model(bands, encoder)
    fast.network.to(memory_format=torch.channels_last)

    def run_plain() -> None:
        with limit_threads(threads), torch.inference_mode():
            for window in windows:
                plain.network(torch.from_numpy(normalise(bands).apply(window)[None])).softmax(dim=1)

    ways = {"plain torch": run_plain}
    for precision in (torch.float32, torch.bfloat16):
        runner = Runner(torch.device("cpu"), precision, threads)
        name, compiled = str(precision).removeprefix("torch."), runner.compile(plain)
        ways[name] = lambda runner=runner: list(runner.apply(fast, windows))
        ways[f"{name}, OpenVINO"] = lambda runner=runner, compiled=compiled: list(runner.apply(compiled, windows))
    times: dict[str, list[float]] = {way: [] for way in ways}
    for run in ways.values():
        run()
    for _ in range(turns):
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            times[way].append(time.perf_counter() - start)
    first = statistics.median(times["plain torch"])
    for way, some in times.items():
        seconds = statistics.median(some)
        print(
            f"{encoder}, {threads} thread(s), {way:<18}: {len(windows) / seconds:5.2f} windows/s "
            f"({first / seconds:.1f} ×)",
            flush=True,
        )


def main() -> None:
    """Print memory and speed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="*", default=["memory", "speed"], choices=["memory", "speed"])
    parser.add_argument("--sides", type=int, nargs="+", default=[3660, 10980])
    parser.add_argument("--bands", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--encoder", default="resnet34", help="of the network that speed is measured with")
    arguments = parser.parse_args()
    if "memory" in arguments.what:
        measure_memory(arguments.sides, arguments.bands, arguments.threads)
    if "speed" in arguments.what:
        measure_speed(arguments.bands, arguments.threads, arguments.turns, arguments.encoder)


if __name__ == "__main__":
    main()
