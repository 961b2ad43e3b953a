"""Areas and accuracy by area: against the paper's own example, a bootstrap by hand, and known populations."""

import re

import numpy as np
import pytest
from rasterio.crs import CRS

from data.scenes.windows import Grid
from ensemble import EnsembleSettings
from ensemble.score.area_estimates import adjust_counts, areas_of_evaluation, areas_of_groups, areas_of_sample
from ensemble.score.areas import mapped_area, pixel_area
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import Resampled, resample_groups

from ..conftest import KELP

# Table 8 of Olofsson et al. 2014, turned so that rows are the reference and columns the map.
CHANGE = ("deforestation", "forest gain", "stable forest", "stable non-forest")
TABLE_8 = np.array([[66, 0, 1, 2, 0], [0, 55, 0, 1, 0], [5, 8, 153, 9, 0], [4, 12, 11, 313, 0]])
LANDSAT = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 900.0


def half(interval):
    return interval.high - interval.value


def utm(epsg=32633, size=10.0):
    return Grid(4, 5, CRS.from_epsg(epsg).to_wkt(), (size, 0, 500_000, 0, -size, 0))


def test_the_example_of_the_paper_comes_out_as_printed():
    areas = areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=True)
    assert round(areas.overall.value, 3) == 0.947
    assert round(half(areas.overall), 3) == 0.018
    assert [round(one.value, 2) for one in areas.user] == [0.88, 0.73, 0.93, 0.96]
    assert [round(one.value - one.low, 2) for one in areas.user] == [0.07, 0.10, 0.04, 0.02]
    assert [round(one.value, 2) for one in areas.producer] == [0.75, 0.85, 0.93, 0.96]
    assert round(areas.producer[0].value - areas.producer[0].low, 2) == 0.21
    hectares = [(round(one.value / 1e4), half(one) / 1e4) for one in areas.area]
    assert [value for value, _ in hectares] == [21_158, 11_686, 285_770, 581_386]
    # They take 1.96 for the normal quantile.
    assert [width for _, width in hectares] == pytest.approx([6158, 3756, 15_510, 16_282], abs=0.8)
    assert sum(one.value for one in areas.area) == pytest.approx(LANDSAT.sum())


def test_a_table_tells_the_areas_in_hectares_and_the_intervals():
    lines = areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=True).lines()
    assert "mapped, ha" in lines[0]
    # Thousands are set apart by a narrow space.
    assert re.split(" +", lines[1]) == [
        "deforestation",
        "18\u202f000",
        "21\u202f158",
        "15\u202f000–27\u202f315",
        "0.880",
        "(0.806–0.954)",
        "0.749",
        "(0.535–0.962)",
    ]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1] == "overall accuracy by area 0.947 (0.928–0.965)"
    assert "km²" in areas_of_sample(TABLE_8, LANDSAT * 10, CHANGE, 0.95, metric=True).lines()[0]
    assert "pixels" in areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=False).lines()[0]


def test_areas_are_told_in_one_line():
    areas = areas_of_sample(
        np.array([[50, 10, 0], [0, 40, 0]]), np.array([9e5, 1e5]), ("sea", "kelp"), 0.9, metric=True
    )
    ends = [(one.low / 1e4, one.high / 1e4) for one in areas.area]
    assert areas.words() == (
        f"sea 92.00 ha ({ends[0][0]:.2f}–{ends[0][1]:.2f}; mapped 90.00), "
        f"kelp 8.00 ha ({ends[1][0]:.2f}–{ends[1][1]:.2f}; mapped 10.00)"
    )
    assert ends[1][0] < 8 < ends[1][1] < 10


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Pixels of three classes by truth and map; a sample draws as many of each mapped class.
    population = 10 * np.array([[40_000, 3000, 1500], [4500, 9000, 900], [4000, 1800, 4000]])
    mapped = population.sum(axis=0).astype(float)
    truth = population.sum(axis=1)
    producer, overall = np.diagonal(population) / truth, np.trace(population) / population.sum()
    rng = np.random.default_rng(0)
    rounds = 1500
    draws = np.stack([rng.multivariate_hypergeometric(column, 800, size=rounds) for column in population.T], axis=2)
    counts = np.concatenate([draws, np.zeros((rounds, 3, 1), int)], axis=2)
    covered = np.zeros(7)
    for one in counts:
        areas = areas_of_sample(one, mapped, "abc", 0.95, metric=False)
        found = (*areas.area, *areas.producer, areas.overall)
        covered += [a.low <= b <= a.high for a, b in zip(found, (*truth, *producer, overall), strict=True)]
    # The standard error of a share of 0.95 in so many rounds is 0.006.
    np.testing.assert_allclose(covered / rounds, 0.95, atol=0.02)


def test_a_class_that_is_not_mapped_weighs_nothing_and_a_right_map_has_no_spread():
    counts = np.array([[20, 0, 0, 3], [0, 30, 0, 2], [0, 0, 0, 4]])
    areas = areas_of_sample(counts, np.array([70.0, 30.0, 0.0]), "abc", 0.95, metric=False)
    assert [one.value for one in areas.area] == [70, 30, 0]
    assert (areas.overall.value, areas.overall.low, areas.overall.high) == (1, 1, 1)
    assert np.isnan([areas.user[2].value, areas.producer[2].value]).all()


def test_shares_are_adjusted_as_an_average_over_mapped_classes():
    rng = np.random.default_rng(1)
    counts, mapped = rng.integers(1, 50, (2, 3, 4)), np.array([5.0, 20.0, 75.0])
    shares = adjust_counts(counts, mapped)
    for one, of in zip(counts, shares, strict=True):
        for label in range(3):
            for stratum in range(3):
                expected = mapped[stratum] / 100 * one[label, stratum] / one[:, stratum].sum()
                assert of[label, stratum] == pytest.approx(expected)
    np.testing.assert_allclose(shares.sum(axis=(1, 2)), 1)


def test_labels_of_all_that_is_mapped_give_back_the_labelled_area():
    counts = np.array([[[60, 5, 0], [10, 25, 0]], [[80, 1, 0], [4, 15, 0]]])
    resampled = Resampled(counts[:, None], np.arange(2), resample_groups(2, 50, seed=0))
    mapped = counts.sum(axis=(0, 1))[:2].astype(float)
    areas = areas_of_groups(resampled, mapped, ("a", "b"), 0.95, metric=False)
    assert [one.value for one in areas.area] == pytest.approx(counts.sum(axis=(0, 2)).tolist())
    total = counts.sum(axis=0)
    assert areas.user[1].value == pytest.approx(total[1, 1] / total[:, 1].sum())
    assert areas.producer[1].value == pytest.approx(total[1, 1] / total[1].sum())


def test_where_nothing_is_mapped_there_is_nothing_and_without_a_reference_nothing_is_known():
    counts = Resampled(np.array([[[[9, 0, 5], [3, 0, 1]]]] * 2), np.arange(2), resample_groups(2, 20, seed=0))
    nothing = areas_of_groups(counts, np.zeros(2), ("a", "b"), 0.95, metric=False)
    assert [one.value for one in nothing.area] == [0, 0]
    assert areas_of_sample(counts.scenes[0, 0], np.zeros(2), ("a", "b"), 0.95, metric=False).area[0].value == 0
    unknown = areas_of_groups(counts, np.array([50.0, 50.0]), ("a", "b"), 0.95, metric=False)
    assert np.isnan([one.value for one in unknown.area]).all()
    assert unknown.lines()[1].split()[1:4] == ["50", "–", "–"]


def test_the_intervals_of_scenes_are_those_of_resampled_groups():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 90, (12, 2, 3))
    resampled = Resampled(counts[:, None], np.arange(12) // 2, resample_groups(6, 200, seed=1))
    mapped = np.array([900.0, 100.0])
    areas = areas_of_groups(resampled, mapped, ("a", "b"), 0.9, metric=False)
    found = []
    for draw in resampled.draws:
        total = np.repeat(counts, draw[resampled.group], axis=0).sum(axis=0)
        found.append(sum(mapped[stratum] * total[1, stratum] / total[:, stratum].sum() for stratum in range(2)))
    assert (areas.area[1].low, areas.area[1].high) == pytest.approx(tuple(np.percentile(found, (5, 95))))


def test_areas_of_other_scenes_follow_from_the_errors_on_labelled_ones():
    counts = {"blend": {f"s{scene}": np.array([[[900, 0, 0], [50, 50, 0]]]) for scene in range(4)}}
    evaluation = Evaluation("train", counts, {f"s{scene}": f"g{scene}" for scene in range(4)}, "blend")
    # Of what is mapped as background a nineteenth is kelp, in other scenes too.
    mapped = {"t0": np.array([1900, 100]), "t1": np.array([3800, 0])}
    grids = {"t0": utm(), "t1": utm()}
    areas = areas_of_evaluation(evaluation, mapped, grids, KELP, EnsembleSettings(n_resamples=20), seed=0)
    assert areas.labels == ("background", "kelp")
    assert areas.mapped == (570_000, 10_000)
    assert areas.area[1].value == pytest.approx(570_000 / 19 + 10_000)


@pytest.mark.parametrize(
    ("grid", "area"),
    [
        (utm(), 100.0),
        (utm(2263), (10 * 1200 / 3937) ** 2),  # US survey feet
        (utm(4326), None),
        (utm(3857), None),
        (utm(3395), None),
        (Grid(4, 5), None),
        (Grid(4, 5, None, (1, 0, 0, 0, 1, 0)), None),
    ],
)
def test_the_area_of_a_pixel_is_told_only_where_the_crs_tells_it(grid, area):
    assert pixel_area(grid) == (None if area is None else pytest.approx(area))


def test_a_turned_pixel_has_the_area_of_its_parallelogram():
    grid = Grid(4, 5, utm().crs, (6, 8, 0, 8, -6, 0))
    assert pixel_area(grid) == 100


def test_areas_are_metric_only_if_every_scene_is():
    pixels = {"a": np.array([3, 1]), "b": np.array([0, 2])}
    mapped, metric = mapped_area(pixels, {"a": utm(), "b": utm(size=20)})
    assert metric
    assert mapped.tolist() == [300, 900]
    mapped, metric = mapped_area(pixels, {"a": utm(), "b": Grid(2, 2)})
    assert not metric
    assert mapped.tolist() == [3, 3]
