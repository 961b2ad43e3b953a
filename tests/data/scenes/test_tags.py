import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import CatalogueError, ExperimentError, LabelError
from data.folds.plan import plan_folds
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.tags import read_tag_table, read_tags
from data.scenes.windows import Grid
from data.settings import ClassSettings, FoldSettings, SceneSettings, TagSettings
from data.survey.discovery import find_scenes, list_paths
from data.survey.inputs import read_inputs
from data.survey.inspection import build_catalogue

NAMES = ("haze", "primary", "water")
TAGS = Classes.from_settings("multilabel", {k: ClassSettings(name=name) for k, name in enumerate(NAMES)})
TABLE = {"tags": "train_v2.csv", "id": "image_name", "column": "tags"}
SETTINGS = SceneSettings.model_validate(
    {
        "bands": ["red", "green", "blue"],
        "train": {"image": "train/{id}.png", "label": TABLE},
        "test": {"image": "test/{id}.png"},
    }
)
ROWS = "image_name,tags\ntrain_0,haze primary\ntrain_1,water\ntrain_2,\ntrain_10,primary  haze water\n"


@pytest.fixture
def root(tmp_path, write_raster):
    rng = np.random.default_rng(0)
    for name in ("train/train_0", "train/train_1", "train/train_2", "train/train_10", "test/test_0"):
        write_raster(f"{name}.png", rng.integers(1, 99, (3, 8, 8), np.uint8))
    (tmp_path / "train_v2.csv").write_text(ROWS)
    return tmp_path


def build(root, settings=SETTINGS):
    files, problems = find_scenes(settings, TAGS, root)
    return build_catalogue(files, problems, settings, TAGS)


def problems_of(root, text):
    (root / "train_v2.csv").write_text(text)
    with pytest.raises(CatalogueError) as caught:
        build(root)
    return str(caught.value)


def test_each_scene_has_the_tags_of_its_row(root):
    catalogue, warnings = build(root)
    assert warnings == []
    assert {scene.id: scene.tags for scene in catalogue.scenes} == {
        "train_0": (0, 1),
        "train_1": (2,),
        "train_10": (0, 1, 2),
        "train_2": (),
        "test_0": None,
    }
    assert catalogue.label_counts("train_0").tolist() == [1, 1, 0]
    assert catalogue.label_counts("train_2").tolist() == [0, 0, 0]
    assert catalogue.statistics["test", "test_0"].label_counts == ()


def test_tags_come_back_as_they_were_saved(root, tmp_path):
    catalogue, _ = build(root)
    catalogue.save(tmp_path / "catalogue.parquet")
    assert Catalogue.load(tmp_path / "catalogue.parquet") == catalogue


@given(st.sets(st.integers(0, 6)))
def test_tags_are_read_as_zeros_and_ones(present):
    scene = Scene("a", "train", (), Grid(1, 1), tags=tuple(sorted(present)))
    read = read_tags(scene, 7)
    assert read.dtype == np.uint8
    assert read.tolist() == [int(tag in present) for tag in range(7)]


def test_a_scene_of_unknown_tags_is_refused():
    with pytest.raises(LabelError, match="scene a: expected tags, the test split has none"):
        read_tags(Scene("a", "test", (), Grid(1, 1)), 3)


def test_every_problem_of_a_table_is_listed_by_name(root):
    message = problems_of(
        root,
        "image_name,tags\ntrain_0,haze primry\ntrain_1,water road\ntrain_1,water\nlost,haze\ntrain_10,road\ntrain_2\n",
    )
    for part in (
        "5 problems",
        "line 4: expected each scene once, got train_1 again",
        "line 7: expected 2 columns, got fewer",
        "got primry in 1 rows (first: train_0). Nearest: primary",
        "got road in 2 rows (first: train_1)",
        "train scene train_2: expected a row in",
    ):
        assert part in message


def test_a_table_of_more_scenes_than_there_are_images_of_is_a_warning(root):
    rows = "".join(f"more_{number},haze\n" for number in range(5))
    (root / "train_v2.csv").write_text(ROWS + rows)
    catalogue, warnings = build(root)
    assert len(catalogue.split("train")) == 4
    assert warnings == [
        f"{root / 'train_v2.csv'}: 5 of 9 rows have no image (more_0, more_1, more_2 …) and are left out."
    ]


def test_tags_to_ignore_are_no_problem(root):
    (root / "train_v2.csv").write_text(ROWS.replace("water", "water road"))
    table, problems = read_tag_table(TagSettings(**TABLE, ignore=["road"]), TAGS, root)
    assert problems == []
    assert table.tags["train_1"] == (2,)


def test_a_table_may_list_file_names_and_its_own_separator(root):
    (root / "train_v2.csv").write_text('\ufeffimage_name,tags\ntrain_0.png,"haze, primary"\n', "utf-8")
    table, problems = read_tag_table(TagSettings(**TABLE, separator=","), TAGS, root)
    assert problems == []
    assert table.tags == {"train_0.png": (0, 1)}
    (root / "train_v2.csv").write_text(ROWS.replace("train_1,", "train_1.png,"))
    assert build(root)[0].label_counts("train_1").tolist() == [0, 0, 1]


def test_a_missing_column_is_named_beside_those_there_are(root):
    with pytest.raises(LabelError, match="expected the columns image_name and labels, got image_name, tags"):
        read_tag_table(TagSettings(**TABLE | {"column": "labels"}), TAGS, root)
    with pytest.raises(LabelError, match=r"none\.csv: expected a CSV table of tags"):
        read_tag_table(TagSettings(**TABLE | {"tags": "none.csv"}), TAGS, root)


def test_splits_may_share_a_table(root, write_raster):
    write_raster("val/val_0.png", np.ones((3, 8, 8), np.uint8))
    settings = SceneSettings.model_validate(
        SETTINGS.model_dump() | {"val": {"image": "val/{id}.png", "label": TABLE}, "test": None}
    )
    (root / "train_v2.csv").write_text(ROWS + "val_0,haze\n")
    catalogue, _ = build(root, settings)
    assert [scene.tags for scene in catalogue.split("val")] == [(0,)]
    (root / "train_v2.csv").write_text(ROWS + "val_0,foggy\n")
    assert len(find_scenes(settings, TAGS, root)[1]) == 1


def test_a_tag_that_no_scene_has_is_a_warning(root):
    (root / "train_v2.csv").write_text(ROWS.replace(" water", "").replace("water", "haze"))
    catalogue, warnings = build(root)
    assert catalogue.label_counts("train_1").tolist() == [1, 0, 0]
    [warning] = warnings
    assert "expected scenes with the tag water, got none in 4 scenes. Nothing is learned of it" in warning


def test_scenes_without_any_tag_are_refused(root):
    message = problems_of(root, "image_name,tags\ntrain_0,\ntrain_1,\ntrain_2,\ntrain_10,\n")
    assert "expected scenes with the tag haze, primary, water, got none in 4 scenes. Correct its name" in message


def test_a_changed_table_is_noticed(root):
    before = list_paths(find_scenes(SETTINGS, TAGS, root)[0])
    assert sum(path.name == "train_v2.csv" for path in before) == 1
    before = read_inputs(before, root, {})
    (root / "train_v2.csv").write_text(ROWS.replace("train_1,water", "train_1,haze"))
    assert read_inputs(list_paths(find_scenes(SETTINGS, TAGS, root)[0]), root, before) != before


def test_one_tag_alone_makes_an_experiment_and_none_does_not():
    one = Classes.from_settings("multilabel", {0: ClassSettings(name="haze")})
    assert one.label_names == one.names == ("haze",)
    assert one.label_ids == one.ids == (0,)
    with pytest.raises(ExperimentError, match="expected at least one class"):
        Classes.from_settings("multilabel", {})


def test_folds_count_scenes_with_each_tag(root):
    catalogue, _ = build(root)
    planned, report = plan_folds(catalogue, FoldSettings(count=2), root, 0)
    assert report.labelled == {"haze": (1, 1), "primary": (1, 1), "water": (1, 1)}
    assert "haze 1 scene (50%)" in report.lines()[1]
    assert planned.folds == (0, 1)


def test_a_quote_without_an_end_is_named(tmp_path):
    path = tmp_path / "tags.csv"
    path.write_text('image_name,tags\na,"haze\n' + "b,rough\n" * 20_000)
    with pytest.raises(LabelError, match=r"tags\.csv: .* line \d+: .*Look for a quote without an end"):
        read_tag_table(TagSettings(tags="tags.csv", id="image_name", column="tags"), TAGS, tmp_path)
