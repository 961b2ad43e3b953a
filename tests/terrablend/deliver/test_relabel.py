"""From a verdict in the audit to a corrected label: only what was judged changes, and originals never do."""

import sqlite3
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio

from data.errors import EnsembleError, OutputError
from data.files import write_json
from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import LabelFile, Scene
from data.scenes.windows import Grid
from data.settings import LabelSettings
from ensemble.audit.geopackage import Layer, read_geopackage, write_geopackage
from ensemble.audit.outlines import to_coordinates, trace_outlines
from terrablend.deliver.relabel import relabel_scenes

from ...ensemble.conftest import KELP

UTM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)


@pytest.fixture
def judged(tmp_path):
    """Return a run of two scenes, its audit and the masks of its two regions."""
    labels = tmp_path / "data" / "masks"
    labels.mkdir(parents=True)
    scenes, masks, layers = [], {}, []
    for number, (crs, transform) in enumerate([("EPSG:32610", UTM), (None, None)]):
        values = np.zeros((20, 30), np.uint8)
        values[2:6, 3:9] = 7
        path = labels / f"s{number}.tif"
        place = {} if crs is None else {"crs": crs, "transform": rasterio.Affine(*transform)}
        size = {"width": 30, "height": 20, "count": 1, "dtype": "uint8"}
        with maybe_ungeoreferenced(), rasterio.open(path, "w", driver="GTiff", **size, **place) as raster:
            raster.write(values, 1)
        grid = Grid(20, 30, crs, transform)
        scenes.append(Scene(f"s{number}", "train", (), grid, LabelFile(str(path), ((0, 0), (7, 1))), fold=number))
        mask = np.zeros((20, 30), bool)
        mask[10:14, 5 + number : 9 + number] = True
        mask[11:13, 6 + number] = False
        masks[f"s{number}"] = mask
        values = {"scene": f"s{number}", "label": "background", "prediction": "kelp", "verdict": "", "corrected": ""}
        layers.append(Layer(f"layer{number}", crs, [(to_coordinates(trace_outlines(mask), grid), values)]))
    audit = tmp_path / "audit.gpkg"
    write_geopackage(audit, layers)

    train = SimpleNamespace(label=LabelSettings(path="masks/{id}.tif"))
    experiment = SimpleNamespace(root=tmp_path / "data", scenes=SimpleNamespace(train=train))
    catalogue = Catalogue(KELP, (), tuple(scenes))
    return SimpleNamespace(stages=(), experiment=experiment, load_catalogue=lambda: catalogue), audit, masks


def judge(audit, layer, **values):
    with closing(sqlite3.connect(audit)) as database:
        for name, value in values.items():
            database.execute(f'UPDATE "{layer}" SET {name} = ?', (value,))
        database.commit()


def read(path):
    with maybe_ungeoreferenced(), rasterio.open(path) as raster:
        return raster.read(1)


def test_what_is_written_is_read_back(judged):
    _, audit, masks = judged
    layers = read_geopackage(audit)
    assert [layer.name for layer in layers] == ["layer0", "layer1"]
    assert layers[1].crs is None
    for layer, scene in zip(layers, masks, strict=True):
        [(polygons, values)] = layer.features
        assert values["scene"] == scene
        assert len(polygons[0]) == 2  # the outline and a hole


def test_only_regions_that_are_wrong_get_the_class_that_is_there(judged):
    run, audit, masks = judged
    originals = {path.name: path.read_bytes() for path in (run.experiment.root / "masks").iterdir()}
    judge(audit, "layer0", verdict="wrong")
    judge(audit, "layer1", verdict="right")
    text = relabel_scenes(run, audit)
    out = run.experiment.root / "masks_corrected"
    expected = read(run.experiment.root / "masks" / "s0.tif")
    expected[masks["s0"]] = 7
    np.testing.assert_array_equal(read(out / "s0.tif"), expected)
    assert (out / "s1.tif").read_bytes() == originals["s1.tif"]
    assert {path.name: path.read_bytes() for path in (run.experiment.root / "masks").iterdir()} == originals
    assert f"1 of 2 labels corrected (s0 {masks['s0'].sum()} px)" in text
    assert "scenes.train.label: masks_corrected/{id}.tif" in text
    # A second look writes over what the first one wrote.
    judge(audit, "layer1", verdict="Wrong", corrected="background")
    assert "(s0 14 px, s1 0 px)" in relabel_scenes(run, audit)


def test_an_audit_without_a_verdict_or_with_unknown_words_is_refused(judged):
    run, audit, _ = judged
    with pytest.raises(EnsembleError, match="expected regions with the verdict wrong, got none"):
        relabel_scenes(run, audit)
    judge(audit, "layer0", verdict="maybe")
    with pytest.raises(EnsembleError, match="expected the verdict right or wrong, or none, got maybe"):
        relabel_scenes(run, audit)
    judge(audit, "layer0", verdict="wrong", corrected="kelpp")
    with pytest.raises(EnsembleError, match=r"one of its classes, got kelpp \(nearest: kelp\)"):
        relabel_scenes(run, audit)
    audit.write_bytes(b"no database")
    with pytest.raises(EnsembleError, match=r"audit\.gpkg: expected a GeoPackage of polygons"):
        relabel_scenes(run, audit)


def test_a_folder_of_somebody_else_is_left_alone(judged):
    run, audit, _ = judged
    judge(audit, "layer0", verdict="wrong")
    out = run.experiment.root / "masks_corrected"
    out.mkdir()
    write_json(out / "mine.json", {})
    with pytest.raises(OutputError, match="got one of somebody else's"):
        relabel_scenes(run, audit)
    assert [path.name for path in out.iterdir()] == ["mine.json"]
