"""Sound files of each kind of ours that needs no training, and the experiment file."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from campaigns.damage import Kind
from data.maps.parquet import read_parts, write_part
from data.records import read_parquet, write_parquet
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.classes import Classes
from data.scenes.histogram import Histogram
from data.scenes.image import ImageFile
from data.scenes.scene import LabelFile, Scene
from data.scenes.windows import Grid
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.ensemble import Ensemble
from features.description import ColumnFacts, TableFacts, load_facts, save_facts
from features.explanation import ClassUse, ColumnUse, Dependence, Explanation, Spread, Swarm, load_explanation
from features.table import ROWS

__all__ = ["make_plain_files"]


def make_plain_files(folder: Path) -> list[Kind]:
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
