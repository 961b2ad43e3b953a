import numpy as np
import pytest
import rasterio
import xarray
from affine import Affine

import terrablend as tb
from data.errors import FeatureError
from data.scenes.image import ImageFile
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from features.feature_set import FeatureSet

BANDS = ["red", "nir", "green"]


@pytest.fixture
def pixels():
    rng = np.random.default_rng(0)
    values = rng.uniform(0.01, 1, (3, 40, 53)).astype(np.float32)
    values[:, 5:9, 30:35] = np.nan
    return values


def test_features_of_an_array_are_those_of_a_file(pixels, tmp_path):
    path = tmp_path / "scene.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=3,
        height=40,
        width=53,
        dtype="float32",
        crs="EPSG:32633",
        transform=Affine(10, 0, 5e5, 0, -10, 4e6),
    ) as raster:
        raster.write(pixels)
    names = ["red", "NDVI", "nir_mean_r3", "NDVI_std_r1", "red_gradient_r2"]
    scene = Scene("s", "test", (ImageFile(str(path), tuple(BANDS)),), Grid(40, 53))
    expected = FeatureSet(BANDS, names).compute(scene)
    np.testing.assert_array_equal(tb.features(pixels, names, bands=BANDS), expected)


def test_indices_and_context_are_named(pixels):
    labelled = xarray.DataArray(
        pixels,
        dims=("band", "y", "x"),
        coords={"band": BANDS, "y": np.arange(40) * -10.0, "x": np.arange(53) * 10.0},
        attrs={"crs": "EPSG:32633"},
    )
    found = tb.spectral_indices(labelled, which=["NDVI", "GNDVI"])
    assert found.dims == ("band", "y", "x")
    assert found.coords["band"].values.tolist() == ["NDVI", "GNDVI"]
    assert found.attrs == labelled.attrs
    assert (found.y.values == labelled.y.values).all()
    with np.errstate(invalid="ignore"):
        expected = (pixels[1] - pixels[0]) / (pixels[1] + pixels[0])
    np.testing.assert_allclose(found.sel(band="NDVI").values, expected, rtol=1e-6)
    assert len(tb.spectral_indices(labelled)) > 20
    around = tb.context(labelled, of=["NDVI"], radii=[2], statistics=["mean", "max"])
    assert around.coords["band"].values.tolist() == ["NDVI_mean_r2", "NDVI_max_r2"]


def test_a_pixel_table_has_all_positives_and_weights_that_sum_to_the_pixels(pixels):
    label = np.zeros((40, 53), np.uint8)
    label[10:13, 20:24] = 1
    label[:, 0] = 255
    table = tb.pixel_table(
        {"one": pixels},
        {"one": label},
        bands=BANDS,
        classes=["kelp"],
        context={"radii": [1], "statistics": ["mean"]},
        sample={"buffer": 2, "negatives": 50},
    )
    assert (table["label"] == 1).sum() == 12
    assert table["weight"].sum() == pytest.approx((np.isfinite(pixels[0]) & (label != 255)).sum())
    row = table.row(0, named=True)
    assert row["red"] == pixels[0, row["row"], row["col"]]
    assert "red_mean_r1" in table.columns
    assert set(table["stratum"]) == {"positive", "ring", "other"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tb.features(x, ["NDVI"]), "expected bands, one name a plane"),
        (lambda x: tb.features(x, ["NDVI"], bands=["red"]), r"expected planes \(1, H, W\)"),
        (lambda x: tb.features(x, ["NDBI"], bands=BANDS), "NDBI"),
        (lambda x: tb.pixel_table({"a": x}, {}, bands=BANDS), "scene a: expected a label"),
        (lambda x: tb.pixel_table({}, {}, bands=BANDS), "expected scenes by id"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(pixels, call, message):
    with pytest.raises(FeatureError, match=message):
        call(pixels)
