from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from data.errors import MapError, MemberError
from data.maps.geotiff import NODATA, quantise
from data.maps.parquet import read_parts, write_part
from data.maps.store import MAP_FOLDERS, ParquetStore, write_maps
from data.scenes.catalogue import Catalogue
from data.scenes.classes import Classes
from data.scenes.scene import Scene
from data.scenes.windows import Grid, Window
from data.settings import ClassSettings

NAMES = ("haze", "id", "water")  # a tag may be called as the column of ids is
TAGS = Classes.from_settings("multilabel", {k: ClassSettings(name=name) for k, name in enumerate(NAMES)})


class Numbered:
    """A member whose model k says k + 1 tenths, plus hundredths of the scene's number."""

    name = "numbered"

    def __init__(self, folds=(0, 1, 2)):
        self.folds, self.asked = folds, []

    def predict(self, scenes, folds):
        self.asked += [(scene.id, tuple(folds)) for scene in scenes]
        for scene in scenes:
            mean = np.mean([(fold + 1) / 10 for fold in folds]) + int(scene.id[1:]) % 7 / 100
            proba = np.full(len(NAMES), mean, np.float32) * np.float32([1, 0.5, np.nan])
            yield scene, Window(0, 0, 1, 1), proba[:, None, None]


def catalogue_of(n_train=7, n_test=4):
    train = [Scene(f"a{k}", "train", (), Grid(1, 1), fold=k % 3, tags=(k % 2,)) for k in range(n_train)]
    test = [Scene(f"t{k}", "test", (), Grid(1, 1)) for k in range(n_test)]
    return Catalogue(TAGS, ("red",), (*train, *test))


def store_in(directory, names=NAMES):
    return ParquetStore(directory, names, part_scenes=3)


def test_training_scenes_are_told_by_their_fold_s_model_and_others_by_the_mean_of_all(tmp_path):
    catalogue, member = catalogue_of(), Numbered()
    write_maps(member, catalogue, store_in(tmp_path))
    assert sorted(path.name for path in (tmp_path / "oof").iterdir()) == [f"part-0000{k}.parquet" for k in range(3)]
    for split, folds_of in (("train", lambda scene: (scene.fold,)), ("test", lambda scene: member.folds)):
        _, found = read_parts(tmp_path / MAP_FOLDERS[split])
        assert list(found) == [scene.id for scene in catalogue.split(split)]
        for scene in catalogue.split(split):
            [(_, _, expected)] = Numbered().predict([scene], folds_of(scene))
            np.testing.assert_array_equal(found[scene.id], quantise(expected)[:, 0, 0])
            assert found[scene.id][2] == NODATA
    assert {scene: folds for scene, folds in member.asked if scene == "a4"} == {"a4": (1,)}


def test_parts_that_exist_are_kept_and_the_rest_is_the_same_as_undisturbed(tmp_path):
    catalogue = catalogue_of()
    write_maps(Numbered(), catalogue, store_in(tmp_path / "whole"))
    write_maps(Numbered(), catalogue, store_in(tmp_path / "again"))
    (tmp_path / "again/oof/part-00001.parquet").unlink()
    member = Numbered()
    write_maps(member, catalogue, store_in(tmp_path / "again"))
    assert {scene for scene, _ in member.asked} == {"a3", "a4", "a5"}
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*.parquet")]
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "again" / file).read_bytes()


def test_a_member_without_the_model_of_a_fold_is_refused(tmp_path):
    with pytest.raises(MemberError, match="got none for 2"):
        write_maps(Numbered((0, 1)), catalogue_of(), store_in(tmp_path))


def test_a_member_that_leaves_a_scene_out_writes_nothing(tmp_path):
    class Hasty(Numbered):
        def predict(self, scenes, folds):
            return super().predict(scenes[1:], folds)

    with pytest.raises(KeyError, match="a0"):
        write_maps(Hasty(), catalogue_of(), store_in(tmp_path))
    assert not list(tmp_path.rglob("*.parquet"))


def test_missing_parts_and_other_files_are_refused(tmp_path):
    with pytest.raises(MapError, match="expected tag maps, got none"):
        read_parts(tmp_path / "oof")
    catalogue = catalogue_of()
    write_maps(Numbered(), catalogue, store_in(tmp_path))
    other = replace(catalogue, classes=replace(TAGS, names=("haze", "primary", "water")))
    (tmp_path / "test/part-00001.parquet").unlink()
    write_maps(Numbered(), other, store_in(tmp_path, other.classes.names))
    with pytest.raises(MapError, match="expected the columns id, haze, id, water, got id, haze, primary, water"):
        read_parts(tmp_path / "test")
    (tmp_path / "oof/part-00001.parquet").unlink()
    with pytest.raises(MapError, match=r"expected part 1, got part-00002\.parquet"):
        read_parts(tmp_path / "oof")
    (tmp_path / "val").mkdir()
    (tmp_path / "val/part-00000.parquet").write_bytes(b"none")
    with pytest.raises(MapError, match="expected tag maps written by Terrablend"):
        read_parts(tmp_path / "val")


def test_a_part_says_whose_it_is(tmp_path):
    write_part(tmp_path / "p.parquet", ["a"], np.float32([[0.5, 1, 0]]), NAMES, {"member": "cnn", "folds": "0,1"})
    about = pq.read_schema(tmp_path / "p.parquet").metadata[b"terrablend"]
    assert about == b'{"member": "cnn", "folds": "0,1", "classes": ["haze", "id", "water"]}'
