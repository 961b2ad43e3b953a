import json

import numpy as np
import pytest
import rasterio
import yaml

from data.errors import ExperimentError
from terrablend.start.init import guess_experiment


@pytest.fixture
def items(write_raster, tmp_path):
    """Write eight items with an image of two bands and a label."""
    for number in range(8):
        rng = np.random.default_rng(number)
        kelp = np.zeros((32, 32), np.uint8)
        kelp[:, :12] = 1
        place = {"transform": (10.0, 0.0, 500_000.0 + 320 * number, 0.0, -10.0, 4_600_000.0), "crs": "EPSG:32630"}
        write_raster(f"sea/{number}/red.tif", (rng.normal(900, 20, (32, 32)) + 90 * kelp).astype(np.uint16), **place)
        write_raster(f"sea/{number}/nir.tif", (rng.normal(800, 20, (32, 32)) - 90 * kelp).astype(np.uint16), **place)
        write_raster(f"sea/{number}/truth.tif", kelp, **place)
        facts = {"raster:bands": [{"scale": 0.001, "offset": -0.5}], "type": "image/tiff; application=geotiff"}
        assets = {
            "B04": {"href": "red.tif", "eo:bands": [{"common_name": "red"}], **facts},
            "B08": {"href": "nir.tif", "eo:bands": [{"common_name": "nir"}], **facts},
            "truth": {"href": "truth.tif", "roles": ["labels"], "type": "image/tiff; application=geotiff"},
            "preview": {"href": "preview.png", "roles": ["thumbnail"]},
            "metadata": {"href": "MTD.xml", "roles": ["metadata"]},
        }
        item = {"type": "Feature", "stac_version": "1.0.0", "id": f"T/{number}", "properties": {}, "assets": assets}
        (tmp_path / f"sea/{number}/item.json").write_text(json.dumps(item))
    return tmp_path / "sea"


def test_a_folder_of_items_is_recognised(items):
    guessed = guess_experiment(items)
    assert guessed["scenes"]["train"] == {"image": {"stac": ".", "assets": ["red", "nir"]}, "label": {"asset": "truth"}}
    assert guessed["task"] == "binary"
    for path in items.glob("*/item.json"):
        item = json.loads(path.read_text())
        del item["assets"]["truth"]
        path.write_text(json.dumps(item))
    with pytest.raises(ExperimentError, match="expected labels of the 8 STAC items"):
        guess_experiment(items)


@pytest.mark.slow
def test_items_are_learned_from_and_mapped(items, tmp_path, terrablend, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert terrablend("init", items, "-o", "sea.yaml").code == 0
    values = yaml.safe_load((tmp_path / "sea.yaml").read_text())
    values["members"] = {"trees": {"branch": "trees", "rounds": 20}}
    values["folds"] = {"count": 2}
    values["features"] = {"indices": [], "context": {"of": []}}
    (tmp_path / "sea.yaml").write_text(yaml.safe_dump(values))
    done = terrablend("run", "sea.yaml", "--workers", 1)
    assert done.code == 0, done.err
    mapped = terrablend("predict", "runs/sea", items / "3/item.json", "-o", "out", "--workers", 1)
    assert mapped.code == 0, mapped.err
    with rasterio.open(tmp_path / "out/T_3_classes.tif") as raster, rasterio.open(items / "3/truth.tif") as truth:
        assert (raster.read(1) == truth.read(1)).mean() > 0.9
    refused = terrablend("predict", "runs/sea", items / "3/red.tif", "-o", "out", "--workers", 1)
    assert refused.code == 2
    assert "expected STAC items, got" in refused.err


def test_a_folder_of_embeddings_is_recognised(write_raster, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        codes = rng.integers(-127, 128, (64, 8, 8)).astype(np.int8)
        write_raster(f"img/{name}.tif", codes, nodata=-128)
        write_raster(f"mask/{name}.tif", rng.integers(0, 2, (8, 8)).astype(np.uint8))
    train = guess_experiment(tmp_path)["scenes"]["train"]
    assert train["image"] == [{"path": "img/{id}.tif", "bands": ["A00..A63"], "decode": "alphaearth"}]
