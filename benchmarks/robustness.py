"""Damaged copies of every kind of file that Terrablend reads: each ends in a named error, or in the same content.

    python benchmarks/robustness.py fuzz --count 10000 --seed 0

The last line counts the outcomes: ``same`` (read as the sound file), ``clean`` (an error that names the file), and of
files without a checksum, which a user writes, ``other`` (read with other content). All else is unclean, and ends in
exit status 1: an error that names no file or fills a page, another exception, other content of our own files, the end
of the process, or no end at all.
"""

import argparse
import hashlib
import os
import random
import re
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data.errors import TerrablendError
from data.maps.parquet import read_parts, write_part
from data.records import read_parquet, write_parquet
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.histogram import Histogram
from data.scenes.scene import ImageFile, LabelFile, Scene
from data.scenes.windows import Grid
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.ensemble import Ensemble
from features.description import ColumnFacts, TableFacts, load_facts, save_facts
from features.explanation import ClassUse, ColumnUse, Dependence, Explanation, Spread, Swarm, load_explanation
from features.table import ROWS

SECONDS = 20
"""Of CPU that reading a file may take."""

LONGEST = 4000
"""Characters of a message."""

Read = Callable[[Path], object]


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Parameters
    ----------
    name : str
    path : Path
        Of a sound file.
    read : callable
        Reads it and returns its content; equal contents have equal representations.
    sealed : bool
        Whether it has a checksum, so that other content is never read from it.
    """

    name: str
    path: Path
    read: Read
    sealed: bool = True


def damage(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with the damage that disks, editors and copies do."""
    copy = bytearray(data)
    place, size = rng.randrange(len(data)), rng.choice([1, 4, 64, 512])
    what = rng.randrange(10)
    if what < 3:
        for _ in range(rng.choice([1, 1, 2, 8, 64])):
            copy[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif what == 3:
        del copy[rng.choice([place, len(data) - 1, len(data) // 2, 0]) :]
    elif what == 4:
        copy[place : place + size] = bytes(min(size, len(data) - place))
    elif what == 5:
        del copy[place : place + size]
    elif what == 6:
        copy[place:place] = rng.randbytes(size)
    elif what == 7:
        word = rng.choice([struct.pack("<I", 2**32 - 1), struct.pack("<Q", 1 << 40), struct.pack(">i", -1)])
        copy[place : place + len(word)] = word
    elif what == 8:
        numbers = list(re.finditer(rb"-?\d+(\.\d+)?|\w+", data))
        if numbers:
            match = rng.choice(numbers)
            copy[match.start() : match.end()] = rng.choice([b"", b"0", b"-1", b"1e308", b"nan", b"9" * 5000, b"null"])
    else:
        lines = data.splitlines(keepends=True)
        lines[rng.randrange(len(lines))] = rng.choice(lines) * rng.choice([0, 1, 2, 500])
        copy = bytearray(b"".join(lines))
    return bytes(copy)


def judge(kind: Kind, sound: str, data: bytes) -> tuple[str, str]:
    """Read damaged bytes in the place of a file; return how it ends, and what is said."""
    kind.path.write_bytes(data)
    try:
        content = _digest(kind.read(kind.path))
    except TerrablendError as error:
        text = str(error)
        named = kind.path.name in text or str(kind.path.parent) in text
        return ("clean" if named and len(text) <= LONGEST else "unnamed"), text[:300]
    except Exception as error:  # whatever it is, it is what is counted
        return "unclean", f"{type(error).__name__}: {error}"[:300]
    if content == sound:
        return "same", ""
    return ("lost" if kind.sealed else "other"), ""


def judge_copies(kind: Kind, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield number, end and message of damaged copies of a file, judged in this process; the file is left sound."""
    data = kind.path.read_bytes()
    sound = _digest(kind.read(kind.path))
    try:
        for number in range(count):
            yield number, *judge(kind, sound, damage(data, random.Random(f"{seed} {kind.name} {number}")))
    finally:
        kind.path.write_bytes(data)


def make_files(folder: Path) -> list[Kind]:
    """Write a small sound file of each kind that needs no training, and say how it is read."""
    classes = Classes("binary", (1,), ("kelp",), ((230, 159, 0),))
    rng = np.random.default_rng(0)
    image, label = ImageFile("a.tif", ("red", "nir"), (-1.0, None)), LabelFile("b.tif", ((0, 0), (1, 1)))
    scene = Scene("a", "train", (image,), Grid(8, 8), label, (("red", (1,)),), "g", 0)
    band = {"band": "red", "count": 64, "mean": 0.5, "deviation": 0.1, "minimum": 0.0, "maximum": 1.0}
    statistics = {("train", "a"): SceneStatistics(64, (60, 4), (band,), "ab", "cd")}
    histogram = Histogram("red", (0.0, 0.5, 1.0), {"train": (0.0, 0.25, 0.75, 0.0)})
    catalogue = Catalogue(classes, ("red", "nir"), (scene,), statistics, (histogram,))  # type: ignore[arg-type]
    catalogue.save(folder / "catalogue.parquet")
    rows = {"label": rng.integers(0, 2, 500, np.uint8), "NDVI": rng.normal(size=500).astype(np.float32)}
    write_parquet(folder / "rows.parquet", pa.table(rows), compression="lz4")
    (folder / "tags").mkdir()
    proba = rng.random((50, 2), np.float32)
    write_part(folder / "tags/part-00000.parquet", [f"s{n}" for n in range(50)], proba, ("haze", "kelp"), {"fold": "0"})
    column = ColumnFacts("NDVI", "index", "(nir - red) / (nir + red)", 0, "", 0.1, (0.1, float("nan")), (0.5, 0.7))
    save_facts(TableFacts(500, ("background", "kelp"), (column,), (("NDVI", "red", 0.5),)), folder / "columns.json")
    use = ColumnUse(
        "NDVI",
        Spread(0.5, 0.1),
        Spread(0.1, 0.0),
        Spread(0.2, float("nan")),
        0.3,
        Swarm((0.1, 0.2), (0.5, float("nan"))),
        Dependence((0.0, 1.0), (0.1, 0.9), ((0.1, 0.9),)),
    )
    Explanation("trees", 10, 5, 2, True, (ClassUse("kelp", 0.3, 0.6, (use,)),)).save(folder / "explanation.json")
    decision = Decision((Calibration(), Calibration()), Blend(((0.25, 0.75),)), (0.4,))
    Ensemble(classes, ("a", "b"), "dice", decision, 0.5, "It pays.").save(folder / "ensemble.json")
    yaml = folder / "experiment.yaml"
    yaml.write_text(EXPERIMENT.format(root=folder))
    return [
        Kind("catalogue", folder / "catalogue.parquet", Catalogue.load),
        Kind("pixel rows", folder / "rows.parquet", lambda path: read_parquet(path, ROWS).to_pydict()),
        Kind("tag maps", folder / "tags/part-00000.parquet", lambda path: read_parts(path.parent)),
        Kind("column facts", folder / "columns.json", load_facts),
        Kind("explanation", folder / "explanation.json", load_explanation),
        Kind("ensemble", folder / "ensemble.json", Ensemble.load),
        Kind("experiment", yaml, _read_experiment, sealed=False),
    ]


def make_models(folder: Path) -> list[Kind]:
    """Write a small sound file of each kind of model, and say how it is read without a record of its hash."""
    import lightgbm
    import torch
    import xgboost

    from cnn.network.model_file import read_about, read_tensors, write_tensors
    from trees.boosters.lightgbm_booster import LightGBMBooster
    from trees.boosters.sklearn_boosters import SklearnBooster
    from trees.boosters.xgboost_booster import XGBoostBooster
    from trees.forest.forest import Tree, Trees
    from trees.tag_boosters import TagBoosters

    rng = np.random.default_rng(0)
    features, label = rng.normal(size=(200, 4)).astype(np.float32), rng.integers(0, 2, 200)
    names = ["a", "b", "c", "d"]
    options = {"objective": "binary", "num_leaves": 5, "verbosity": -1, "num_threads": 1}
    grown = LightGBMBooster(lightgbm.train(options, lightgbm.Dataset(features, label, feature_name=names), 4))
    rows = xgboost.DMatrix(features, label, feature_names=names)
    other = XGBoostBooster(xgboost.train({"objective": "binary:logistic", "max_depth": 3, "nthread": 1}, rows, 4))
    leaves = np.array([[-0.1], [0.2]])
    tree = Tree(np.array([1]), np.float32([0.5]), np.array([True]), np.array([-1]), np.array([-2]), leaves)
    plain = SklearnBooster(Trees.of([tree] * 3, np.zeros(1), 4, "sigmoid"), dict.fromkeys(names, 0.25), 3)
    tensors = {"weight": torch.arange(12.0).reshape(3, 4), "count": torch.tensor(3), "bias": torch.ones(2).bfloat16()}

    def predict(kind: Any) -> Read:
        return lambda path: kind.load(path).predict_proba(features).tobytes()

    def read_network(path: Path) -> object:
        about = read_about(path)
        found, _ = read_tensors(path)
        return [(name, found[name].float().numpy().tobytes()) for name in sorted(found)], about

    grown.save(folder / "fold0.txt")
    other.save(folder / "fold0.ubj")
    plain.save(folder / "fold0.npz")
    TagBoosters("lightgbm", ["haze", "kelp"], [grown, 0.25], names).save(folder / "fold0.zip")
    write_tensors(folder / "fold0.safetensors", tensors, {"normalisation": None, "fold": 0})
    return [
        Kind("LightGBM", folder / "fold0.txt", predict(LightGBMBooster), sealed=False),
        Kind("XGBoost", folder / "fold0.ubj", predict(XGBoostBooster), sealed=False),
        Kind("scikit-learn", folder / "fold0.npz", predict(SklearnBooster)),
        Kind("boosters of tags", folder / "fold0.zip", predict(TagBoosters)),
        Kind("network", folder / "fold0.safetensors", read_network),
    ]


EXPERIMENT = """\
name: small
task: binary
root: "{root}"
scenes:
  bands: [swir16, nir, red, green, blue]
  train: {{image: "train/{{id}}.tif", label: "labels/{{id}}.tif"}}
  nodata: -32768
classes: {{1: kelp}}
folds: {{count: 2, group: {{similar: nir}}}}
features: {{indices: [NDVI, NDWI], context: {{of: [nir, NDVI], radii: [1, 3], statistics: [mean, std]}}}}
members:
  lightgbm: {{branch: trees, booster: lightgbm, rounds: 12, leaves: 7}}
  unet: {{branch: cnn, architecture: unet, encoder: resnet18, inputs: [red, green, nir, NDVI]}}
ensemble: {{metric: dice, blend: greedy}}
"""


def _read_experiment(path: Path) -> object:
    from terrablend.experiment import load_experiment

    return load_experiment(path).model_dump(mode="json")


def _digest(content: object) -> str:
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).hexdigest()


def _judge_alone(kind: Kind, count: int, seed: int) -> Iterator[tuple[int, str, str]]:
    """Yield what `judge_copies` does, each copy in a process that it may end: what is left goes on in another."""
    data = kind.path.read_bytes()
    sound = _digest(kind.read(kind.path))
    number = 0
    while number < count:
        reader, writer = os.pipe()
        process = os.fork()
        if process == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for place in range(number, count):
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                end, text = judge(kind, sound, damage(data, random.Random(f"{seed} {kind.name} {place}")))
                os.write(writer, f"{end}\t{text!a}\n".encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as lines:
            for line in lines:
                end, text = line.rstrip("\n").split("\t", 1)
                yield number, end, text
                number += 1
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status:
            yield number, "hang" if status == -signal.SIGPROF else "crash", f"status {status}"
            number += 1
    kind.path.write_bytes(data)


def fuzz(count: int, seed: int) -> bool:
    """Judge damaged copies of all kinds of files; print how they end, and return whether all end cleanly."""
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="terrablend-fuzz-") as temporary:
        folder = Path(temporary)
        kinds = [*make_files(folder), *make_models(folder)]
        for place, kind in enumerate(kinds):
            part = count * (place + 1) // len(kinds) - count * place // len(kinds)
            ends: Counter[str] = Counter()
            for number, end, text in _judge_alone(kind, part, seed):
                ends[end] += 1
                if end not in CLEAN:
                    print(f"  {kind.name}, copy {number}: {end}: {text}")
            total += ends
            print(f"{kind.name:<20} {dict(ends)}", flush=True)
    unclean = sum(total[end] for end in total if end not in CLEAN)
    print(f"fuzz: {sum(total.values())} inputs, seed {seed}: {dict(total)}; {unclean} unclean")
    return unclean == 0


CLEAN = ("same", "clean", "other")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a campaign; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=["fuzz"])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    return 0 if fuzz(options.count, options.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
