import csv
from dataclasses import asdict, dataclass

import numpy as np
import pytest

from data.scenes.catalogue import Catalogue
from ensemble import BLEND, EnsembleSettings
from ensemble.decide.decision.cleaning import Cleaning
from ensemble.maps import open_maps
from ensemble.score.area_estimates import areas_of_evaluation
from ensemble.score.evaluation import evaluate_members, mapped_pixels
from ensemble.score.run_areas import areas_of_run, write_areas

from ..conftest import KELP, noisy

SETTINGS = EnsembleSettings()
NONE = Cleaning()


@dataclass(frozen=True)
class Cut:
    """A decision that takes the first member from 0.5 on."""

    cleaning: Cleaning = NONE

    def apply(self, stored):
        return (stored[0] >= 32_767).astype(np.uint8)


@pytest.fixture
def run(make_catalogue, write_maps):
    """Evaluations of train and val scenes, the maps, and the catalogue, which has test scenes too."""
    parts = [make_catalogue(n_scenes=n, split=split) for split, n in (("train", 6), ("val", 3), ("test", 2))]
    scenes = tuple(scene for part in parts for scene in part.scenes)
    catalogue = Catalogue(KELP, (), scenes)
    maps = open_maps({"one": write_maps("one", catalogue, noisy(KELP, 3, 0))}, KELP)
    evaluations = [
        evaluate_members(maps, catalogue.split(split), lambda _: {BLEND: Cut()}, KELP) for split in ("train", "val")
    ]
    return evaluations, maps, catalogue


def test_labelled_scenes_are_their_own_reference_and_test_scenes_have_that_of_the_folds(run):
    evaluations, maps, catalogue = run
    found = areas_of_run(evaluations, maps, catalogue, Cut(), SETTINGS)
    assert list(found) == ["train", "val", "test"]
    for split, evaluation in zip(found, (*evaluations, evaluations[0]), strict=True):
        scenes, labelled = catalogue.split(split), split != "test"
        mapped = mapped_pixels(maps, scenes, Cut(), KELP)
        expected = areas_of_evaluation(evaluation, mapped, scenes, KELP, SETTINGS, labelled=labelled)
        np.testing.assert_equal(asdict(found[split]), asdict(expected))
    assert sum(found["test"].mapped) == 2 * 24 * 31


def test_an_adjusted_area_is_nearer_to_the_truth_than_the_mapped_one(run):
    evaluations, maps, catalogue = run
    area = areas_of_run(evaluations, maps, catalogue, Cut(), SETTINGS)["test"]
    # A fifth of each scene is labelled kelp, and far more than that is mapped.
    truth = 0.2 * 2 * 24 * 31
    assert abs(area.area[1].value - truth) < abs(area.mapped[1] - truth) / 3


def test_areas_are_written_one_line_a_split_and_class(run, tmp_path, caplog):
    caplog.set_level("INFO")
    evaluations, maps, catalogue = run
    found = areas_of_run(evaluations, maps, catalogue, Cut(), SETTINGS)
    assert [line.split(":")[0] for line in caplog.messages] == [
        "areas of 6 train scenes, if their labels are a fair sample",
        "areas of 3 val scenes, if their labels are a fair sample",
        "areas of 2 test scenes, if their maps err as those out of fold",
    ]
    write_areas(found, tmp_path / "areas.csv")
    with (tmp_path / "areas.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["split"], row["class"]) for row in rows] == [
        (split, label) for split in ("train", "val", "test") for label in ("background", "kelp")
    ]
    last = found["test"]
    assert rows[-1]["unit"] == "pixels"
    assert float(rows[-1]["mapped"]) == last.mapped[1]
    kelp = last.area[1]
    np.testing.assert_equal(
        [float(rows[-1][key]) for key in ("area", "area_low", "area_high")], [kelp.value, kelp.low, kelp.high]
    )
    assert float(rows[-1]["producer"]) == last.producer[1].value
