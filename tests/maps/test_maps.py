"""Maps that another tool made are read as they stand, or refused with all that is wrong with them."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import rasterio
from pydantic import ValidationError

from data.errors import MapError, MemberError
from data.maps.geotiff import dequantise, quantise
from data.maps.store import open_store, write_maps
from data.scenes.grids import grid_problem
from data.scenes.image import ImageFile
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import Scene, read_scene, valid_mask
from data.scenes.windows import Grid
from data.survey.inputs import read_inputs
from maps import BRANCH, MapsSettings
from maps.fit import fit_member
from maps.member import load_member
from maps.tags import read_rows

from ..conftest import BANDS, LAND

CRS = "EPSG:32611"
PLACE = (30.0, 0.0, 500000.0, 0.0, -30.0, 3800000.0)


@pytest.fixture
def world(make_scenes, write_raster):
    """Return a function that gives a catalogue of scenes on the ground, four to train on in two folds, one to test."""

    def make(**options):
        catalogue = make_scenes(**options)
        scenes = []
        for number, scene in enumerate(catalogue.scenes):
            image = write_raster(f"ground/{scene.id}.tif", read_scene(scene), transform=PLACE, crs=CRS)
            with rasterio.open(image) as raster:
                grid = Grid(raster.height, raster.width, raster.crs.to_wkt(), PLACE)
            scenes.append(replace(scene, images=(ImageFile(str(image), BANDS),), grid=grid, group=f"g{number // 2}"))
        test = Scene("t0", "test", scenes[0].images, scenes[0].grid)
        return replace(catalogue, scenes=(*scenes, test))

    return make


@pytest.fixture
def put(write_raster, tmp_path):
    """Return a function that writes a map, with scale and band descriptions if they are given."""

    def write(name, values, scale=None, offset=0.0, descriptions=None, **options):
        path = write_raster(f"maps/{name}", values, **{"transform": PLACE, "crs": CRS, **options})
        with maybe_ungeoreferenced(), rasterio.open(path, "r+") as raster:
            if scale is not None:
                raster.scales, raster.offsets = [scale] * raster.count, [offset] * raster.count
            if descriptions is not None:
                raster.descriptions = descriptions
        return path

    return write


def proba_of(scene, seed=0, n_classes=1):
    rng = np.random.default_rng([seed, *scene.id.encode()])
    proba = rng.random((n_classes, scene.grid.height, scene.grid.width)).astype(np.float32)
    return proba / proba.sum(axis=0) if n_classes > 1 else proba


def settings_of(**values):
    return MapsSettings.model_validate({"path": "maps/{id}.tif", "fold": "unseen"} | values)


def fit(catalogue, settings, root):
    fit_member("other", settings, catalogue, root, root / "member")
    return load_member(root / "member", settings, root)


def read_whole(member, scene, folds=(0, 1)):
    found = np.full((len(member.classes.names), scene.grid.height, scene.grid.width), -1, np.float32)
    for _, window, proba in member.predict([scene], folds):
        found[:, *window.slices] = proba
    return found


def expected_map(scene, proba):
    masked = proba.copy()
    masked[:, ~valid_mask(scene, read_scene(scene))] = np.nan
    return masked


@pytest.mark.parametrize("size", [16, 1024])
def test_floating_point_maps_are_read_as_they_are_where_the_scene_is_valid(world, put, tmp_path, size):
    catalogue = world()
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", proba_of(scene))
    member = replace(fit(catalogue, settings_of(), tmp_path), size=size)
    for scene in catalogue.scenes:
        np.testing.assert_array_equal(read_whole(member, scene), expected_map(scene, proba_of(scene)))


@pytest.mark.parametrize(
    ("dtype", "top", "declared", "written"),
    [
        ("uint8", 255, None, "uint8"),
        ("uint16", 65535, None, "uint16"),
        ("uint8", 100, None, "percent"),
        ("float32", 100, None, "percent"),
        ("uint8", 200, None, 0.005),
        ("uint16", 10000, 1e-4, None),
        ("uint8", 250, 0.004, None),
    ],
)
def test_stored_numbers_become_probabilities_by_their_scale(world, put, tmp_path, dtype, top, declared, written):
    catalogue = world()
    for scene in catalogue.scenes:
        stored = proba_of(scene) * top
        put(f"{scene.id}.tif", (stored if dtype == "float32" else np.rint(stored)).astype(dtype), scale=declared)
    member = fit(catalogue, settings_of(scale=written), tmp_path)
    for scene in catalogue.scenes:
        found = read_whole(member, scene)
        np.testing.assert_allclose(found, expected_map(scene, proba_of(scene)), atol=0.5 / top + 1e-6)


def test_a_declared_offset_and_nodata_are_taken(world, put, tmp_path):
    catalogue = world(holes=0)
    for scene in catalogue.scenes:
        stored = np.rint(proba_of(scene) * 200 - 100).astype(np.int16)
        stored[:, :2] = -999
        stored[:, 2:3] = -998
        put(f"{scene.id}.tif", stored, scale=0.005, offset=0.5, nodata=-999)
    member = fit(catalogue, settings_of(nodata=-998), tmp_path)
    found = read_whole(member, catalogue.scenes[0])
    assert np.isnan(found[:, :3]).all()
    np.testing.assert_allclose(found[:, 3:], proba_of(catalogue.scenes[0])[:, 3:], atol=0.003)


@pytest.mark.parametrize("how", ["described", "named", "ordered"])
def test_bands_are_those_of_the_classes_by_name_or_in_order(world, put, tmp_path, how):
    catalogue = world(classes=LAND)
    order = [2, 0, 1] if how != "ordered" else [0, 1, 2]
    names = [LAND.names[k] for k in order]
    for scene in catalogue.scenes:
        proba = proba_of(scene, n_classes=3)[order]
        if how != "ordered":
            proba = np.concatenate([proba, proba[:1] * 0 + 7])
        put(f"{scene.id}.tif", proba, descriptions=[*names, "entropy"] if how == "described" else None)
    member = fit(catalogue, settings_of(bands=[*names, "entropy"] if how == "named" else None), tmp_path)
    scene = catalogue.scenes[0]
    np.testing.assert_array_equal(read_whole(member, scene), expected_map(scene, proba_of(scene, n_classes=3)))


def test_a_model_a_fold_maps_the_scenes_that_it_never_saw_and_the_others_by_the_mean(world, put, tmp_path):
    catalogue = world()
    for scene in catalogue.scenes:
        for fold in (0, 1):
            put(f"fold{fold}/{scene.split}/{scene.id}.tif", proba_of(scene, seed=fold))
    settings = MapsSettings(path="maps/fold{fold}/{split}/{id}.tif")
    member = fit(catalogue, settings, tmp_path)
    store = open_store(tmp_path / "written", catalogue.classes)
    write_maps(member, catalogue, store)
    for scene in catalogue.scenes:
        folds = (0, 1) if scene.fold is None else (scene.fold,)
        mean = np.mean([proba_of(scene, seed=fold) for fold in folds], axis=0, dtype=np.float32)
        expected = expected_map(scene, mean)
        np.testing.assert_array_equal(store.read(scene), quantise(expected))
        np.testing.assert_allclose(dequantise(store.read(scene)), expected, atol=1e-5)


def test_maps_of_an_own_cross_validation_are_taken_if_it_splits_no_group(world, put, tmp_path):
    catalogue = world()
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", proba_of(scene))
    ids = [scene.id for scene in catalogue.split("train")]
    pl.DataFrame({"id": ids, "fold": [7, 7, 8, 8]}).write_csv(tmp_path / "cv.csv")
    fit(catalogue, settings_of(fold="cv.csv"), tmp_path)
    pl.DataFrame({"tile": [f"{name}.tif" for name in ids], "part": ["a", "b", "b", "b"]}).write_parquet(
        tmp_path / "cv.parquet"
    )
    fold = {"file": "cv.parquet", "id": "tile", "column": "part"}
    with pytest.raises(MemberError, match=r"group g0 in one fold, got s0 in a and s1 in b"):
        fit(catalogue, settings_of(fold=fold), tmp_path)
    pl.DataFrame({"id": ids[:3], "fold": [7, 7, 8]}).write_csv(tmp_path / "cv.csv")
    with pytest.raises(MemberError, match="held scene s3 out, got no row of it"):
        fit(catalogue, settings_of(fold="cv.csv"), tmp_path)
    with pytest.raises(MemberError, match="expected a column split"):
        fit(catalogue, settings_of(fold={"file": "cv.csv", "column": "split"}), tmp_path)


def test_in_sample_maps_are_taken_for_scenes_outside_training_alone_with_a_warning(world, put, tmp_path, caplog):
    catalogue = world()
    put("t0.tif", proba_of(catalogue.split("test")[0]))
    settings = MapsSettings(path="maps/{id}.tif", insample=True)
    assert not settings.decides
    fit(catalogue, settings, tmp_path)
    assert "nothing is decided on it" in caplog.text


@pytest.mark.parametrize(
    "values", [{}, {"fold": "unseen", "insample": True}, {"fold": "cv.csv", "path": "{fold}/{id}.tif"}]
)
def test_what_the_maps_have_seen_must_be_said_once(values):
    with pytest.raises(ValidationError, match="expected one word on what the maps of training scenes have seen"):
        MapsSettings.model_validate({"path": "{id}.tif"} | values)


def test_every_problem_is_listed_at_once_with_its_file(world, put, tmp_path):
    catalogue = world()
    s0, s1, s2, s3, _ = catalogue.scenes
    put("s0.tif", proba_of(s0) * 100)
    put("s1.tif", proba_of(s1)[:, :-1])
    put("s2.tif", proba_of(s2), transform=(*PLACE[:2], PLACE[2] + 15, *PLACE[3:]))
    put("s3.tif", np.full_like(proba_of(s3), np.nan))
    with pytest.raises(MemberError, match="5 problems of its maps") as error:
        fit(catalogue, settings_of(), tmp_path)
    lines = str(error.value).splitlines()[1:]
    for line, (file, text) in zip(
        lines,
        [
            ("s0.tif", "expected probabilities in [0, 1], got"),
            ("s1.tif", "expected 40 × 37 pixels like its scene, got 39 × 37"),
            ("s2.tif", "got some 0.5 pixels off"),
            ("s3.tif", "got nodata alone"),
            ("t0.tif", "expected a map, got no such file"),
        ],
        strict=True,
    ):
        assert file in line
        assert text in line
    assert not (tmp_path / "member" / "member.json").exists()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.uint8, {}, r"expected a scale, the file holds uint8 and declares none"),
        (np.float32, {"descriptions": ["Band 1"]}, r"expected one band named kelp, got Band 1"),
        (np.float32, {"crs": "EPSG:32612"}, r"coordinate system EPSG:32611 like its scene, got EPSG:32612"),
        (np.float32, {"transform": None}, r"expected the georeferencing of its scene, got no georeferencing"),
        (np.float32, {"transform": (30.0, 0.0, 500000.0, 0.0, 30.0, 3798800.0)}, r"pixels off"),
    ],
)
def test_a_map_that_cannot_be_trusted_is_refused(world, put, tmp_path, values, options, message):
    catalogue = world()
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", proba_of(scene).astype(values), **options)
    with pytest.raises(MemberError, match=message):
        fit(catalogue, settings_of(), tmp_path)


def test_two_scales_are_one_too_many(world, put, tmp_path):
    catalogue = world()
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", np.rint(proba_of(scene) * 250).astype(np.uint8), scale=0.004)
    with pytest.raises(MemberError, match=r"expected one scale, got 0\.004 declared by the file and scale: uint8"):
        fit(catalogue, settings_of(scale="uint8"), tmp_path)


def test_classes_that_exclude_each_other_add_up_to_one(world, put, tmp_path):
    catalogue = world(classes=LAND)
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", np.full((3, 40, 37), 0.5, np.float32))
    with pytest.raises(MemberError, match=r"add up to 1, got sums from 1\.5 to 1\.5"):
        fit(catalogue, settings_of(), tmp_path)


def test_maps_that_leave_out_valid_pixels_are_told_of(world, put, tmp_path, caplog):
    catalogue = world(holes=0)
    for scene in catalogue.scenes:
        proba = proba_of(scene)
        proba[:, :4] = np.nan
        put(f"{scene.id}.tif", proba)
    fit(catalogue, settings_of(), tmp_path)
    assert "4 of 5 maps have no probability in some valid pixels" in caplog.text
    assert "10.0 %" in caplog.text


def test_a_scene_without_georeferencing_is_compared_by_size_alone():
    assert grid_problem(Grid(4, 5), Grid(4, 5)) is None
    assert "the scene has none" in grid_problem(Grid(4, 5, "EPSG:32611", PLACE), Grid(4, 5))


def test_probabilities_of_tags_are_read_from_a_table(make_tagged, tmp_path):
    catalogue = make_tagged(n_scenes=6)
    ids = [scene.id for scene in catalogue.scenes]
    proba = np.random.default_rng(0).random((6, 3)).round(3)
    columns = dict(zip(catalogue.classes.names, proba.T, strict=True))
    pl.DataFrame({"image_name": [f"t{k}.tif" for k in range(6)], "other": 9, **columns}).write_csv(tmp_path / "p.csv")
    settings = MapsSettings(path="p.csv", fold="unseen")
    member = fit(catalogue, settings, tmp_path)
    found = [pixel[:, 0, 0] for _, _, pixel in member.predict(catalogue.scenes, (0,))]
    np.testing.assert_allclose(found, proba, atol=1e-6)
    pl.DataFrame({"id": ids[:5], **{name: column[:5] for name, column in columns.items()}}).write_csv(
        tmp_path / "p.csv"
    )
    with pytest.raises(MemberError, match="expected a row of train scene s5, got none"):
        fit(catalogue, settings, tmp_path)
    pl.DataFrame({"id": ids, "haze": 0.5, "rough": 3.0}).write_csv(tmp_path / "p.csv")
    with pytest.raises(MemberError, match="expected a column never"):
        fit(catalogue, settings, tmp_path)
    pl.DataFrame({"id": ids, "haze": 0.5, "rough": 3.0, "never": 0.0}).write_csv(tmp_path / "p.csv")
    with pytest.raises(MemberError, match=r"in \[0, 1\], got 0 to 3"):
        fit(catalogue, settings, tmp_path)


def test_a_changed_map_is_noticed(world, put, tmp_path):
    catalogue = world()
    paths = [put(f"{scene.id}.tif", proba_of(scene)) for scene in catalogue.scenes]
    (tmp_path / ".writing-s2.tif").touch()
    files = BRANCH.files(settings_of(), tmp_path)
    assert files == sorted(paths)
    before = read_inputs(files, tmp_path, {})
    put("s1.tif", proba_of(catalogue.scenes[1]).astype(np.float64))
    assert read_inputs(files, tmp_path, before) != before


def test_a_member_that_was_not_checked_is_not_loaded(tmp_path):
    with pytest.raises(MemberError, match="Run `terrablend maps` first"):
        load_member(tmp_path, settings_of(), tmp_path)


def test_reading_a_band_of_a_wrong_count_says_which(world, put, tmp_path):
    catalogue = world(classes=LAND)
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", proba_of(scene))
    with pytest.raises(MemberError, match=r"a band for each class \(water, rock, kelp\), the file has 1"):
        fit(catalogue, settings_of(), tmp_path)
    with pytest.raises(MemberError, match="expected 2 bands as bands says"):
        fit(catalogue, settings_of(bands=["water", "rock"]), tmp_path)


def test_importing_maps_needs_no_learning_library():
    code = "import maps, sys; print([m for m in ('torch', 'lightgbm', 'lightning', 'xgboost') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_unreadable_map_is_named(world, put, tmp_path):
    catalogue = world()
    for scene in catalogue.scenes:
        put(f"{scene.id}.tif", proba_of(scene))
    (tmp_path / "maps" / "s0.tif").write_text("not a raster")
    with pytest.raises(MemberError, match=r"s0\.tif: expected a readable raster"):
        fit(catalogue, settings_of(), tmp_path)
    with pytest.raises(MapError, match=r"nothing\.csv: expected a CSV or parquet file, got: .* Correct its path"):
        read_rows(tmp_path / "nothing.csv", settings_of(), ["haze"])
