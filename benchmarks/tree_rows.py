"""Learning from many rows: memory and time of a fold, streamed from the pixel table, against a matrix in memory.

``python benchmarks/tree_rows.py [--millions 2.7 5.4 10.8 21.6] [--rounds 20] [--boosters lightgbm xgboost]``

A pixel table of 66 made-up columns is written in a temporary folder (0.27 GB a million rows; ``TMPDIR`` says where), of
tiles of 3 833 rows in five folds. Each way learns from four of them in a process of its own, so that its memory is its
own: ``streamed`` as a member does, ``matrix`` with the rows read into one float32 array and given to the library.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from features.feature_set import FeatureSet
from features.table import open_table, table_path
from trees.learning import PixelRows
from trees.settings import TreeSettings

COLUMNS, TILE, FOLDS = 66, 3833, 5
BANDS = tuple(f"b{number}" for number in range(COLUMNS))
KELP = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))


def make_catalogue(rows: int) -> Catalogue:
    """Return tiles that hold so many rows, dealt to the folds."""
    scenes = [
        Scene(f"t{n}", "train", (ImageFile("", BANDS),), Grid(350, 350), None, group=f"t{n}", fold=n % FOLDS)
        for n in range(round(rows / TILE))
    ]
    return Catalogue(KELP, BANDS, tuple(scenes), {})


def write_rows(catalogue: Catalogue, pixels: Path) -> None:
    """Write made-up rows of all tiles, as the pixel table is written."""
    mix = np.random.default_rng(0).normal(size=(12, COLUMNS)).astype(np.float32)
    for number, scene in enumerate(catalogue.scenes):
        rng = np.random.default_rng([1, number])
        features = rng.normal(size=(TILE, 12)).astype(np.float32) @ mix
        features += rng.normal(size=features.shape).astype(np.float32)
        label = features[:, 0] + features[:, 1] * features[:, 2] / 4 + rng.normal(0, 4, TILE) > 8
        columns = {
            "row": np.arange(TILE, dtype=np.int32),
            "label": label.astype(np.uint8),
            "weight": np.where(label, 1, 50).astype(np.float32),
            **dict(zip(BANDS, features.T, strict=True)),
        }
        path = table_path(pixels, scene)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            pa.table({name: pa.array(values) for name, values in columns.items()}),
            path,
            compression="lz4",
            use_dictionary=False,
            use_byte_stream_split=list(BANDS),
            write_statistics=False,
        )


def settings_of(booster: str, rounds: int) -> TreeSettings:
    """Return the settings of both ways."""
    return TreeSettings(booster=booster, rounds=rounds, subsample=1, colsample=1)


def learn_streamed(booster: str, rounds: int, catalogue: Catalogue, pixels: Path, threads: int) -> tuple[float, float]:
    """Learn as a member does; return the seconds of the first fold and of the second."""
    settings = settings_of(booster, rounds)
    rows = PixelRows("one", settings, catalogue, pixels, FeatureSet(BANDS, BANDS), threads=threads, device="cpu")
    seconds = []
    for fold in range(2):
        start = time.perf_counter()
        rows.fit(settings, fold, seed=0)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def learn_matrix(booster: str, rounds: int, catalogue: Catalogue, pixels: Path, threads: int) -> tuple[float, float]:
    """Learn from rows that are read into one array, fold after fold."""
    settings, seconds = settings_of(booster, rounds), []
    for fold in range(2):
        start = time.perf_counter()
        table = open_table(pixels, catalogue.outside_fold(fold), BANDS)
        features, weight = table.read(), table.weight / table.weight.mean()
        if booster == "lightgbm":
            parameters: dict[str, Any] = {"num_leaves": settings.leaves, "min_data_in_leaf": settings.leaf_rows}
            data = lightgbm.Dataset(features, table.label, weight=weight)
            shared = {"objective": "binary", "learning_rate": settings.learning_rate, "lambda_l2": settings.l2}
            engine = {"num_threads": threads, "verbosity": -1, "force_row_wise": True, "deterministic": True}
            lightgbm.train({**shared, **parameters, **engine}, data, rounds)
        else:
            parameters = {"max_leaves": settings.leaves, "max_depth": 0, "grow_policy": "lossguide", "nthread": threads}
            matrix = xgboost.QuantileDMatrix(features, table.label, weight=weight, max_bin=255, nthread=threads)
            shared = {
                "objective": "binary:logistic",
                "learning_rate": settings.learning_rate,
                "reg_lambda": settings.l2,
            }
            xgboost.train({**shared, **parameters, "tree_method": "hist", "max_bin": 255}, matrix, rounds)
        seconds.append(time.perf_counter() - start)
    return seconds[0], seconds[1]


def measure(way: Any, *arguments: Any) -> tuple[float, float, float]:
    """Run a way in this process; return the seconds of two folds and the most memory held, in GiB."""
    first, second = way(*arguments)
    status = Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 2**20
    return first, second, peak


def main() -> None:
    """Print memory and time by rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--millions", type=float, nargs="+", default=[2.7, 5.4, 10.8, 21.6])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--boosters", nargs="+", default=["lightgbm", "xgboost"])
    parser.add_argument("--ways", nargs="+", default=["streamed", "matrix"])
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    ways = {"streamed": learn_streamed, "matrix": learn_matrix}
    with tempfile.TemporaryDirectory(prefix="tree_rows_") as folder:
        pixels, most = Path(folder), make_catalogue(round(max(arguments.millions) * 1e6))
        write_rows(most, pixels)
        print(f"{COLUMNS} columns, {arguments.rounds} rounds of 63 leaves, four folds of five, twice")
        print("| booster | rows, M | way | first fold, s | second, s | peak, GiB | bytes a value |")
        print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
        for booster in arguments.boosters:
            for millions in arguments.millions:
                catalogue = make_catalogue(round(millions * 1e6))
                for way in arguments.ways:
                    with ProcessPoolExecutor(1, get_context("spawn")) as process:
                        task = (ways[way], booster, arguments.rounds, catalogue, pixels, arguments.threads)
                        first, second, peak = process.submit(measure, *task).result()
                    size = peak * 2**30 / (len(catalogue.scenes) * TILE * COLUMNS)
                    print(
                        f"| {booster} | {millions} | {way} | {first:.0f} | {second:.0f} | {peak:.2f} | {size:.1f} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
