import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.shutil import copy

from data.errors import LabelError, SceneError
from data.scenes.image import ImageFile
from data.scenes.placement import place_images, place_label
from data.scenes.rasters import maybe_ungeoreferenced, read_grid
from data.scenes.scene import LabelFile, Scene, read_label, read_scene
from data.scenes.windows import Grid

VALUES = np.arange(1, 2 * 4 * 5 + 1, dtype=np.uint16).reshape(2, 4, 5)


def change(path, **attributes):
    with maybe_ungeoreferenced(), rasterio.open(path, "r+") as raster:
        for name, value in attributes.items():
            setattr(raster, name, value)
    return str(path)


def read(path, bands=("red", "nir"), **options):
    placed, grid, warnings = place_images([ImageFile(path, bands, **options)])
    return read_scene(Scene("a", "train", placed, grid)), warnings


@pytest.mark.parametrize("internal", ["YES", "NO"])
def test_what_a_mask_hides_is_no_data_and_no_label(write_raster, internal):
    mask = np.full((4, 5), 255, np.uint8)
    mask[1:3, 2] = 0
    image, label = write_raster("a.tif", VALUES), write_raster("m.tif", np.ones((4, 5), np.uint8))
    for path in (image, label):
        with (
            maybe_ungeoreferenced(),
            rasterio.Env(GDAL_TIFF_INTERNAL_MASK=internal),
            rasterio.open(path, "r+") as raster,
        ):
            raster.write_mask(mask)
    pixels, _ = read(str(image))
    np.testing.assert_array_equal(pixels, np.where(mask, VALUES, np.nan))
    scene = Scene("a", "train", (), Grid(4, 5), LabelFile(str(label), ((0, 0), (1, 1))))
    np.testing.assert_array_equal(read_label(scene), np.where(mask, 1, 255))


def test_declared_scales_are_applied_unless_others_are_given(write_raster):
    path = change(write_raster("a.tif", VALUES, nodata=3), scales=(1e-4, 0.5), offsets=(-0.1, 0.0))
    pixels, _ = read(path)
    expected = np.stack([VALUES[0] * 1e-4 - 0.1, VALUES[1] * 0.5])
    expected[0, VALUES[0] == 3] = np.nan
    np.testing.assert_allclose(pixels, expected, rtol=1e-6)
    plain, _ = read(path, scale=((1.0, 0.0), (2.0, 1.0)))
    np.testing.assert_array_equal(plain[1], VALUES[1] * 2.0 + 1)
    assert plain[0, 0, 0] == 1


def test_a_factor_of_0_is_none(write_raster):
    path = change(write_raster("a.tif", VALUES), scales=(0.0, 0.5), offsets=(0.0, 0.0))
    np.testing.assert_array_equal(read(path)[0], np.stack([VALUES[0], VALUES[1] * 0.5]))


def test_a_file_of_several_rasters_is_refused_with_their_names(tmp_path, write_raster):
    copy(
        write_raster("a.tif", VALUES, crs="EPSG:32630", transform=(10, 0, 5e5, 0, -10, 4e6)),
        tmp_path / "a.nc",
        driver="netCDF",
    )
    with pytest.raises(SceneError, match=r"a\.nc: .*holds several rasters: netcdf:.*a\.nc:Band1, netcdf:.*a\.nc:Band2"):
        read(str(tmp_path / "a.nc"))
    pixels, _ = read(f'NETCDF:"{tmp_path}/a.nc":Band2', ("nir",))
    np.testing.assert_array_equal(pixels[0], VALUES[1])


def test_arrays_lie_nowhere_and_are_read_pixel_by_pixel_beside_files_that_lie_somewhere(tmp_path, write_raster):
    np.save(tmp_path / "m.npy", np.eye(4, 5, dtype=bool))
    path = str(tmp_path / "m.npy")
    assert read_grid(path)[0] == Grid(4, 5)
    image = write_raster("a.tif", VALUES, crs="EPSG:32630", transform=(10, 0, 5e5, 0, -10, 4e6))
    placed, grid, _ = place_images([ImageFile(str(image), ("red", "nir"))])
    label, warning = place_label(LabelFile(path, ((0, 0), (1, 1))), grid, placed)
    assert "says not where it lies" in warning
    np.testing.assert_array_equal(read_label(Scene("a", "train", placed, grid, label)), np.eye(4, 5))


def test_a_label_of_two_bands_is_refused_unless_the_second_is_an_alpha(write_raster):
    label = np.ones((2, 4, 5), np.uint8)
    label[1, 0] = 0
    scene = Scene("a", "train", (), Grid(4, 5), LabelFile(str(write_raster("m.tif", label)), ((0, 0), (1, 1))))
    with pytest.raises(LabelError, match="expected one band of class values, got 2"):
        read_label(scene)
    change(scene.label.path, colorinterp=(ColorInterp.gray, ColorInterp.alpha))
    assert read_label(scene)[:, 0].tolist() == [255, 1, 1, 1]


def test_bands_are_read_by_the_names_in_the_file_where_it_has_them_all(write_raster):
    path = change(
        write_raster("a.tif", np.concatenate([VALUES, VALUES[:1] + 100])), descriptions=("nir", "blue", "red")
    )
    pixels, [warning] = read(path)
    np.testing.assert_array_equal(pixels, [VALUES[0] + 100, VALUES[0]])
    assert "read by the names in the file" in warning


def test_names_that_contradict_ours_are_warned_of_and_others_are_not(write_raster):
    _, [warning] = read(change(write_raster("a.tif", VALUES), descriptions=("B8", "red")))
    assert "its bands are named B8, red in the file, read as red, nir" in warning
    assert read(change(write_raster("b.tif", VALUES), descriptions=("B4", "B8")))[1] == []
    assert read(change(write_raster("c.tif", VALUES), descriptions=("Red", "NIR")))[1] == []


def test_complex_numbers_are_refused_and_large_doubles_are_no_data(write_raster):
    with pytest.raises(SceneError, match="expected real numbers, got complex64"):
        read(str(write_raster("a.tif", VALUES.astype(np.complex64))))
    doubles = VALUES.astype(np.float64)
    doubles[0, 0, 0] = -1e308
    pixels, _ = read(str(write_raster("b.tif", doubles)))
    assert np.isnan(pixels[0, 0, 0])
    np.testing.assert_array_equal(pixels[1], VALUES[1])


def test_side_files_and_headers_of_other_formats_are_read(tmp_path):
    place = rasterio.Affine(10, 0, 500, 0, -10, 900)
    options = {"height": 4, "width": 5, "transform": place}
    with rasterio.open(tmp_path / "a.dat", "w", driver="ENVI", count=2, dtype="uint16", **options) as raster:
        raster.write(VALUES)
    pixels, _ = read(str(tmp_path / "a.dat"))
    np.testing.assert_array_equal(pixels, VALUES)
    with rasterio.open(tmp_path / "b.png", "w", driver="PNG", count=1, dtype="uint8", **options) as raster:
        raster.write(VALUES[:1].astype(np.uint8))
    assert (tmp_path / "b.png.aux.xml").exists()
    assert place_images([ImageFile(str(tmp_path / "b.png"), ("red",))])[1].transform == tuple(place)[:6]
