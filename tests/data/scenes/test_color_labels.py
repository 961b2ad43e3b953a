import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data.errors import CatalogueError, ExperimentError, LabelError, SceneError
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.color_labels import pack_color, recode_colors, unpack_color
from data.scenes.image import ImageFile
from data.scenes.labels import label_file, label_values
from data.scenes.rasters import keep_open
from data.scenes.scene import Scene, read_label, read_scene
from data.scenes.windows import Grid, Window
from data.settings import ClassSettings, LabelSettings, SceneSettings
from data.survey.discovery import find_scenes
from data.survey.inspection import build_catalogue

COLORS = {
    "urban": (0, 255, 255),
    "agriculture": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
}
UNKNOWN = (0, 0, 0)
LAND = Classes.from_settings(
    "multiclass", {k: ClassSettings(name=name, color=color) for k, (name, color) in enumerate(COLORS.items())}
)
DRAWN = np.array([*COLORS.values(), UNKNOWN], np.uint8)
"""Colour of each label index, and last of what is ignored."""

LABEL = LabelSettings(path="{id}_mask.png", colors={"ignore": UNKNOWN})


@pytest.fixture
def indices():
    return np.random.default_rng(0).integers(0, 7, (30, 40))


def scene_of(path, shape=(30, 40), settings=LABEL, classes=LAND):
    return Scene("a", "train", (), Grid(*shape), label_file(str(path), settings, classes))


def draw(path, indices, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(DRAWN[indices]).save(path, **options)
    return path


def meant(indices):
    return np.where(indices == 6, IGNORE, indices).astype(np.uint8)


def test_the_colours_of_a_label_become_indices_in_any_window(tmp_path, indices):
    scene = scene_of(draw(tmp_path / "a_mask.png", indices))
    np.testing.assert_array_equal(read_label(scene), meant(indices))
    np.testing.assert_array_equal(read_label(scene, Window(7, 9, 11, 13)), meant(indices)[7:18, 9:22])
    over = read_label(scene, Window(-2, 0, 4, 4))
    assert (over[:2] == IGNORE).all()
    np.testing.assert_array_equal(over[2:], meant(indices)[:2, :4])


def test_alpha_and_palettes_are_pictures_too(tmp_path, indices):
    picture = Image.fromarray(DRAWN[indices])
    faint = picture.copy()
    faint.putalpha(128)
    faint.save(tmp_path / "alpha.png")
    picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=7).save(tmp_path / "palette.png")
    for name in ("alpha.png", "palette.png"):
        np.testing.assert_array_equal(read_label(scene_of(tmp_path / name)), meant(indices))


def test_an_unknown_colour_is_named_with_its_pixels_the_commonest_first(tmp_path, indices):
    pixels = DRAWN[indices]
    pixels[0, :5], pixels[1, :9] = (254, 0, 255), (9, 9, 9)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(
        LabelError, match=r"a\.png: expected the colours .*\(9, 9, 9\) in 9 pixels, \(254, 0, 255\) in 5"
    ):
        read_label(scene_of(tmp_path / "a.png"))


def test_the_organisers_rule_is_the_nearest_colour(tmp_path):
    # DeepGlobe: "values may not be pure 0 and 255; threshold at 128". Pure red is none of their colours.
    rng = np.random.default_rng(0)
    indices = rng.integers(0, 7, (30, 40))
    pixels = DRAWN[indices].astype(int) + np.where(DRAWN[indices] > 128, -1, 1) * rng.integers(0, 120, (30, 40, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "a.png")
    thresholded = (pixels >= 128) * 255
    corner = np.argmax((thresholded[..., None, :] == DRAWN).all(axis=-1), axis=-1)
    np.testing.assert_array_equal(corner, indices)
    snapped = scene_of(tmp_path / "a.png", settings=LABEL.model_copy(update={"nearest": True}))
    np.testing.assert_array_equal(read_label(snapped), meant(indices))


@given(
    arrays(np.int32, st.integers(1, 30), elements=st.integers(0, 2**24 - 1)),
    st.dictionaries(st.integers(0, 2**24 - 1), st.integers(0, 9), min_size=1, max_size=5),
)
def test_the_nearest_colour_is_what_a_loop_finds(packed, meanings):
    def nearest(value):
        here = unpack_color(value)
        return min(
            meanings, key=lambda known: sum((a - b) ** 2 for a, b in zip(here, unpack_color(known), strict=True))
        )

    codes, unknown = recode_colors(packed, meanings, True)
    assert unknown == []
    assert codes.tolist() == [meanings[nearest(value)] for value in packed.tolist()]
    plain, unknown = recode_colors(packed, meanings, False)
    assert plain.tolist() == [meanings.get(value, IGNORE) for value in packed.tolist()]
    assert sum(count for _, count in unknown) == sum(value not in meanings for value in packed.tolist())


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_survives_packing(color):
    assert unpack_color(pack_color(color)) == color


def test_colours_are_named_under_classes_or_in_the_label():
    kelp = Classes.from_settings("binary", {1: ClassSettings(name="kelp", color=(255, 255, 255))})
    assert label_values(LabelSettings(path="{id}", colors=True), kelp) == ((0, 0), (0xFFFFFF, 1))
    several = LabelSettings(path="{id}", colors={"kelp": [(255, 0, 0), (254, 0, 0)], "background": (0, 0, 9)})
    assert label_values(several, kelp) == ((9, 0), (0xFE0000, 1), (0xFF0000, 1))
    with pytest.raises(ExperimentError, match=r"label\.colors: expected class names among .*, got klep"):
        label_values(LabelSettings(path="{id}", colors={"klep": (1, 2, 3)}), kelp)
    with pytest.raises(ExperimentError, match=r"expected a colour for one class alone, got \(0, 0, 0\)"):
        label_values(LabelSettings(path="{id}", colors={"kelp": (0, 0, 0)}), kelp)


def test_colours_and_values_exclude_each_other():
    with pytest.raises(ValueError, match="expected values or colors, got both"):
        LabelSettings(path="{id}", colors=True, values={1: "kelp"})
    with pytest.raises(ValueError, match="nearest is for colours"):
        LabelSettings(path="{id}", nearest=True)


def test_a_picture_that_is_no_label_by_values_says_what_to_do(tmp_path, indices, write_raster):
    path = draw(tmp_path / "a.png", indices)
    with pytest.raises(LabelError, match=r"expected one band of class values, got 3\. .*set label\.colors: true"):
        read_label(scene_of(path, settings=LabelSettings(path="{id}")))
    with pytest.raises(LabelError, match=r"expected a picture of red, green and blue bytes, got 1 bands of uint8"):
        read_label(scene_of(write_raster("grey.png", indices.astype(np.uint8))))


def test_scenes_and_labels_in_pictures_make_a_catalogue(tmp_path, indices):
    rng = np.random.default_rng(1)
    for name in ("104", "1155"):
        draw(tmp_path / f"train/{name}_mask.png", indices)
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(tmp_path / f"train/{name}_sat.jpg")
    train = {"image": "train/{id}_sat.jpg", "label": {"path": "train/{id}_mask.png", "colors": {"ignore": UNKNOWN}}}
    settings = SceneSettings.model_validate({"bands": ["red", "green", "blue"], "train": train})
    files, problems = find_scenes(settings, LAND, tmp_path)
    catalogue, warnings = build_catalogue(files, problems, settings, LAND)
    assert warnings == []
    assert catalogue.label_counts("104").tolist() == np.bincount(indices.ravel())[:6].tolist()
    catalogue.save(tmp_path / "catalogue.parquet")
    loaded = Catalogue.load(tmp_path / "catalogue.parquet")
    assert loaded == catalogue
    np.testing.assert_array_equal(read_label(loaded.scenes[0]), meant(indices))
    draw(tmp_path / "train/104_mask.png", indices[:-1])
    with pytest.raises(CatalogueError, match=r"104_mask\.png: expected 30 × 40 pixels"):
        build_catalogue(files, problems, settings, LAND)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.integers(-9, 70), st.integers(-9, 50), st.integers(1, 40), st.integers(1, 40))
def test_any_window_of_a_jpeg_is_what_the_whole_picture_holds(tmp_path, row, col, height, width):
    path = tmp_path / "a.jpg"
    if not path.exists():
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)).save(path, subsampling=0)
    whole = np.pad(
        np.moveaxis(np.array(Image.open(path)), 2, 0).astype(np.float32),
        ((0, 0), (50, 50), (50, 50)),
        constant_values=np.nan,
    )
    scene = Scene("a", "train", (ImageFile(str(path), ("red", "green", "blue")),), Grid(70, 50))
    expected = whole[:, row + 50 : row + 50 + height, col + 50 : col + 50 + width]
    with keep_open():
        # The decoder goes forwards only: what was read before must not matter.
        read_scene(scene, Window(60, 0, 5, 50))
        window = read_scene(scene, Window(row, col, height, width))
    np.testing.assert_allclose(window, expected, atol=2)


def palette_picture(path):
    picture = Image.new("P", (4, 3))
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    picture.putdata([0, 1, 2, 0] * 3)
    picture.save(path, transparency=2)
    return path


def test_a_palette_is_expanded_where_colours_are_named_and_kept_where_one_band_is(tmp_path):
    path = palette_picture(tmp_path / "p.png")
    colours = Scene("a", "train", (ImageFile(str(path), ("red", "green", "blue")),), Grid(3, 4))
    # Value 2 is transparent: there is no picture there.
    np.testing.assert_array_equal(
        read_scene(colours, bands=["blue", "red"])[:, 0], [[30, 60, np.nan, 30], [10, 40, np.nan, 10]]
    )
    np.testing.assert_array_equal(read_scene(colours, Window(1, 1, 2, 3)), read_scene(colours)[:, 1:3, 1:])
    values = Scene("a", "train", (ImageFile(str(path), ("kind",)),), Grid(3, 4))
    np.testing.assert_array_equal(read_scene(values)[0, 0], [0, 1, np.nan, 0])
    with pytest.raises(SceneError, match="It has a palette: name one band for the values, or red, green and blue"):
        read_scene(Scene("a", "train", (ImageFile(str(path), ("red", "nir")),), Grid(3, 4)))


def test_alpha_that_nobody_named_hides_pixels(write_raster):
    pixels = np.random.default_rng(0).integers(1, 255, (4, 3, 4), np.uint8)
    pixels[3, 0] = 0
    path = str(write_raster("a.png", pixels))
    found = read_scene(Scene("a", "train", (ImageFile(path, ("red", "green", "blue")),), Grid(3, 4)))
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_array_equal(found[:, 1:], pixels[:3, 1:])
    image = ImageFile(path, ("red", "green", "blue", "alpha"))
    scene = Scene("a", "train", (image,), Grid(3, 4), invalid=(("alpha", (0,)),))
    assert np.isnan(read_scene(scene, bands=["red", "green", "blue"])[:, 0]).all()


def test_large_pictures_are_warned_of(tmp_path, indices):
    draw(tmp_path / "a_mask.png", indices)
    draw(tmp_path / "a_sat.jpg", indices)
    train = {"image": "{id}_sat.jpg", "label": {"path": "{id}_mask.png", "colors": {"ignore": UNKNOWN}}}
    settings = SceneSettings.model_validate({"bands": ["red", "green", "blue"], "train": train})
    _, [warning] = build_catalogue(*find_scenes(settings, LAND, tmp_path), settings, LAND, slow_pixels=1000)
    assert warning.startswith("2 files are large JPEGs or PNGs")
    assert "gdal_translate -co TILED=YES" in warning
