import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.errors import CatalogueError, ExperimentError
from data.records import write_parquet
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.labels import label_values
from data.settings import ClassSettings, LabelSettings, SceneSettings
from data.survey.discovery import find_scenes, list_paths
from data.survey.inputs import read_inputs
from data.survey.inspection import build_catalogue
from data.survey.verification import verify_scenes
from data.workers import open_executor

FLOOD = Classes.from_settings("binary", {1: ClassSettings(name="flood")})
SETTINGS = SceneSettings.model_validate(
    {
        "bands": ["red", "nir"],
        "nodata": -9,
        "train": {
            "image": [{"path": "img/{id}.tif"}, {"path": "sar/{id}_vv.png", "bands": ["vv"], "nodata": 0}],
            "label": {"path": "mask/m_{id}.tif", "values": {255: "flood"}},
        },
        "test": {"image": [{"path": "test/{id}.tif"}, {"path": "test/{id}_vv.png", "bands": ["vv"]}]},
    }
)


@pytest.fixture
def root(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for name in ("a", "b[1]", "c"):
        write_raster(f"img/{name}.tif", rng.integers(0, 99, (2, 20, 30), np.int16))
        write_raster(f"sar/{name}_vv.png", rng.integers(1, 99, (1, 20, 30), np.uint8))
        write_raster(f"mask/m_{name}.tif", rng.choice([0, 255], (20, 30)).astype(np.uint8))
    write_raster("test/z.tif", rng.integers(0, 99, (2, 8, 9), np.int16))
    write_raster("test/z_vv.png", rng.integers(1, 99, (1, 8, 9), np.uint8))
    return tmp_path


def build(root, settings=SETTINGS, executor=None):
    files, problems = find_scenes(settings, FLOOD, root)
    return build_catalogue(files, problems, settings, FLOOD, executor)


def test_scenes_of_several_files_are_paired_by_id_not_by_position(root):
    files, problems = find_scenes(SETTINGS, FLOOD, root)
    assert problems == []
    assert [(scene.split, scene.id) for scene in files] == [
        ("train", "a"),
        ("train", "b[1]"),
        ("train", "c"),
        ("test", "z"),
    ]
    assert [image.path for image in files[1].images] == [str(root / "img/b[1].tif"), str(root / "sar/b[1]_vv.png")]
    assert [image.nodata for image in files[1].images] == [(-9,), (0,)]


def test_the_catalogue_counts_labels_and_sums_up_bands(root):
    catalogue, warnings = build(root)
    assert warnings == []
    assert catalogue.bands == ("red", "nir", "vv")
    statistics = catalogue.statistics["train", "a"]
    assert catalogue.label_counts("a").sum() == 20 * 30
    assert statistics.valid_pixels == 20 * 30
    assert [band["band"] for band in statistics.bands] == ["red", "nir", "vv"]


def test_a_catalogue_comes_back_as_it_was_saved(root, tmp_path):
    catalogue, _ = build(root)
    groups = {("train", scene.id): scene.id for scene in catalogue.split("train")}
    catalogue = catalogue.with_folds(groups, {"a": 0, "b[1]": 1, "c": 0})
    catalogue.save(tmp_path / "catalogue.parquet")
    assert Catalogue.load(tmp_path / "catalogue.parquet") == catalogue
    assert [scene.id for scene in catalogue.outside_fold(0)] == ["b[1]"]
    assert [scene.id for scene in catalogue.in_fold(0)] == ["a", "c"]
    assert catalogue.folds == (0, 1)


def test_processes_find_what_one_process_finds(root):
    with open_executor(2) as executor:
        assert build(root, executor=executor) == build(root)


def test_every_problem_is_listed_at_once(root, write_raster):
    (root / "sar/a_vv.png").unlink()
    write_raster("mask/m_orphan.tif", np.zeros((20, 30), np.uint8))
    write_raster("img/b[1].tif", np.zeros((3, 20, 30), np.int16))
    write_raster("mask/m_c.tif", np.zeros((21, 30), np.uint8))
    (root / "test/z.tif").write_bytes((root / "test/z.tif").read_bytes()[:200])
    with pytest.raises(CatalogueError) as caught:
        build(root)
    message = str(caught.value)
    for part in (
        "5 problems",
        "sar/a_vv.png, no such file",
        "m_orphan.tif: expected an image of train scene orphan, got none",
        "img/b[1].tif: expected 2 bands (red, nir), the file has 3",
        "mask/m_c.tif: expected 20 × 30 pixels",
        "test/z.tif: expected a readable raster",
    ):
        assert part in message


def test_an_image_of_another_size_than_its_companions_is_refused(root, write_raster):
    write_raster("sar/a_vv.png", np.zeros((1, 20, 31), np.uint8))
    with pytest.raises(CatalogueError, match=r"a_vv\.png: expected 20 × 30 pixels like its scene, got 20 × 31"):
        build(root)


def test_a_value_that_nobody_declared_is_refused(root, write_raster):
    write_raster("mask/m_a.tif", np.full((20, 30), 7, np.uint8))
    with pytest.raises(CatalogueError, match=r"m_a\.tif: expected the values 0, 255, got also 7"):
        build(root)


def test_training_labels_without_a_class_are_refused(root, write_raster):
    for name in ("a", "b[1]", "c"):
        write_raster(f"mask/m_{name}.tif", np.zeros((20, 30), np.uint8))
    with pytest.raises(CatalogueError, match="expected pixels of the class flood, got none in 3 scenes"):
        build(root)


def test_no_file_that_matches_is_an_error_that_shows_the_pattern(tmp_path):
    with pytest.raises(CatalogueError, match=r"img/\{id\}\.tif: expected scenes, got no matching file"):
        find_scenes(SETTINGS, FLOOD, tmp_path)


def test_a_path_without_id_belongs_to_every_scene(root, write_raster):
    write_raster("dem.tif", np.full((20, 30), 5, np.int16))
    values = SETTINGS.model_dump()
    values["train"]["image"].append({"path": "dem.tif", "bands": ["dem"]})
    files, problems = find_scenes(SceneSettings.model_validate(values | {"test": None}), FLOOD, root)
    assert problems == []
    assert [scene.images[2].path for scene in files] == [str(root / "dem.tif")] * 3
    (root / "dem.tif").unlink()
    _, problems = find_scenes(SceneSettings.model_validate(values | {"test": None}), FLOOD, root)
    assert len(problems) == 3
    assert "dem.tif, no such file" in problems[0]


def test_a_label_s_own_nodata_is_ignored(root, write_raster):
    label = np.full((20, 30), 255, np.uint8)
    label[:5] = 99
    write_raster("mask/m_a.tif", label, nodata=99)
    catalogue, _ = build(root)
    assert catalogue.label_counts("a").tolist() == [0, 15 * 30]


def test_copies_of_a_scene_are_warned_of(root):
    for name in ("img/{}.tif", "sar/{}_vv.png", "mask/m_{}.tif"):
        (root / name.format("c")).write_bytes((root / name.format("a")).read_bytes())
    _, warnings = build(root)
    assert warnings == [
        "train scene a, train scene c: the same pixels. Keep one of them, or group them with folds.group."
    ]


def test_a_changed_input_is_noticed(root):
    files, _ = find_scenes(SETTINGS, FLOOD, root)
    before = read_inputs(list_paths(files), root, {})
    assert {"img/a.tif", "msk/a.png"} & set(before)
    (root / "img/a.tif").write_bytes((root / "img/c.tif").read_bytes() + b" ")
    now = read_inputs(list_paths(files), root, before)
    assert [name for name, file in now.items() if file != before[name]] == ["img/a.tif"]


def test_ignored_values_and_class_names_are_told_apart():
    land = Classes.from_settings("multiclass", {0: ClassSettings(name="water"), 5: ClassSettings(name="land")})
    assert label_values(LabelSettings(path="{id}", ignore=[9]), land) == ((0, 0), (5, 1), (9, 255))
    named = LabelSettings(path="{id}", values={1: "land", 2: "ignore"})
    assert label_values(named, land) == ((1, 1), (2, 255))
    with pytest.raises(ExperimentError, match="got lnad"):
        label_values(LabelSettings(path="{id}", values={1: "lnad"}), land)


def test_another_parquet_file_is_no_catalogue(tmp_path):
    with pytest.raises(CatalogueError, match="Run `terrablend check` first"):
        Catalogue.load(tmp_path / "none.parquet")
    (tmp_path / "x.parquet").write_text(json.dumps({}))
    with pytest.raises(CatalogueError, match="got a damaged file or another's"):
        Catalogue.load(tmp_path / "x.parquet")


def test_a_catalogue_of_another_version_is_to_be_made_again(root, tmp_path):
    path = tmp_path / "catalogue.parquet"
    build(root)[0].save(path)
    write_parquet(path, pq.read_table(path).drop_columns("label_colors"))
    with pytest.raises(CatalogueError, match=r"those of another version\. .*`terrablend check --overwrite`"):
        Catalogue.load(path)


def test_a_scene_that_changed_with_its_size_and_time_is_found_by_its_pixels(root, write_raster):
    catalogue, _ = build(root)
    verify_scenes(catalogue)
    rng = np.random.default_rng(1)
    other = {
        "img/a.tif": (rng.integers(0, 99, (2, 20, 30), np.int16), "pixels"),
        "mask/m_a.tif": (rng.choice([0, 255], (20, 30)).astype(np.uint8), "labels"),
    }
    for name, (pixels, what) in other.items():
        path = root / name
        before, when = path.read_bytes(), path.stat()
        write_raster(name, pixels)
        os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))
        assert path.stat().st_size == when.st_size
        message = rf"1 of 4 scenes are not as the check read them:\n.*scene a: expected the {what} of the check"
        with pytest.raises(CatalogueError, match=message) as caught:
            verify_scenes(catalogue)
        assert str(path) in str(caught.value)
        path.write_bytes(before)
    verify_scenes(catalogue)


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"x" * 201, "ä".encode() * 101])
def test_names_that_maps_and_archives_cannot_have_are_refused_at_once(root, name):
    (root / "img" / os.fsdecode(name + b".tif")).write_bytes((root / "img/a.tif").read_bytes())
    with pytest.raises(CatalogueError, match="Rename the file") as caught:
        find_scenes(SETTINGS, FLOOD, root)
    assert str(caught.value).isprintable()


def test_a_root_of_glob_characters_means_itself(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "run [1] *?"
    root.rename(folder)
    assert len(find_scenes(SETTINGS, FLOOD, folder)[0]) == 4


@pytest.mark.real
def test_a_landsat_scene_of_a_file_a_band_is_read_with_its_sparse_label(real_data):
    bands = {"10": "blue", "20": "green", "30": "red", "40": "nir", "50": "swir16", "70": "swir22"}
    names = ["developed", "agriculture", "herbaceous", "shrubland", "forest", "water", "sediment"]
    land = Classes.from_settings("multiclass", {k: ClassSettings(name=name) for k, name in enumerate(names, 1)})
    settings = SceneSettings.model_validate(
        {
            "train": {
                "image": [{"path": f"lsat7_2000_{number}.tif", "bands": [name]} for number, name in bands.items()],
                "label": "landsat96_labelled_pixels.tif",
            }
        }
    )
    files, problems = find_scenes(settings, land, real_data / "nc_landsat7")
    assert problems == []
    catalogue, _ = build_catalogue(files, problems, settings, land)
    (scene,) = catalogue.scenes
    assert scene.id == "lsat7_2000_10"
    assert catalogue.label_counts(scene.id).sum() == 2872
    # Nodata is -99999 in five files and -32768 in one, and each of a different extent.
    counts = {band["band"]: band["count"] / (443 * 489) for band in catalogue.statistics["train", scene.id].bands}
    assert 0.6 < counts["swir22"] < 0.63
    assert 0.84 < counts["blue"] < 0.86
    assert min(band["minimum"] for band in catalogue.statistics["train", scene.id].bands) >= 0


def test_labels_of_ours_move_with_the_catalogue_and_others_stay(root, tmp_path):
    files, problems = find_scenes(SETTINGS, FLOOD, root)
    blocked = [replace(each, blocks=8) if each.split == "train" else each for each in files]
    catalogue, _ = build_catalogue(blocked, problems, SETTINGS, FLOOD, labels=tmp_path / "run/labels")
    plain, _ = build_catalogue(files, problems, SETTINGS, FLOOD)
    for kept, place in ((catalogue, tmp_path / "run"), (plain, tmp_path / "other")):
        kept.save(place / "catalogue.parquet")
        place.rename(place.with_name("moved"))
        found = Catalogue.load(tmp_path / "moved/catalogue.parquet").scenes[0].label.path
        expected = tmp_path / "moved/labels/train/a.tif" if kept is catalogue else root / "mask/m_a.tif"
        assert found == str(expected)
        shutil.rmtree(tmp_path / "moved")
