import io
import tarfile

import numpy as np
import pytest

from data.errors import MapError, SubmissionError
from data.maps import write_class_map
from data.scene import Scene
from data.windows import Grid
from ensemble.submission import FORMATS, _decode, _encode, write_submission

from .conftest import KELP, LAND

SCENES = [Scene(name, "test", (), Grid(6, 7)) for name in ("b", "a")]
LABELS = {"a": np.arange(42, dtype=np.uint8).reshape(6, 7) % 2, "b": np.zeros((6, 7), np.uint8)}
LABELS["b"][2, 3] = 255


@pytest.fixture
def maps(tmp_path):
    for scene in SCENES:
        write_class_map(tmp_path / "maps" / f"{scene.id}.tif", LABELS[scene.id], scene.grid, KELP, {})
    return tmp_path / "maps"


def rewrite(path, change):
    """Change the members of an archive: {name: bytes} → {name: bytes}."""
    with tarfile.open(path) as archive:
        content = {member.name: archive.extractfile(member).read() for member in archive.getmembers()}
    with tarfile.open(path, "w") as archive:
        for name, data in change(content).items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_the_kelp_archive_holds_zeros_and_ones_of_every_scene(maps, tmp_path):
    path = write_submission("kelp", tmp_path, SCENES, maps, KELP)
    first = path.read_bytes()
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["a_kelp.tif", "b_kelp.tif"]
        for name in ("a", "b"):
            values = _decode(archive.extractfile(f"{name}_kelp.tif").read(), name)
            assert values.dtype == np.uint8
            np.testing.assert_array_equal(values, np.where(LABELS[name] == 255, 0, LABELS[name]))
    write_submission("kelp", tmp_path, SCENES[::-1], maps, KELP)
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: {"a_kelp.tif": content["a_kelp.tif"]}, "1 missing"),
        (lambda content: content | {"c_kelp.tif": content["a_kelp.tif"]}, "1 unknown"),
        (lambda content: content | {"a_kelp.tif": _encode(np.zeros((6, 8), np.uint8))}, "expected 6 × 7 pixels"),
        (
            lambda content: content | {"a_kelp.tif": _encode(np.full((6, 7), 2, np.uint8))},
            "expected uint8 values 0 and 1",
        ),
        (lambda content: content | {"a_kelp.tif": b"II*\0 broken"}, "expected a GeoTIFF"),
    ],
)
def test_an_archive_that_is_not_whole_is_refused(maps, tmp_path, change, message):
    path = write_submission("kelp", tmp_path, SCENES, maps, KELP)
    rewrite(path, change)
    with pytest.raises(SubmissionError, match=message):
        FORMATS["kelp"].check(path, SCENES, {}, KELP)


def test_a_folder_of_maps_must_hold_every_scene_and_no_other(maps, tmp_path):
    assert write_submission("geotiff", tmp_path, SCENES, maps, KELP) == maps
    write_class_map(maps / "c.tif", LABELS["a"], Grid(6, 7), KELP, {})
    with pytest.raises(SubmissionError, match="1 unknown"):
        write_submission("geotiff", tmp_path, SCENES, maps, KELP)
    (maps / "c.tif").rename(maps / ".writing-left-by-a-kill.tif")
    assert write_submission("geotiff", tmp_path, SCENES, maps, KELP) == maps


@pytest.mark.parametrize("name", ["geotiff", "kelp"])
def test_maps_of_another_size_or_value_and_missing_or_doubled_ones_are_refused(maps, tmp_path, name):
    write_class_map(maps / "a.tif", LABELS["a"].T, Grid(7, 6), KELP, {})
    with pytest.raises(SubmissionError, match="expected 6 × 7 pixels like scene a"):
        write_submission(name, tmp_path, SCENES, maps, KELP)
    write_class_map(maps / "a.tif", np.full((6, 7), 2, np.uint8), Grid(6, 7), LAND, {})
    with pytest.raises(MapError, match=r"expected class ids 0, 1, got also \[5\]"):
        write_submission(name, tmp_path, SCENES, maps, KELP)
    (maps / "a.tif").unlink()
    with pytest.raises(SubmissionError, match=r"each of 2 test scenes, 1 are missing: .*a\.tif"):
        write_submission(name, tmp_path, SCENES, maps, KELP)
    with pytest.raises(SubmissionError, match="distinct ids, got 1 twice"):
        write_submission(name, tmp_path, [*SCENES, SCENES[0]], maps, KELP)


def test_the_kelp_archive_is_for_one_class(maps, tmp_path):
    with pytest.raises(SubmissionError, match="expected the task binary"):
        write_submission("kelp", tmp_path, SCENES, maps, LAND)
