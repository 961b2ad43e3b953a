import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.crs import CRS
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform

from data.errors import ExperimentError, SceneError
from data.scenes.grids import choose_grid, own_grid
from data.scenes.image import ImageFile
from data.scenes.placement import Framing, place_images, place_label
from data.scenes.rasters import read_grid
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.windows import Grid, Window

UTM = CRS.from_epsg(32630).to_wkt()
PLACE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0)
GRID = Grid(60, 80, UTM, PLACE)


def moved(cols=0.0, rows=0.0, step=1.0):
    a, b, c, d, e, f = PLACE
    return (a * step, b, c + a * cols, d, e * step, f + e * rows)


def scene_of(*images):
    placed, grid, warnings = place_images(images)
    return Scene("a", "train", placed, grid), warnings


def test_less_than_a_hundredth_of_a_pixel_is_the_same_grid():
    assert own_grid("a.tif", Grid(60, 80, UTM, moved(0.009)), GRID) == (None, "")
    off = Grid(60, 80, UTM, moved(0.02))
    assert own_grid("a.tif", off, GRID) == (off, "")


def test_a_coordinate_system_of_another_name_at_the_same_place_is_a_warning():
    named = CRS.from_proj4("+proj=utm +zone=30 +ellps=GRS80 +towgs84=0,0,0 +units=m +no_defs").to_wkt()
    own, warning = own_grid("a.tif", Grid(60, 80, named, PLACE), GRID)
    assert own is None
    assert "is taken for that of its scene" in warning


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid(60, 80, UTM, moved(10_000)), r"covers its scene, got one that lies 10,000 pixels \(1e\+05 m\) off"),
        (Grid(60, 80, CRS.from_epsg(32631).to_wkt(), PLACE), "expected a file that covers its scene"),
        (Grid(60, 80, None, moved(12)), r"lies 12 pixels \(120 m\) off, and it names no coordinate system"),
        (Grid(61, 80), "expected 60 × 80 pixels like its scene, got 61 × 80"),
    ],
)
def test_a_file_that_lies_elsewhere_is_refused_with_the_distance(grid, message):
    with pytest.raises(SceneError, match=message):
        own_grid("a.tif", grid, GRID)


def test_the_grid_of_a_scene_is_that_of_its_finest_file():
    coarse = Grid(30, 40, UTM, moved(step=2))
    fine = Grid(50, 50, CRS.from_epsg(4326).to_wkt(), (5e-5, 0, -3, 0, -5e-5, 41))
    assert choose_grid([coarse, GRID]) is GRID
    assert choose_grid([GRID, coarse, fine]) is fine
    assert choose_grid([GRID, Grid(9, 9, UTM, moved(5))]) is GRID


def test_bands_of_nested_grids_keep_their_values(write_raster):
    fine = np.arange(60 * 80, dtype=np.int16).reshape(60, 80)
    coarse = np.arange(10 * 14, dtype=np.int16).reshape(10, 14)
    scene, warnings = scene_of(
        ImageFile(str(write_raster("c.tif", coarse, transform=moved(step=6), crs="EPSG:32630", nodata=5)), ("coarse",)),
        ImageFile(str(write_raster("f.tif", fine, transform=PLACE, crs="EPSG:32630")), ("fine",)),
    )
    assert warnings == []
    assert scene.grid.transform == PLACE
    pixels = read_scene(scene)
    expected = coarse.astype(np.float32).repeat(6, 0).repeat(6, 1)[:60, :80]
    np.testing.assert_array_equal(pixels[0], np.where(expected == 5, np.nan, expected))
    np.testing.assert_array_equal(pixels[1], fine)


def test_a_file_stored_from_south_to_north_is_turned(write_raster):
    values = np.arange(60 * 80, dtype=np.float32).reshape(60, 80)
    upside = (10.0, 0.0, 500_000.0, 0.0, 10.0, 4_600_000.0 - 600)
    scene, _ = scene_of(
        ImageFile(str(write_raster("n.tif", values, transform=PLACE, crs="EPSG:32630")), ("north",)),
        ImageFile(str(write_raster("s.tif", values[::-1], transform=upside, crs="EPSG:32630")), ("south",)),
    )
    np.testing.assert_array_equal(*read_scene(scene))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A scene of two files, one of them in another zone, with holes, larger than a block of the warper."""
    folder, rng = tmp_path_factory.mktemp("warp"), np.random.default_rng(0)
    grid = Grid(700, 600, UTM, PLACE)
    values = rng.normal(100, 10, (300, 320)).astype(np.float32)
    values[40:60, 70:200] = -1
    [x], [y] = transform("EPSG:32630", "EPSG:32631", [499_000], [4_600_500])
    place = rasterio.Affine(31.0, 0, x, 0, -29.0, y)
    options = {"driver": "GTiff", "count": 1, "dtype": "float32"}
    with rasterio.open(
        folder / "far.tif", "w", height=300, width=320, crs="EPSG:32631", transform=place, nodata=-1, **options
    ) as raster:
        raster.write(values, 1)
    with rasterio.open(
        folder / "near.tif", "w", height=700, width=600, crs="EPSG:32630", transform=rasterio.Affine(*PLACE), **options
    ) as raster:
        raster.write(np.ones((1, 700, 600), np.float32))
    images = (ImageFile(str(folder / "near.tif"), ("near",)), ImageFile(str(folder / "far.tif"), ("far",)))
    placed, found, _ = place_images(images)
    assert (found.height, found.width) == (grid.height, grid.width)
    scene = Scene("a", "train", placed, found)
    return scene, read_scene(scene, bands=["far"])[0], folder


def test_a_file_of_another_zone_is_what_gdal_warps_it_to(elsewhere):
    scene, pixels, folder = elsewhere
    assert scene.images[1].resampling == "cubic"
    with (
        rasterio.open(folder / "far.tif") as raster,
        WarpedVRT(
            raster,
            crs=scene.grid.crs,
            transform=rasterio.Affine(*PLACE),
            height=700,
            width=600,
            nodata=np.nan,
            resampling=rasterio.enums.Resampling.cubic,
            tolerance=0.01,
        ) as warped,
    ):
        expected = warped.read(1)
    assert np.isfinite(expected).mean() > 0.5
    assert (np.isfinite(pixels) == np.isfinite(expected)).mean() > 0.999
    # Both take the way from one zone to the other for straight within an eighth of a pixel.
    assert np.nanquantile(np.abs(pixels - expected), 0.99) < 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.integers(-20, 690), st.integers(-20, 590), st.integers(1, 90), st.integers(1, 90), st.integers(0, 9))
def test_a_window_of_a_warped_file_is_what_the_whole_holds_there(elsewhere, row, col, height, width, halo):
    scene, pixels, _ = elsewhere
    room = np.pad(pixels, 120, constant_values=np.nan)
    grown = Window(row, col, height, width).grow(halo)
    expected = room[grown.row + 120 :, grown.col + 120 :][: grown.height, : grown.width]
    np.testing.assert_array_equal(read_scene(scene, Window(row, col, height, width), halo, ["far"])[0], expected)


def test_a_label_is_read_where_it_lies(write_raster):
    label = np.random.default_rng(0).integers(0, 2, (60, 80), np.uint8)
    path = str(write_raster("m.tif", label, transform=moved(12, 7), crs="EPSG:32630"))
    placed, warning = place_label(LabelFile(path, ((0, 0), (1, 1))), GRID)
    assert warning == ""
    found = read_label(Scene("a", "train", (), GRID, placed))
    np.testing.assert_array_equal(found[7:, 12:], label[:-7, :-12])
    assert (found[:7] == 255).all()
    assert (found[:, :12] == 255).all()
    part = read_label(Scene("a", "train", (), GRID, placed), Window(5, 9, 20, 30))
    np.testing.assert_array_equal(part, found[5:25, 9:39])


def test_pixels_of_a_size_lie_at_multiples_of_it_over_the_same_ground(write_raster):
    place = rasterio.Affine(10, 0, 500_003, 0, -10, 4_600_000)
    path = str(write_raster("a.tif", np.ones((1, 20, 30)), crs="EPSG:32630", transform=place))
    images, grid, _ = place_images([ImageFile(path, ("red",))], Framing(resolution=20))
    assert grid == Grid(10, 16, read_grid(path)[0].crs, (20, 0, 500_000, 0, -20, 4_600_000))
    assert images[0].resampling == "average"
    assert read_scene(Scene("a", "train", images, grid))[0, :, 1:15].tolist() == [[1.0] * 14] * 10
    _, degrees, _ = place_images([ImageFile(path, ("red",))], Framing((), 1e-3, "EPSG:4326"))
    assert degrees.transform[2::3] == pytest.approx((-3.0, 41.551), abs=2e-3)
    with pytest.raises(ExperimentError, match="expected a coordinate system, got EPSG:nine"):
        place_images([ImageFile(path, ("red",))], Framing((), 1e-3, "EPSG:nine"))
    bare = str(write_raster("b.tif", np.ones((1, 20, 30))))
    with pytest.raises(SceneError, match="expected a scene that says where it lies"):
        place_images([ImageFile(bare, ("red",))], Framing(resolution=20))


def test_a_file_that_says_not_where_it_lies_is_read_pixel_by_pixel_and_that_is_said():
    placed, bare = Grid(4, 5, None, (1, 0, 0, 0, -1, 0)), Grid(4, 5)
    assert own_grid("a", bare, placed) == (None, "a: it says not where it lies, so it is read pixel by pixel.")
    assert own_grid("a", bare, bare) == (None, "")


def test_longitudes_may_count_from_0_or_from_minus_180():
    world = Grid(180, 360, CRS.from_epsg(4326).to_wkt(), (1, 0, 0, 0, -1, 90))
    scene = Grid(10, 10, world.crs, (1e-3, 0, -80, 0, -1e-3, 10))
    assert own_grid("a", world, scene)[0].transform[2] == -360
