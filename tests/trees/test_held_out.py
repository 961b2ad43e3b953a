import numpy as np
import pytest

from data.errors import TableError
from features import FeatureSet, build_table
from features.settings import SampleSettings
from features.table import open_table, table_path
from trees import TreeMember
from trees.held_out import predict_held_out

from ..conftest import BANDS, LAND

NAMES = ("nir", "red", "NDVI")
CHOSEN = ("red", "NDVI")


class Echo:
    """A booster that returns chosen columns plus a number of its own: it shows whose it is and what it was given."""

    suffix, rounds, forest = "", 0, None

    def __init__(self, columns, mark=0.0):
        self.columns, self.mark = columns, np.float32(mark)

    def predict_proba(self, features, threads=1):
        return features[:, self.columns] + self.mark


@pytest.fixture
def built(make_scenes, tmp_path):
    catalogue = make_scenes(LAND, n_scenes=7, folds=3)
    sample = SampleSettings(buffer=0, negatives=100, quota=50)
    build_table(catalogue, FeatureSet(BANDS, NAMES), sample, tmp_path, experiment="test", seed=0)
    return catalogue, tmp_path


def make_member(boosters):
    return TreeMember("echo", boosters, FeatureSet(BANDS, CHOSEN), 2)


def test_each_row_is_predicted_once_by_the_booster_of_its_own_fold(built):
    catalogue, pixels = built
    member = make_member({fold: Echo([1, 0], 1000 * fold) for fold in (2, 0, 1)})
    seen = []
    for fold, table, proba in predict_held_out(member, catalogue, pixels):
        assert table.scenes == tuple(scene.id for scene in catalogue.in_fold(fold))
        expected = open_table(pixels, catalogue.in_fold(fold), ["NDVI", "red"])
        np.testing.assert_array_equal(proba, expected.read() + np.float32(1000 * fold))
        np.testing.assert_array_equal(table.label, expected.label)
        np.testing.assert_array_equal(table.weight, expected.weight)
        seen += [scene for scene in table.scenes for _ in range((table.scene == table.scenes.index(scene)).sum())]
    everything = open_table(pixels, catalogue.split("train"), NAMES)
    assert sorted(seen) == sorted(np.array(everything.scenes)[everything.scene])


def test_a_member_of_some_folds_predicts_the_rows_of_these_alone(built):
    catalogue, pixels = built
    for scene in (*catalogue.in_fold(0), *catalogue.in_fold(2)):
        table_path(pixels, scene).unlink()
    ((fold, table, _),) = predict_held_out(make_member({1: Echo([0])}), catalogue, pixels)
    assert fold == 1
    assert table.names == CHOSEN


def test_missing_rows_are_named(built):
    catalogue, pixels = built
    gone = table_path(pixels, catalogue.in_fold(0)[0])
    gone.unlink()
    with pytest.raises(TableError, match=f"{gone.name}: expected the rows of scenes"):
        list(predict_held_out(make_member({0: Echo([0])}), catalogue, pixels))
