import pytest

from data.errors import CatalogueError
from data.scenes.classes import Classes
from data.settings import SceneSettings
from data.survey.discovery import find_scenes
from data.survey.scene_list import read_list

KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 9),))


def test_the_files_of_listed_scenes_are_found_by_columns(tmp_path):
    for name in ("x.tif", "y.tif", "x_m.tif"):
        (tmp_path / name).touch()
    (tmp_path / "dem.tif").touch()
    (tmp_path / "scenes.csv").write_text(
        f"id;image;label\n007;x.tif;{tmp_path}/x_m.tif\n008;y.tif;\n009;none.tif;x_m.tif\n"
    )
    settings = SceneSettings.model_validate({"bands": ["red"], "train": {"list": "scenes.csv"}})
    scenes, problems = find_scenes(settings, KELP, tmp_path)
    assert [scene.id for scene in scenes] == ["007"]
    assert scenes[0].images[0].path == str(tmp_path / "x.tif")
    assert scenes[0].label.path == str(tmp_path / "x_m.tif")
    assert problems == [
        f"train scene 008: expected {tmp_path}/{{label}}, no such file. Add it, or remove the scene.",
        f"train scene 009: expected {tmp_path}/none.tif, no such file. Add it, or remove the scene.",
    ]
    image = [{"path": "{image}", "bands": ["red"]}, {"path": "dem.tif", "bands": ["dem"]}]
    settings = SceneSettings.model_validate({"train": {"list": "scenes.csv", "image": image}})
    scenes, _ = find_scenes(settings, KELP, tmp_path)
    assert [file.path for file in scenes[0].images] == [str(tmp_path / "x.tif"), str(tmp_path / "dem.tif")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("id\n../../x\n", "expected ids that can name files"),
        ("id\n.x\n", "expected ids that can name files"),
        ("id\na\na\n", "expected each scene once, got a again"),
        ("name\na\n", "expected scenes and a column id, got name"),
        ("id\n" + "a" * 300 + "\n", "expected an id of at most 200 bytes"),
    ],
)
def test_lists_that_name_no_scenes_are_refused(tmp_path, rows, message):
    (tmp_path / "scenes.csv").write_text(rows)
    with pytest.raises(CatalogueError, match=message):
        read_list(tmp_path / "scenes.csv")
