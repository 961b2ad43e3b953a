from dataclasses import replace

import numpy as np
import pytest

from data.errors import MapError
from data.maps.geotiff import map_writer
from data.scenes.windows import Grid
from ensemble.score.area_estimates import areas_of_sample
from ensemble.score.assisted_areas import SoftSample, assist_areas
from ensemble.score.soft_maps import read_soft_map

from ..conftest import KELP, LAND

MAPPED = np.array([9000.0, 1000.0])


def draw(omission, strength, n=200, seed=0):
    """Return a soft sample of two mapped classes, n points each, and what all pixels have, (n_strata,)."""
    rng = np.random.default_rng(seed)
    chance = np.array([omission, 0.8])
    everywhere = rng.random((2, 50_000)) < chance[:, None]
    logit = np.log(chance / (1 - chance))[:, None] + strength * (
        strength * (everywhere - 0.5) + rng.normal(size=everywhere.shape)
    )
    proba = 1 / (1 + np.exp(-logit))
    stratum = np.repeat([0, 1], n)
    label = everywhere[:, :n].ravel().astype(np.int64)
    at = np.stack([1 - proba[:, :n].ravel(), proba[:, :n].ravel()], axis=1)
    mean = np.stack([1 - proba.mean(axis=1), proba.mean(axis=1)], axis=1)
    return SoftSample(stratum, label, at, mean), everywhere.mean(axis=1)


def plain(sample):
    counts = np.zeros((2, 3), np.int64)
    np.add.at(counts, (sample.label, sample.stratum), 1)
    return areas_of_sample(counts, MAPPED, ("sea", "kelp"), 0.95, metric=False).area


@pytest.mark.parametrize("seed", range(5))
def test_probabilities_that_say_nothing_change_nothing(seed):
    sample, _ = draw(0.1, 0, seed=seed)
    found = assist_areas(sample, MAPPED, 0.95)
    for one, other in zip(found.area, plain(sample), strict=True):
        np.testing.assert_allclose([one.value, one.low, one.high], [other.value, other.low, other.high], rtol=0.02)
    assert found.saved == (0, 0)


def test_what_was_never_seen_keeps_its_interval():
    sample, _ = draw(1e-9, 3)
    found, other = assist_areas(sample, MAPPED, 0.95).area[1], plain(sample)[1]
    # All that is uncertain of its share of the sea is Jeffreys'; probabilities tell more of what is mapped as kelp.
    assert found.high - found.value > 0.9 * (other.high - other.value)
    assert found.high > MAPPED[1] * 0.8 + 50


def test_good_probabilities_are_worth_many_points_and_bad_scales_do_no_harm():
    errors, others, saved = [], [], []
    for seed in range(20):
        sample, share = draw(0.1, 3, seed=seed)
        truth = float(share @ MAPPED)
        found = assist_areas(sample, MAPPED, 0.95)
        saved.append(found.saved[1])
        errors.append(found.area[1].value - truth)
        others.append(plain(sample)[1].value - truth)
        # Any straight line of them says as much.
        bent = replace(sample, proba=0.2 + 0.5 * sample.proba, mean=0.2 + 0.5 * sample.mean)
        again = assist_areas(bent, MAPPED, 0.95)
        assert again.area[1].value == pytest.approx(found.area[1].value)
        assert again.saved[1] == pytest.approx(found.saved[1])
    assert np.median(saved) > 300
    assert np.std(errors) < 0.6 * np.std(others)


@pytest.mark.parametrize("classes", [KELP, LAND], ids=["binary", "multiclass"])
def test_soft_maps_are_summed_by_mapped_class_strip_by_strip(tmp_path, classes):
    rng, grid, n_labels = np.random.default_rng(0), Grid(9, 7), classes.n_labels
    shares = rng.dirichlet(np.ones(n_labels), 63).T.reshape(n_labels, 9, 7).astype(np.float32)
    mapped = rng.integers(0, n_labels, (9, 7)).astype(np.uint8)
    mapped[0, 0] = 255
    with map_writer(tmp_path / "a.tif", grid, classes.names, {}) as writer:
        writer.write(grid.window, shares[-len(classes.names) :])
    sums, at = read_soft_map(tmp_path / "a.tif", grid, mapped, [(8, 0), (3, 6)], classes, strip_pixels=20)
    for stratum in range(n_labels):
        np.testing.assert_allclose(sums[stratum], shares[:, mapped == stratum].sum(axis=1), atol=1e-3)
    np.testing.assert_allclose(at, shares[:, [8, 3], [0, 6]].T, atol=1e-4)
    with pytest.raises(MapError, match="expected 9 × 8 pixels like its scene"):
        read_soft_map(tmp_path / "a.tif", Grid(9, 8), mapped, [], classes)
    with pytest.raises(MapError, match=r"a\.tif: expected probabilities of .*got "):
        read_soft_map(tmp_path / "a.tif", grid, mapped, [], LAND if classes is KELP else KELP)
