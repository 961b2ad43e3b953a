import numpy as np
import pytest

from data.errors import SceneError
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.decoding import Decoding, decode_alphaearth
from data.scenes.image import ImageFile
from data.scenes.placement import Framing, place_images
from data.scenes.scene import Scene, read_scene
from data.scenes.windows import Grid, Window
from data.survey.verification import scene_strips

CODES = np.arange(-128, 128, dtype=np.int8)
PLACE, CRS = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_600_000.0), "EPSG:32630"


def scene_of(*images):
    placed, grid, _ = place_images(images)
    return Scene("a", "train", placed, grid)


def test_alphaearth_is_exact_on_every_code():
    expected = [np.nan if v == -128 else np.float32(np.sign(v) * (v / 127.5) ** 2) for v in range(-128, 128)]
    np.testing.assert_array_equal(decode_alphaearth(CODES), np.array(expected, np.float32))
    wide = decode_alphaearth(CODES.astype(np.int16))
    np.testing.assert_array_equal(wide, decode_alphaearth(CODES))


def test_every_code_in_a_file_is_decoded_before_it_is_warped(write_raster):
    planes = np.stack([CODES.reshape(16, 16), CODES[::-1].reshape(16, 16)])
    fine = write_raster("a.tif", planes, nodata=-128, transform=PLACE, crs=CRS)
    image = ImageFile(str(fine), ("A00", "A01"), decoding=Decoding("alphaearth"))
    expected = decode_alphaearth(planes)
    np.testing.assert_array_equal(read_scene(scene_of(image)), expected)
    window = read_scene(scene_of(image), Window(3, 5, 4, 4), halo=2)
    np.testing.assert_array_equal(window, expected[:, 1:9, 3:11])
    coarse = np.zeros((8, 8), np.int16)
    other = write_raster("b.tif", coarse, transform=(20.0, 0.0, PLACE[2], 0.0, -20.0, PLACE[5]), crs=CRS)
    scene = Scene("a", "train", *place_images([ImageFile(str(other), ("dem",)), image], framing=Framing((0,)))[:2])
    means = np.nanmean(expected.reshape(2, 8, 2, 8, 2).astype(np.float64), axis=(2, 4))
    np.testing.assert_allclose(read_scene(scene)[1:], means, atol=1e-6)


@pytest.mark.parametrize("ending", ["tif", "npy"])
def test_scales_of_pixels_multiply_each_code(write_raster, tmp_path, ending):
    rng = np.random.default_rng(0)
    codes = rng.integers(-128, 128, (8, 16, 16)).astype(np.int8)
    codes.ravel()[:256] = CODES
    scale = rng.random((16, 16)).astype(np.float32)
    scale[2, 3], scale[4, 5] = np.nan, np.inf
    if ending == "tif":
        paths = [str(write_raster("e.tif", codes)), str(write_raster("e_scales.tif", scale))]
    else:
        paths = [str(tmp_path / name) for name in ("e.npy", "e_scales.npy")]
        np.save(paths[0], codes.transpose(1, 2, 0))
        np.save(paths[1], scale)
    image = ImageFile(paths[0], tuple(f"T{band}" for band in range(8)), decoding=Decoding("scale", paths[1]))
    expected = codes.astype(np.float32) * np.where(np.isfinite(scale), scale, np.nan)
    scene = scene_of(image)
    np.testing.assert_array_equal(read_scene(scene), expected)
    np.testing.assert_array_equal(read_scene(scene, Window(6, 2, 5, 7), bands=["T3"])[0], expected[3, 6:11, 2:9])


def test_arrays_are_read_in_any_order_and_type(tmp_path):
    values = np.arange(4 * 5 * 3).reshape(4, 5, 3)
    for number, array in enumerate(
        [values.astype(np.float16), np.asfortranarray(values.astype(">f4")), values.astype(np.uint16), values]
    ):
        np.save(tmp_path / f"{number}.npy", array)
        scene = scene_of(ImageFile(str(tmp_path / f"{number}.npy"), ("a", "b", "c")))
        np.testing.assert_array_equal(read_scene(scene), values.transpose(2, 0, 1))


def test_what_cannot_be_decoded_is_refused_with_the_file(write_raster, tmp_path):
    floats = ImageFile(
        str(write_raster("f.tif", np.zeros((4, 4), np.float32))), ("A00",), decoding=Decoding("alphaearth")
    )
    with pytest.raises(SceneError, match=r"f\.tif: expected the codes of an embedding.*got float32. Leave decode out"):
        scene_of(floats)
    wide = ImageFile(
        str(write_raster("w.tif", np.full((4, 4), 300, np.int16))), ("A00",), decoding=Decoding("alphaearth")
    )
    with pytest.raises(SceneError, match=r"w\.tif: expected the codes of an embedding, -128 to 127, got 300 to 300"):
        read_scene(scene_of(wide))
    np.save(tmp_path / "s.npy", np.ones((3, 4)))
    codes = str(write_raster("c.tif", np.zeros((4, 4), np.int8)))
    with pytest.raises(SceneError, match=r"s\.npy: expected a scale for each pixel of .*c\.tif: expected 4 × 4 pixels"):
        scene_of(ImageFile(codes, ("A00",), decoding=Decoding("scale", str(tmp_path / "s.npy"))))
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(SceneError, match=r"bad\.npy: expected an array of numbers"):
        scene_of(ImageFile(str(tmp_path / "bad.npy"), ("A00",)))


def test_a_catalogue_remembers_how_files_are_decoded(write_raster, tmp_path):
    path = str(write_raster("a.tif", CODES.reshape(16, 16)))
    dem = str(write_raster("b.tif", np.ones((16, 16), np.float32)))
    scene = scene_of(ImageFile(path, ("A00",), decoding=Decoding("alphaearth")), ImageFile(dem, ("dem",)))
    classes = Classes("binary", (1,), ("kelp",), ((0, 0, 0),))
    Catalogue(classes, scene.bands, (scene,)).save(tmp_path / "catalogue.parquet")
    catalogue = Catalogue.load(tmp_path / "catalogue.parquet")
    assert catalogue.scenes == (scene,)
    assert catalogue.decoded == ("A00",)


def test_strips_of_many_bands_hold_no_more_values():
    granule = Grid(10_980, 10_980)
    few, many = (
        Scene("a", "train", (ImageFile("a.tif", tuple(f"A{band:02}" for band in range(count))),), granule)
        for count in (4, 64)
    )
    assert max(strip.height for strip in scene_strips(few)) == 2**22 // 10_980
    for strip in scene_strips(many):
        assert strip.height * strip.width * 64 <= 2**25
    assert sum(strip.height for strip in scene_strips(many)) == 10_980
