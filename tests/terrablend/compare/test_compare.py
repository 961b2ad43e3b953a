import csv

import pytest
import rasterio
import yaml

from data.errors import ExperimentError
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import read_label
from ensemble.score.intervals import Interval
from terrablend.compare.comparing import parse_shares
from terrablend.compare.page import write_comparison_page
from terrablend.compare.table import NOTHING, Row, describe_comparison, write_table
from terrablend.start.coast import BANDS, write_coast

TREES = {"branch": "trees", "rounds": 10, "leaves": 7, "min_leaf_rows": 5}


@pytest.fixture
def experiments(tmp_path):
    """Return a function that writes an experiment on a small coast, with some of its bands as features."""
    write_coast(tmp_path, places=5, acquisitions=1, test=1, size=48, seed=3)

    def write(name, **changes):
        values = {
            "name": "coast",
            "task": "binary",
            "root": ".",
            "scenes": {
                "bands": list(BANDS),
                "train": {"image": "train/{id}_satellite.tif", "label": "train_kelp/{id}_kelp.tif"},
                "test": {"image": "test/{id}_satellite.tif"},
                "nodata": -32768,
            },
            "classes": {1: "kelp"},
            "folds": {"count": 2},
            "features": {"indices": [], "context": {"of": []}, "sample": {"negatives": 200}},
            "members": {"trees": {**TREES, "features": ["nir", "red"]}},
            "ensemble": {"metric": "dice", "policy": "average"},
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(values | changes))
        return path

    return write


def test_shares_are_read_and_others_refused():
    assert parse_shares("0.1,1.0,0.1") == [1.0, 0.1]
    for text in ("", "0", "2,1", "a tenth"):
        with pytest.raises(ExperimentError, match="expected shares above 0 and at most 1"):
            parse_shares(text)


def test_the_table_and_the_page_show_every_row(tmp_path):
    gain = Interval(0.02, -0.01, 0.05)
    rows = [
        Row("bands", "blend", 1.0, 20, Interval(0.8, 0.75, 0.85), NOTHING, NOTHING),
        Row("both", "trees", 1.0, 20, Interval(0.82, 0.76, 0.86), gain, NOTHING),
        Row("both", "trees", 0.1, 3, Interval(0.6, float("nan"), float("nan")), gain, Interval(-0.22, -0.3, -0.1)),
    ]
    write_table(rows, tmp_path / "table.csv")
    read = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [row["gain"] for row in read] == ["", "0.020000", "0.020000"]
    assert (read[2]["labels"], read[2]["score_low"], read[2]["fewer_high"]) == ("0.1", "", "-0.100000")
    text = describe_comparison(rows, "Dice", 0.95)
    assert "+0.020 (−0.010–0.050)" in text
    assert "−0.220" in text.splitlines()[-1]
    write_comparison_page(rows, tmp_path / "page.html", "Dice", 0.95, 20)
    page = (tmp_path / "page.html").read_text()
    assert "Best is both (trees) with 100% of the labels: Dice 0.820." in page
    assert page.count("<tr") == 2 + 3
    assert "http" not in page


def test_what_cannot_be_compared_is_refused_with_the_file(experiments, tmp_path, terrablend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, other = experiments("a"), experiments("b", ensemble={"metric": "iou"})
    refused = terrablend("compare", first, other)
    assert refused.code == 2
    assert "b.yaml: expected ensemble.metric of" in refused.err
    assert "got iou" in refused.err
    (tmp_path / "more").mkdir()
    twin = tmp_path / "more" / "a.yaml"
    twin.write_text(first.read_text())
    assert "expected experiment files of distinct names, got a twice" in terrablend("compare", first, twin).err


@pytest.mark.slow
def test_experiments_are_compared_on_the_same_folds_with_all_labels_and_half(
    experiments, tmp_path, terrablend, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    first = experiments("bands")
    both = experiments(
        "both", folds={"count": 3}, seed=9, members={"trees": {**TREES, "features": ["nir", "red", "dem"]}}
    )
    words = ("compare", first, both, "--labels", "1.0,0.5", "--workers", 1)
    done = terrablend(*words)
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "comparison" / "comparison.csv").read_text().splitlines()))
    assert [f"{row['experiment']} {row['labels']}" for row in rows] == ["bands 1", "both 1", "bands 0.5", "both 0.5"]
    assert rows[0]["gain"] == "" != rows[1]["gain"]
    assert float(rows[1]["gain"]) == pytest.approx(float(rows[1]["score"]) - float(rows[0]["score"]), abs=2e-6)
    assert int(rows[2]["groups"]) < int(rows[0]["groups"])
    runs = ("bands", "both", "bands-labels-0.5", "both-labels-0.5")
    catalogues = [Catalogue.load(tmp_path / "comparison" / run / "catalogue.parquet") for run in runs]
    folds = [{scene.id: (scene.group, scene.fold) for scene in catalogue.scenes} for catalogue in catalogues]
    assert folds[0] == folds[1] == folds[2] == folds[3]
    hidden = {scene.id for scene in catalogues[2].scenes if (read_label(scene) == 255).all()}
    assert hidden == {scene.id for scene in catalogues[3].scenes if not catalogues[3].label_counts(scene.id).any()}
    assert 0 < len(hidden) < len(catalogues[2].scenes)
    # All scenes are mapped and scored, also those whose labels were hidden.
    assert len(list((tmp_path / "comparison/both-labels-0.5/members/trees/oof").glob("*.tif"))) == len(folds[0])
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "comparison").rglob("fold*.txt")}
    again = terrablend(*words)
    assert again.out == done.out
    assert {path: path.stat().st_mtime_ns for path in before} == before

    label = next((tmp_path / "train_kelp").glob("*.tif"))
    other = tmp_path / "others"
    other.mkdir()
    for path in (tmp_path / "train_kelp").glob("*.tif"):
        (other / path.name).write_bytes(path.read_bytes())
    with maybe_ungeoreferenced(), rasterio.open(other / label.name, "r+") as raster:
        raster.write(1 - raster.read())
    values = yaml.safe_load(both.read_text())
    values["scenes"]["train"]["label"] = "others/{id}_kelp.tif"
    both.write_text(yaml.safe_dump(values))
    refused = terrablend("compare", first, both, "-o", "second", "--workers", 1)
    assert refused.code == 2
    assert f"got others in {label.stem.removesuffix('_kelp')}" in " ".join(refused.err.split())
