from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.enums import Resampling
from rasterio.rpc import RPC
from rasterio.vrt import WarpedVRT
from rasterio.warp import reproject

from data.errors import SceneError
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.image import ImageFile
from data.scenes.placement import FINEST, Framing, place_images, place_label
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.windows import Window

SIZE = (560, 640)
UTM = CRS.from_epsg(32630)
DEGREES = CRS.from_epsg(4326)


def ground(row, col):
    """Places of pixels of 10 m, turned and a little bent."""
    x = 500_000 + 9.5 * col - 2.5 * row + 2e-4 * col * col
    return x, 4_600_000 - 2.0 * col - 9.8 * row + 1e-4 * row * col


def points(places=ground, step=5):
    return [
        GroundControlPoint(row, col, *places(row, col))
        for row in np.linspace(0, SIZE[0], step)
        for col in np.linspace(0, SIZE[1], step)
    ]


def terms(**values):
    return [float(values.get(f"c{place}", 0)) for place in range(20)]


MODEL = RPC(
    height_off=100.0,
    height_scale=500.0,
    lat_off=41.5,
    lat_scale=0.05,
    long_off=-3.0,
    long_scale=0.06,
    line_off=280.0,
    line_scale=280.0,
    samp_off=320.0,
    samp_scale=320.0,
    line_num_coeff=terms(c1=0.1, c2=-1, c3=0.05, c4=0.01),
    line_den_coeff=terms(c0=1),
    samp_num_coeff=terms(c1=1, c2=0.1, c3=0.08),
    samp_den_coeff=terms(c0=1),
    err_bias=None,
    err_rand=None,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of one band that vary smoothly, placed by points, by a model, and by nothing; and hills."""
    folder = tmp_path_factory.mktemp("control")
    rows, cols = np.indices(SIZE)
    values = (500 + rows + 2 * cols + 40 * np.sin(rows / 30) * np.cos(cols / 25)).astype(np.float32)
    values[100:140, 200:330] = -1
    label = ((rows // 40 + cols // 40) % 2).astype(np.uint8)
    for name, array in (
        ("points", values),
        ("model", values),
        ("bare", values),
        ("label", label),
        ("bare_label", label),
    ):
        with (
            maybe_ungeoreferenced(),
            rasterio.open(
                folder / f"{name}.tif",
                "w",
                driver="GTiff",
                height=SIZE[0],
                width=SIZE[1],
                count=1,
                dtype=array.dtype,
                nodata=-1 if array is values else None,
            ) as raster,
        ):
            raster.write(array, 1)
            if name in ("points", "label"):
                raster.gcps = points(), UTM
            if name == "model":
                raster.rpcs = MODEL
    rows, cols = np.indices((90, 90))
    with rasterio.open(
        folder / "hills.tif",
        "w",
        driver="GTiff",
        height=90,
        width=90,
        count=1,
        dtype="float32",
        crs="EPSG:4326",
        transform=rasterio.Affine(0.003, 0, -3.135, 0, -0.003, 41.635),
    ) as raster:
        raster.write((300 + 250 * np.sin(rows / 9) * np.sin(cols / 7)).astype(np.float32), 1)
    return folder


def open_scene(*images, framing=FINEST):
    placed, grid, warnings = place_images(images, framing)
    return Scene("a", "train", placed, grid), warnings


def by_rasterio(path, crs):
    """Return the values and the grid of a file as rasterio warps it when nothing else is asked of it."""
    with (
        maybe_ungeoreferenced(),
        rasterio.open(path) as raster,
        WarpedVRT(raster, src_crs=crs, crs=crs, resampling=Resampling.cubic, nodata=-1) as warped,
    ):
        values = warped.read(1)
        return np.where(values == -1, np.nan, values), warped.shape, warped.transform


def require_close(found, expected):
    """Allow for the eighth of a pixel by which GDAL's warper may be off, and for the rim of what has no data."""
    assert 0.4 < np.isfinite(expected).mean() < 1
    assert (np.isfinite(found) == np.isfinite(expected)).mean() > 0.995
    assert np.nanquantile(np.abs(found - expected), 0.99) < 0.6


@pytest.mark.parametrize(("name", "crs"), [("points", UTM), ("model", DEGREES)])
def test_the_only_image_of_a_scene_lies_on_the_grid_that_gdal_suggests(folder, name, crs):
    scene, warnings = open_scene(ImageFile(str(folder / f"{name}.tif"), ("red",)))
    expected, shape, transform = by_rasterio(folder / f"{name}.tif", crs)
    assert (scene.grid.height, scene.grid.width) == shape
    assert scene.grid.transform == pytest.approx(tuple(transform)[:6])
    assert CRS.from_wkt(scene.grid.crs) == crs
    require_close(read_scene(scene)[0], expected)
    assert [("height 0" in warning) for warning in warnings] == [True] * (name == "model")


@pytest.mark.parametrize("name", ["points", "model"])
def test_one_of_several_files_is_warped_once_onto_the_grid_of_the_others(folder, name, write_raster):
    place = rasterio.Affine(8, 0, 499_000, 0, -8, 4_600_100)
    if name == "model":
        place = rasterio.Affine(8, 0, 496_000, 0, -8, 4_598_000)
    other = write_raster("other.tif", np.ones((1, 700, 750)), crs="EPSG:32630", transform=place)
    file = ImageFile(str(folder / f"{name}.tif"), ("nir",), resampling="bilinear")
    scene, _ = open_scene(ImageFile(str(other), ("red",)), file, framing=Framing((0,)))
    assert scene.grid.transform == tuple(place)[:6]
    with maybe_ungeoreferenced(), rasterio.open(folder / f"{name}.tif") as raster:
        values = raster.read(1)
        source = {"gcps": raster.gcps[0], "src_crs": UTM} if name == "points" else {"rpcs": MODEL, "src_crs": DEGREES}
    expected = np.full((700, 750), np.nan, np.float32)
    reproject(
        np.where(values == -1, np.nan, values),
        expected,
        **source,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        dst_crs=UTM,
        dst_transform=place,
        resampling=Resampling.bilinear,
    )
    whole = read_scene(scene, bands=["nir"])[0]
    require_close(whole, expected)
    for window in (Window(500, 490, 40, 60), Window(-5, 100, 30, 30), Window(90, 505, 1, 1)):
        room = np.pad(whole, 50, constant_values=np.nan)
        inner = room[window.row + 50 :, window.col + 50 :][: window.height, : window.width]
        np.testing.assert_array_equal(read_scene(scene, window, bands=["nir"])[0], inner)


def test_a_sensor_model_takes_the_elevations_that_are_named(folder):
    file = ImageFile(str(folder / "model.tif"), ("red",))
    flat, _ = open_scene(file)
    scene, warnings = open_scene(file, framing=Framing(heights=str(folder / "hills.tif")))
    assert warnings == []
    found = read_scene(replace(flat, images=scene.images))[0]
    expected = np.full(found.shape, np.nan, np.float32)
    with maybe_ungeoreferenced(), rasterio.open(folder / "model.tif") as raster:
        values = raster.read(1)
    reproject(
        np.where(values == -1, np.nan, values),
        expected,
        rpcs=MODEL,
        RPC_DEM=str(folder / "hills.tif"),
        src_crs=DEGREES,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        dst_crs=DEGREES,
        dst_transform=rasterio.Affine(*flat.grid.transform),
        resampling=Resampling.cubic,
    )
    require_close(found, expected)
    assert np.nanmax(np.abs(found - read_scene(flat)[0])) > 20
    with pytest.raises(SceneError, match=r"none\.tif: expected a readable raster"):
        open_scene(file, framing=Framing(heights=str(folder / "none.tif")))


def test_labels_are_warped_like_their_image(folder):
    scene, _ = open_scene(ImageFile(str(folder / "points.tif"), ("red",)))
    meanings = ((0, 0), (1, 1))
    label, odd = place_label(LabelFile(str(folder / "label.tif"), meanings), scene.grid, scene.images)
    assert odd == ""
    found = read_label(replace(scene, label=label))
    with (
        maybe_ungeoreferenced(),
        rasterio.open(folder / "label.tif") as raster,
        WarpedVRT(raster, src_crs=UTM, crs=UTM, nodata=255) as warped,
    ):
        expected = warped.read(1)
    assert (found == expected).mean() > 0.99
    assert {*np.unique(found)} == {0, 1, 255}
    bare, odd = place_label(LabelFile(str(folder / "bare_label.tif"), meanings), scene.grid, scene.images)
    assert "says not where it lies, so its pixels are taken for those of" in odd
    np.testing.assert_array_equal(read_label(replace(scene, label=bare)), found)


def test_a_file_that_lies_nowhere_is_placed_like_one_of_its_size(folder):
    scene, warnings = open_scene(
        ImageFile(str(folder / "bare.tif"), ("nir",)), ImageFile(str(folder / "points.tif"), ("red",))
    )
    assert len(warnings) == 1
    np.testing.assert_array_equal(*read_scene(scene))


def test_a_catalogue_keeps_what_places_a_file(folder, tmp_path):
    scene, _ = open_scene(
        ImageFile(str(folder / "model.tif"), ("red",)), framing=Framing(heights=str(folder / "hills.tif"))
    )
    label, _ = place_label(LabelFile(str(folder / "bare_label.tif"), ((1, 1),)), scene.grid, scene.images)
    scene = replace(scene, label=label)
    Catalogue(Classes("binary", (1,), ("kelp",), ((1, 2, 3),)), ("red",), (scene,)).save(tmp_path / "a.parquet")
    assert Catalogue.load(tmp_path / "a.parquet").scenes == (scene,)


def write_points(path, given, crs):
    with maybe_ungeoreferenced(), rasterio.open(path, "r+") as raster:
        raster.gcps = given, crs
    return ImageFile(str(path), ("red",))


def test_points_that_place_nothing_are_named(write_raster):
    values = np.ones((1, *SIZE))
    straight = [GroundControlPoint(n * 50, n * 50, 500_000 + n, 4_600_000 - n) for n in range(4)]
    with pytest.raises(SceneError, match=r"line\.tif: expected control points or a sensor model that place it"):
        open_scene(write_points(write_raster("line.tif", values), straight, UTM))
    bare, [warning] = open_scene(write_points(write_raster("system.tif", values), points(), CRS()))
    assert bare.grid.transform is None
    assert "name no coordinate system" in warning


def test_points_that_a_polynomial_misses_are_told(write_raster):
    given = points()
    given[7] = GroundControlPoint(given[7].row + 40, given[7].col, given[7].x, given[7].y)
    _, [warning] = open_scene(write_points(write_raster("a.tif", np.ones((1, *SIZE))), given, UTM))
    assert "25 ground control points lie up to" in warning
    assert "gdalwarp -tps" in warning


def test_points_on_both_sides_of_the_date_line_are_one_place(write_raster):
    def around(row, col):
        lon = 179.9 + col * 4e-4 + row * 2e-5
        return (lon - 360 if lon > 180 else lon), -17 - row * 4e-4 + col * 1e-5

    file = write_points(write_raster("a.tif", np.ones((1, *SIZE))), points(around), DEGREES)
    scene, warnings = open_scene(file)
    assert warnings == []
    assert scene.grid.transform[0] < 1e-3
    assert np.isfinite(read_scene(scene)).mean() > 0.8
