import base64
import html
import io

import numpy as np
import polars as pl
import pytest
import rasterio
import yaml
from PIL import Image
from rasterio import warp

import terrablend as tb
from data.errors import ExperimentError, SceneError, TerrablendError
from data.maps.geotiff import dequantise, read_map
from data.scenes.windows import Grid
from terrablend.api.explore import place_on_web_map


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return a run on three small scenes, trained from Python, and the folder of its images."""
    root = tmp_path_factory.mktemp("coast")
    rng = np.random.default_rng(0)
    for number in range(6):
        label = np.zeros((48, 40), np.uint8)
        label[8:28, 6 + number : 20 + number] = 1
        image = rng.normal(0.3, 0.05, (2, 48, 40)) + 0.2 * label
        for folder, values in (("img", image.astype(np.float32)), ("mask", label[None])):
            path = root / folder / f"s{number}.tif"
            path.parent.mkdir(exist_ok=True)
            with rasterio.open(
                path,
                "w",
                driver="GTiff",
                count=len(values),
                height=48,
                width=40,
                dtype=values.dtype,
                crs="EPSG:32633",
                transform=rasterio.Affine(10, 0, 5e5 + 1e4 * number, 0, -10, 4e6),
            ) as raster:
                raster.write(values)
    experiment = {
        "name": "coast",
        "task": "binary",
        "root": str(root),
        "scenes": {"bands": ["red", "nir"], "train": {"image": "img/{id}.tif", "label": "mask/{id}.tif"}},
        "classes": {1: "kelp"},
        "folds": {"count": 3},
        "features": {"context": {"radii": [1], "statistics": ["mean"]}},
        "members": {"lightgbm": {"branch": "trees", "rounds": 20, "leaves": 7, "min_leaf_rows": 10}},
    }
    return tb.train(experiment, root / "run", workers=1, progress=False), root


def test_a_run_tells_what_it_found(trained):
    run, root = trained
    assert run.members == ("lightgbm",)
    assert run.ensemble.score_ > 0.8
    assert run.scores.filter(pl.col("candidate") == "lightgbm").height > 0
    table = run.table().select("scene", "red", "red_mean_r1", "weight", "fold").collect()
    assert table["weight"].sum() == pytest.approx(6 * 48 * 40)
    page = run.report()
    assert html.escape(page.path.read_text("utf-8"))[:200] in page._repr_html_()
    again = tb.open_run(root / "run")
    assert again.ensemble == run.ensemble


def test_out_of_fold_maps_are_labelled_arrays(trained):
    run, root = trained
    oof = run.oof("lightgbm")
    assert list(oof) == [f"s{number}" for number in range(6)]
    proba = oof["s2"]
    assert proba.dims == ("class", "y", "x")
    assert proba.coords["class"].values.tolist() == ["kelp"]
    stored = dequantise(read_map(root / "run" / "members" / "lightgbm" / "oof" / "s2.tif"))
    np.testing.assert_array_equal(proba.values, stored)
    assert (float(proba.x[0]), float(proba.y[0])) == (5e5 + 2e4 + 5, 4e6 - 5)
    with pytest.raises(ExperimentError, match="expected a member among lightgbm, got unet"):
        run.oof("unet")


def test_files_and_arrays_are_mapped_alike(trained):
    run, root = trained
    path = root / "img" / "s1.tif"
    from_file = run.predict(path)
    assert from_file.dims == ("y", "x")
    assert set(np.unique(from_file)) == {0, 1}
    import xarray

    with rasterio.open(path) as raster:
        values = raster.read()
    coords = {"band": ["red", "nir"], "y": from_file.y, "x": from_file.x}
    array = xarray.DataArray(values, dims=("band", "y", "x"), coords=coords, attrs={"crs": "EPSG:32633"})
    from_array = run.predict(array)
    np.testing.assert_array_equal(from_array.values, from_file.values)
    assert (from_array.x == from_file.x).all()
    assert (from_array.y == from_file.y).all()
    with pytest.raises(TerrablendError):
        run.predict(array[:1])


def test_a_scene_is_explored_on_a_map(trained):
    folium = pytest.importorskip("folium")
    run, root = trained
    widget = run.explore("s2", side=24)
    overlays = {
        child.layer_name: child
        for child in widget._children.values()
        if isinstance(child, folium.raster_layers.ImageOverlay)
    }
    assert list(overlays) == ["picture", "lightgbm", "map", "label", "errors"]
    layers = {
        name: np.asarray(Image.open(io.BytesIO(base64.b64decode(overlay.url.partition(",")[2]))))
        for name, overlay in overlays.items()
    }
    assert layers["map"].shape[-1] == 4
    [[south, west], [north, east]] = overlays["map"].bounds
    x, y = warp.transform("EPSG:4326", "EPSG:32633", [west, east], [north, south])
    assert x == pytest.approx([5.2e5, 5.2e5 + 400], abs=25)
    assert y == pytest.approx([4e6, 4e6 - 480], abs=25)
    with rasterio.open(root / "mask" / "s2.tif") as raster:
        kelp = raster.read(1)[::2, ::2].mean()
    assert (layers["label"][..., 3] > 0).mean() == pytest.approx(kelp, abs=0.05)
    assert ((layers["map"][..., 3] > 0) == (layers["label"][..., 3] > 0)).mean() > 0.85
    assert layers["lightgbm"][layers["label"][..., 3] > 0, 3].mean() > layers["lightgbm"][..., 3].mean() + 40
    with pytest.raises(SceneError, match="expected a scene among s0, s1"):
        run.explore("s9")


def test_layers_of_a_scene_that_lies_nowhere_are_as_they_are():
    layer = np.zeros((3, 5, 4), np.uint8)
    same, bounds = place_on_web_map(layer, Grid(6, 9), 2)
    assert same is layer
    assert bounds == [[0, 0], [6, 10]]


def test_experiments_are_checked_as_files_are(trained, tmp_path):
    with pytest.raises(ExperimentError, match="problems:"):
        tb.train({"name": "x"}, tmp_path / "run")
    with pytest.raises(ExperimentError, match="expected an experiment file"):
        tb.open_run(tmp_path)
    run, root = trained
    file = tmp_path / "coast.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load((root / "run" / "experiment.yaml").read_text())))
    assert tb.train(file, root / "run", workers=1, progress=False).ensemble == run.ensemble


def test_runs_on_tables(small_table, tmp_path):
    run = tb.train(small_table, tmp_path / "run", workers=1, progress=False)
    assert len(run.oof("lightgbm")) == 360
    with pytest.raises(ExperimentError, match="expected a run on scenes"):
        run.predict("scene.tif")
