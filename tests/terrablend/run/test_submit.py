import csv
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import rasterio
import yaml

from data.files import hash_file
from data.maps.geotiff import map_names, read_map
from data.scenes.rasters import maybe_ungeoreferenced, read_grid

from ..conftest import EXPERIMENT, write_small_coast


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    """Return the experiment file of a small coast with trees alone."""
    members = {"lightgbm": {"branch": "trees", "rounds": 5, "leaves": 5}}
    return write_small_coast(
        tmp_path_factory.mktemp("submitted"), members=members, ensemble={**EXPERIMENT["ensemble"], "cleaning": "none"}
    )


@pytest.fixture
def submit(coast, terrablend):
    """Return a function that submits with some settings from a run that is otherwise finished."""
    run = coast.parent / "run"

    def submit(**settings):
        changes = [f"--set=submission.{key}={json.dumps(value)}" for key, value in settings.items()]
        command = "submit" if (run / "stages" / "submit.json").exists() else "run"
        outcome = terrablend(command, coast, "--run", run, "--workers", 1, "--overwrite", *changes)
        return outcome, run

    return submit


def test_each_submission_is_logged_and_earlier_rows_stay(submit):
    outcome, run = submit(format="kelp")
    assert outcome.code == 0, outcome.err
    before = (run / "submissions.csv").read_text()
    outcome, _ = submit(format="png", uncertainty=True, proba=True)
    assert outcome.code == 0, outcome.err
    log = (run / "submissions.csv").read_text()
    assert log.startswith(before)
    rows = list(csv.DictReader(log.splitlines()))
    assert [row["format"] for row in rows][-2:] == ["kelp", "png"]
    assert rows[-1]["sha256"] == hash_file(run / "submission.zip")
    scores = pl.read_parquet(run / "ensemble" / "scores.parquet")
    assert float(rows[-1]["score"]) in scores["value"].to_list()
    # The class lies in too few groups for an interval.
    assert math.isnan(float(rows[-1]["low"]))
    assert math.isnan(float(rows[-1]["high"]))
    assert rows[-1]["settings"] != rows[-2]["settings"]
    assert rows[-1]["model"] == rows[-2]["model"]


def test_other_layers_lie_beside_the_class_maps_and_go_when_they_are_not_asked_for(submit):
    outcome, run = submit(format="geotiff", uncertainty=True, proba=True, sets=True)
    assert outcome.code == 0, outcome.err
    names = {path.name for path in (run / "maps").glob("*.tif")}
    assert names
    for folder, bands in (("proba", ("kelp",)), ("uncertainty", ("entropy", "margin", "disagreement"))):
        styles = {Path(name).with_suffix(".qml").name for name in names}
        assert {path.name for path in (run / folder).iterdir()} == names | styles
        for name in names:
            assert map_names(run / folder / name) == bands
            assert read_grid(str(run / folder / name))[0] == read_grid(str(run / "maps" / name))[0]
    # A member alone agrees with itself.
    stored = read_map(run / "uncertainty" / min(names))
    assert np.isin(stored[2], [0, 65535]).all()
    for name in names:
        with maybe_ungeoreferenced(), rasterio.open(run / "sets" / name) as raster:
            sets = raster.read()
            assert raster.descriptions == ("background", "kelp")
        assert set(np.unique(sets)) <= {0, 1, 255}
        assert (sets.max(axis=0) > 0).all()
    saved = (run / "maps" / min(names)).with_suffix(".qml")
    saved.write_text("<qgis/>")
    submit(format="geotiff")
    assert not any((run / folder).exists() for folder in ("proba", "uncertainty", "sets"))
    # What was saved in QGIS is nobody else's to write or remove.
    assert saved.read_text() == "<qgis/>"


def test_a_table_of_the_users_own_columns(submit, coast):
    outcome, run = submit(format="rle", columns={"file": "{id}.tif", "pixels": "{runs}"})
    assert outcome.code == 0, outcome.err
    lines = (run / "submission.csv").read_text().splitlines()
    tests = {path.name.removesuffix("_satellite.tif") for path in (coast.parent / "test").glob("*.tif")}
    assert lines[0] == "file,pixels"
    assert {line.split(",")[0] for line in lines[1:]} == {f"{scene}.tif" for scene in tests}
    assert yaml.safe_load((run / "experiment.yaml").read_text())["submission"]["columns"]["pixels"] == "{runs}"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"format": "tags"}, "submission.format tags: expected the task multilabel, got binary"),
        ({"format": "polygons"}, "expected scenes with coordinates"),
        ({"format": "png", "columns": {"a": "{id}"}}, "expected columns with format rle or tags alone"),
        ({"format": "geotif"}, "submission.format: Input should be"),
    ],
)
def test_what_cannot_be_submitted_is_one_message(submit, settings, message):
    outcome, _ = submit(**settings)
    assert outcome.code == 2
    assert message in outcome.err.replace("\n", " ")


def test_an_archive_is_a_file_for_every_scene(submit, coast):
    outcome, run = submit(format="png")
    assert outcome.code == 0, outcome.err
    with zipfile.ZipFile(run / "submission.zip") as archive:
        assert len(archive.namelist()) == len(list((coast.parent / "test").glob("*.tif")))
