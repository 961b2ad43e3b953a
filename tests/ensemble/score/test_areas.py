"""Areas and accuracy by area: against the paper's own example, a bootstrap by hand, and known populations."""

import re

import numpy as np
import pytest
from rasterio.crs import CRS
from scipy import stats

from data.scenes.scene import Scene
from data.scenes.windows import Grid
from ensemble import EnsembleSettings
from ensemble.score.area_estimates import Mapped, adjust_counts, areas_of_evaluation, areas_of_groups, areas_of_sample
from ensemble.score.areas import pixel_sizes
from ensemble.score.evaluation import Evaluation
from ensemble.score.intervals import GroupCounts, spread_of

from ..conftest import KELP

# Table 8 of Olofsson et al. 2014, turned so that rows are the reference and columns the map.
CHANGE = ("deforestation", "forest gain", "stable forest", "stable non-forest")
TABLE_8 = np.array([[66, 0, 1, 2, 0], [0, 55, 0, 1, 0], [5, 8, 153, 9, 0], [4, 12, 11, 313, 0]])
LANDSAT = np.array([200_000, 150_000, 3_200_000, 6_450_000]) * 900.0


def half(interval):
    return (interval.high - interval.low) / 2


def utm(epsg=32633, size=10.0):
    return Grid(4, 5, CRS.from_epsg(epsg).to_wkt(), (size, 0, 500_000, 0, -size, 0))


def test_the_example_of_the_paper_comes_out_as_printed():
    areas = areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=True)
    assert round(areas.overall.value, 3) == 0.947
    assert [round(one.value, 2) for one in areas.user] == [0.88, 0.73, 0.93, 0.96]
    assert [round(one.value, 2) for one in areas.producer] == [0.75, 0.85, 0.93, 0.96]
    hectares = [(round(one.value / 1e4), half(one) / 1e4) for one in areas.area]
    assert [value for value, _ in hectares] == [21_158, 11_686, 285_770, 581_386]
    assert sum(one.value for one in areas.area) == pytest.approx(LANDSAT.sum())
    # They print Wald's intervals. Jeffreys' are as wide of common classes, and wider of those that few points show.
    ratios = [width / printed for (_, width), printed in zip(hectares, [6158, 3756, 15_510, 16_282], strict=True)]
    assert ratios[2:] == pytest.approx([1, 1], abs=0.03)
    assert 1 < ratios[0] < ratios[1] < 1.5
    assert [half(one) for one in (*areas.user, areas.overall)] == pytest.approx(
        [0.07, 0.10, 0.04, 0.02, 0.018], abs=0.012
    )


def test_a_table_tells_the_areas_in_hectares_and_the_intervals():
    lines = areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=True).lines()
    assert "mapped, ha" in lines[0]
    # Thousands are set apart by a narrow space.
    areas = areas_of_sample(TABLE_8, LANDSAT, CHANGE, 0.95, metric=True)
    low, high = (f"{end / 1e4:,.0f}".replace(",", "\u202f") for end in (areas.area[0].low, areas.area[0].high))
    assert re.split(" +", lines[1]) == [
        "deforestation",
        "18\u202f000",
        "21\u202f158",
        f"{low}–{high}",
        *areas.user[0].words().split(),
        *areas.producer[0].words().split(),
    ]
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[-1] == f"overall accuracy by area {areas.overall.words()}"
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
    assert ends[1][0] < 8 < ends[1][1] < 12


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # Pixels of three classes by truth and map; a sample draws as many of each mapped class.
    population = 10 * np.array([[40_000, 3000, 1500], [4500, 9000, 900], [4000, 1800, 4000]])
    mapped = population.sum(axis=0).astype(float)
    truth = population.sum(axis=1)
    producer, overall = np.diagonal(population) / truth, np.trace(population) / population.sum()
    rng = np.random.default_rng(0)
    rounds = 500
    draws = np.stack([rng.multivariate_hypergeometric(column, 800, size=rounds) for column in population.T], axis=2)
    counts = np.concatenate([draws, np.zeros((rounds, 3, 1), int)], axis=2)
    covered = np.zeros(7)
    for one in counts:
        areas = areas_of_sample(one, mapped, "abc", 0.95, metric=False)
        found = (*areas.area, *areas.producer, areas.overall)
        covered += [a.low <= b <= a.high for a, b in zip(found, (*truth, *producer, overall), strict=True)]
    # The standard error of a share of 0.95 in so many rounds is 0.01.
    np.testing.assert_allclose(covered / rounds, 0.95, atol=0.025)


def test_a_class_that_is_not_mapped_weighs_nothing_and_points_that_are_all_right_prove_no_perfection():
    counts = np.array([[20, 0, 0, 3], [0, 30, 0, 2], [0, 0, 0, 4]])
    areas = areas_of_sample(counts, np.array([70.0, 30.0, 0.0]), "abc", 0.95, metric=False)
    assert [one.value for one in areas.area] == [70, 30, 0]
    assert (areas.overall.value, areas.overall.high) == (1, 1)
    assert 0.8 < areas.overall.low < 0.99
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


def reference(seed, n=12, groups=12):
    """Return counts of labelled scenes, of two classes."""
    return GroupCounts(np.random.default_rng(seed).integers(1, 90, (n, 1, 2, 3)), np.arange(n) % groups)


def unlabelled(area):
    area = np.asarray(area, float)
    return Mapped(area, np.zeros((*area.shape, area.shape[1])), [f"t{place}" for place in range(len(area))], False)


def test_where_all_is_labelled_the_area_is_that_of_the_labels_without_an_interval():
    counts = reference(0)
    own = counts.scenes[:, 0, :, :2].astype(float)
    areas = areas_of_groups(counts, Mapped(own.sum(axis=1), own, [*"abcdefghijkl"], False), ("a", "b"), 0.95)
    assert [one.value for one in areas.area] == pytest.approx(own.sum(axis=(0, 2)).tolist())
    assert np.isnan([end for one in areas.area for end in (one.low, one.high)]).all()
    assert areas.labelled == 1
    total = own.sum(axis=0)
    assert areas.user[1].value == pytest.approx(total[1, 1] / total[:, 1].sum())
    assert areas.producer[1].value == pytest.approx(total[1, 1] / total[1].sum())
    assert areas.user[1].low < areas.user[1].value < areas.user[1].high
    assert areas.words().count("–") == 0


def test_the_labelled_part_is_known_and_the_rest_uncertain():
    counts = reference(1)
    own = counts.scenes[:, 0, :, :2].astype(float)
    rest = unlabelled(own.sum(axis=1))
    alone = areas_of_groups(counts, rest, ("a", "b"), 0.95).area[1]
    both = Mapped(2 * own.sum(axis=1), own, rest.group, False)
    area = areas_of_groups(counts, both, ("a", "b"), 0.95).area[1]
    known = own[:, 1].sum()
    assert (area.value, area.low, area.high) == pytest.approx(
        tuple(known + end for end in (alone.value, alone.low, alone.high))
    )


def test_where_nothing_is_mapped_there_is_nothing_and_without_a_reference_nothing_is_known():
    counts = GroupCounts(np.array([[[[9, 0, 5], [3, 0, 1]]]] * 4), np.arange(4))
    nothing = areas_of_groups(counts, unlabelled([[0, 0]]), ("a", "b"), 0.95)
    assert [one.value for one in nothing.area] == [0, 0]
    assert areas_of_sample(counts.scenes[0, 0], np.zeros(2), ("a", "b"), 0.95, metric=False).area[0].value == 0
    unknown = areas_of_groups(counts, unlabelled([[50, 50]]), ("a", "b"), 0.95)
    assert np.isnan([one.value for one in unknown.area]).all()
    assert unknown.lines()[1].split()[1:3] == ["50", "–"]


def test_a_class_in_three_groups_has_an_area_without_an_interval():
    counts = reference(2)
    counts.scenes[3:, :, 1] = 0
    area = areas_of_groups(counts, unlabelled([[900, 100]]), ("a", "b"), 0.95).area
    assert np.isfinite(area[1].value)
    assert np.isnan(area[1].low)
    assert np.isfinite(area[0].low)


def test_areas_of_few_scenes_are_the_more_uncertain_and_scenes_of_one_group_still_more():
    counts = reference(3, n=40, groups=40)

    def width(area, group=None):
        target = unlabelled(area)
        target = target if group is None else Mapped(target.area, target.labelled, group, False)
        found = areas_of_groups(counts, target, ("a", "b"), 0.95).area[1]
        return (found.high - found.low) / found.value

    few, many = np.full((2, 2), 5000.0), np.full((200, 2), 50.0)
    assert width(few) > 2 * width(many)
    assert width(many, ["one"] * 200) > 2 * width(many)


def test_the_variance_of_an_area_is_that_of_the_rates_and_that_of_the_scenes():
    counts, mapped = reference(4), np.array([[600.0, 100.0], [300.0, 50.0]])
    seen = counts.scenes[:, 0, :, :2].astype(float)
    rates = seen.sum(axis=0) / seen.sum(axis=(0, 1))
    rest = mapped.sum(axis=0)
    value = rest @ rates[1]
    others = [np.delete(seen, place, axis=0).sum(axis=0) for place in range(12)]
    without = np.array([rest @ (one / one.sum(axis=0))[1] for one in others])
    error, freedom = spread_of(value, without)
    of_rates = error**2
    surplus = np.array([one[1].sum() - one.sum(axis=0) @ rates[1] for one in seen])
    shares = surplus**2 / seen.sum(axis=(1, 2))
    sizes = mapped.sum(axis=1)
    of_scenes = shares.sum() / seen.sum() * 12 / 11 * (sizes**2).sum()
    total = of_rates + of_scenes
    known = min(11, max(2, 2 * 12 * shares.mean() ** 2 / shares.var(ddof=1)))
    t = stats.t.ppf(0.95, total**2 / (of_rates**2 / freedom + of_scenes**2 / known))
    share = value / 1050
    found = areas_of_groups(counts, unlabelled(mapped), ("a", "b"), 0.9).area[1]
    down, up = np.diff([np.log(end / (1050 - end)) for end in (found.low, found.value, found.high)]) * 1050
    assert down * share * (1 - share) == pytest.approx(t * np.sqrt(total))
    skews = [max(stats.skew(value - without), 0) / np.sqrt(12), max(stats.skew(surplus), 0)]
    skews[1] *= (sizes**3).sum() / (sizes**2).sum() ** 1.5
    further = of_rates**1.5 * skews[0] * (1 + 2 * t**2) + of_scenes**1.5 * skews[1] * (t**2 - 1)
    assert up * share * (1 - share) == pytest.approx(t * np.sqrt(total) + max(further, 0) / 6 / total)


def test_areas_of_other_scenes_follow_from_the_errors_on_labelled_ones():
    counts = {"blend": {f"s{scene}": np.array([[[900, 0, 0], [50, 50, 0]]]) for scene in range(4)}}
    evaluation = Evaluation("train", counts, {f"s{scene}": f"g{scene}" for scene in range(4)}, "blend")
    # Of what is mapped as background a nineteenth is kelp, in other scenes too.
    mapped = {"t0": np.array([1900, 100]), "t1": np.array([3800, 0])}
    scenes = [Scene(name, "test", (), utm()) for name in mapped]
    areas = areas_of_evaluation(evaluation, mapped, scenes, KELP, EnsembleSettings(), labelled=False)
    assert areas.labels == ("background", "kelp")
    assert areas.mapped == (570_000, 10_000)
    assert areas.area[1].value == pytest.approx(570_000 / 19 + 10_000)


def test_areas_are_metric_only_if_every_scene_is():
    assert pixel_sizes([utm(), utm(size=20)]) == ([100, 400], True)
    assert pixel_sizes([utm(), Grid(2, 2)]) == ([1, 1], False)
