import dataclasses
import logging
from collections.abc import Callable

import numpy as np
import pytest
from pydantic import ValidationError

from cnn.crops.scene_weights import scene_facts, weigh_scenes
from cnn.settings import CnnSettings
from data.errors import MemberError
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.scene import Scene


@pytest.fixture
def known(catalogue: Catalogue) -> Catalogue:
    """Scenes 0 … 7 with 0, 30 … 210 bright pixels, seen ever less."""
    statistics = {
        ("train", scene.id): SceneStatistics(
            1920 - 100 * number,
            (1000 - 30 * number, 30 * number),
            ({"band": "nir", "count": 9, "mean": 500.0, "deviation": float(number), "minimum": 0.0, "maximum": 1.0},),
        )
        for number, scene in enumerate(catalogue.split("train"))
    }
    return dataclasses.replace(catalogue, statistics=statistics)  # type: ignore[arg-type]


def test_facts_are_named_by_class_and_band(known: Catalogue) -> None:
    facts = scene_facts(known, known.split("train")[2])
    assert facts["valid_share"] == 1720 / 1920
    assert facts["labelled_share"] == 1000 / 1920
    assert (facts["has_background"], facts["has_bright"], facts["bright_share"]) == (1, 1, 0.06)
    assert (facts["nir_mean"], facts["nir_deviation"]) == (500, 2)


def test_scenes_that_have_a_class_are_shown_so_many_times_as_often(known: Catalogue) -> None:
    scenes = known.split("train")
    np.testing.assert_allclose(weigh_scenes({"has_bright": 3}, known, scenes), [1, *[3] * 7])
    np.testing.assert_allclose(weigh_scenes({"has_bright": 0.5}, known, scenes), [1, *[0.5] * 7])


def test_between_the_lowest_and_the_highest_equal_steps_have_equal_ratios(known: Catalogue) -> None:
    scenes = known.split("train")
    weights = weigh_scenes({"bright_share": 4}, known, scenes)
    np.testing.assert_allclose(weights, 4 ** (np.arange(8) / 7))
    np.testing.assert_allclose(weigh_scenes({"valid_share": 4}, known, scenes), weights[::-1])


def test_weights_of_several_facts_multiply(known: Catalogue) -> None:
    scenes = known.split("train")
    each = [weigh_scenes(one, known, scenes) for one in ({"has_bright": 2}, {"nir_deviation": 5})]
    np.testing.assert_allclose(weigh_scenes({"has_bright": 2, "nir_deviation": 5}, known, scenes), each[0] * each[1])
    assert (weigh_scenes({}, known, scenes) == 1).all()


def test_a_fact_that_is_the_same_everywhere_changes_nothing_and_says_so(
    known: Catalogue, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert (weigh_scenes({"nir_mean": 9}, known, known.split("train")) == 1).all()
    assert "nir_mean is the same in all 8 scenes" in caplog.text


def test_a_fact_that_is_not_finite_counts_as_the_lowest(known: Catalogue) -> None:
    scenes = known.split("train")
    blind = known.statistics["train", scenes[0].id]
    odd = dataclasses.replace(blind, bands=({**blind.bands[0], "maximum": -np.inf},))
    seen = dataclasses.replace(blind, bands=({**blind.bands[0], "maximum": 2.0},))
    changed = {**known.statistics, ("train", scenes[0].id): odd, ("train", scenes[1].id): seen}
    weights = weigh_scenes({"nir_maximum": 2}, dataclasses.replace(known, statistics=changed), scenes)
    np.testing.assert_allclose(weights, [1, 2, *[1] * 6])


def test_unknown_facts_and_missing_statistics_are_named(known: Catalogue, make_scene: Callable[..., Scene]) -> None:
    scenes = known.split("train")
    with pytest.raises(MemberError, match=r"got has_brite\. Nearest: has_bright"):
        weigh_scenes({"has_brite": 2}, known, scenes)
    with pytest.raises(MemberError, match="statistics of the scene later"):
        weigh_scenes({"has_bright": 2}, known, [make_scene("later")])
    with pytest.raises(ValidationError):
        CnnSettings(scene_weights={"has_bright": 0})
