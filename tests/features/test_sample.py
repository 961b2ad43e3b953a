import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.linear_model import LogisticRegression

from data.errors import TableError
from data.scenes.classes import IGNORE
from data.scenes.windows import tile_windows
from features.sample import UNUSED, PixelSample, sample_pixels, stratify
from features.settings import SampleSettings

from ..conftest import KELP, LAND


def draw(label, valid, classes, settings, rng, size=1000):
    """Draw from a whole scene, in windows of some size, and join what was drawn."""
    windows = list(tile_windows(*label.shape, size))
    halo = settings.buffer if classes.task == "binary" else 0
    padded = np.pad(label, halo, constant_values=IGNORE)

    def strata_of(window):
        rows, cols = window.slices
        around = padded[rows.start : rows.stop + 2 * halo, cols.start : cols.stop + 2 * halo]
        return stratify(around, halo, valid[window.slices], classes)

    parts = [sample for _, sample in sample_pixels(windows, strata_of, classes, settings, rng)]
    names = ("rows", "cols", "label", "stratum", "weight")
    return PixelSample(*(np.concatenate([[], *(getattr(part, name) for part in parts)]) for name in names))


def make_label(rng, height, width, share):
    label = (rng.random((height, width)) < share).astype(np.uint8)
    label[rng.random(label.shape) < 0.1] = IGNORE
    return label, rng.random(label.shape) < 0.9


@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.floats(0, 1),
    st.integers(0, 4),
    st.integers(0, 50),
    st.integers(0, 99),
    st.sampled_from([7, 16, 1000]),
)
def test_weights_of_a_stratum_sum_to_its_pixels(height, width, share, buffer, negatives, seed, size):
    rng = np.random.default_rng(seed)
    label, valid = make_label(rng, height, width, share)
    sample = draw(label, valid, KELP, SampleSettings(buffer=buffer, negatives=negatives), rng, size)
    usable = valid & (label != IGNORE)
    near = ndimage.binary_dilation(label == 1, np.ones((2 * buffer + 1,) * 2)) if buffer else label == 1
    strata = {0: label == 1, 1: near & (label != 1), 2: ~near}
    rows, cols = sample.rows.astype(int), sample.cols.astype(int)
    assert usable[rows, cols].all()
    assert (label[rows, cols] == sample.label).all()
    assert len(set(zip(rows.tolist(), cols.tolist(), strict=True))) == len(sample)
    for stratum, mask in strata.items():
        drawn = sample.stratum == stratum
        assert mask[rows[drawn], cols[drawn]].all()
        pixels = (mask & usable).sum()
        assert drawn.sum() == (pixels if stratum < 2 else min(negatives, pixels))
        if drawn.any():
            np.testing.assert_allclose(sample.weight[drawn].sum(), pixels, rtol=1e-5)


def test_a_stratum_says_what_a_pixel_is():
    label = np.zeros((5, 5), np.uint8)
    label[2, 2], label[0, 0], label[4, 4] = 1, IGNORE, 1
    valid = np.ones((3, 3), bool)
    valid[0, 1] = False
    strata = stratify(label, 1, valid, KELP)
    assert strata.stratum.tolist() == [[1, UNUSED, 1], [1, 0, 1], [1, 1, 1]]
    assert strata.label.tolist() == label[1:-1, 1:-1].tolist()


@given(st.integers(0, 99), st.integers(1, 60))
def test_a_quota_takes_all_of_a_rare_class(seed, quota):
    rng = np.random.default_rng(seed)
    label = rng.choice([0, 1, 2], (30, 30), p=[0.8, 0.18, 0.02]).astype(np.uint8)
    settings = SampleSettings(quota=quota, quotas={"rock": 3})
    sample = draw(label, np.ones_like(label, bool), LAND, settings, rng, 16)
    for value in range(3):
        count = (label == value).sum()
        assert (sample.label == value).sum() == min(3 if value == 1 else quota, count)
        np.testing.assert_allclose(sample.weight[sample.label == value].sum(), count, rtol=1e-5)


def test_a_large_scene_gives_a_bounded_sample_whose_weights_are_exact():
    rng = np.random.default_rng(0)
    label = np.zeros((500, 500), np.uint8)
    label[:, 100:] = 1
    sample = draw(label, np.ones_like(label, bool), KELP, SampleSettings(), rng, 128)
    stratum = sample.stratum.astype(int)
    assert np.bincount(stratum).tolist() == [50_000, 2500, 1000]
    assert set(sample.weight[stratum == 0]) == {200_000 / 50_000}
    assert set(sample.weight[stratum == 1]) == {1.0}
    assert sample.weight.sum() == pytest.approx(label.size)


def test_a_quota_of_an_unknown_class_is_refused():
    label = np.zeros((4, 4), np.uint8)
    with pytest.raises(TableError, match="expected classes among water, rock, kelp, got sand"):
        draw(label, label == 0, LAND, SampleSettings(quotas={"sand": 3}), np.random.default_rng(0))


def test_shares_and_a_cap_reduce_strata_in_proportion():
    rng = np.random.default_rng(0)
    label, valid = make_label(rng, 60, 60, 0.1)
    usable = valid & (label != IGNORE)
    few = draw(label, valid, KELP, SampleSettings(buffer=0, negatives=0.25), rng)
    negatives = (usable & (label == 0)).sum()
    assert (few.stratum == 2).sum() == round(0.25 * negatives)
    capped = draw(label, valid, KELP, SampleSettings(buffer=0, negatives=0.25, cap=100), rng)
    assert 98 <= len(capped) <= 100
    assert (capped.stratum == 0).sum() / 100 == pytest.approx((few.stratum == 0).sum() / len(few), abs=0.02)
    for stratum, pixels in ((0, (usable & (label == 1)).sum()), (2, negatives)):
        np.testing.assert_allclose(capped.weight[capped.stratum == stratum].sum(), pixels, rtol=1e-5)


@pytest.mark.parametrize("size", [16, 1000])
def test_spaced_pixels_keep_their_distance_and_weights_are_right_on_average(size):
    rng = np.random.default_rng(0)
    label, valid = make_label(rng, 50, 47, 0.05)
    usable = valid & (label != IGNORE)
    settings = SampleSettings(buffer=1, negatives=20, spacing=4)
    sums = np.zeros(2)
    for _ in range(400):
        sample = draw(label, valid, KELP, settings, rng, size)
        assert len(np.unique(sample.rows % 4)) == len(np.unique(sample.cols % 4)) == 1
        sums += [sample.weight[sample.label == value].sum() for value in (0, 1)]
    expected = [(usable & (label == value)).sum() for value in (0, 1)]
    np.testing.assert_allclose(sums / 400, expected, rtol=0.08)


def test_every_pixel_of_a_stratum_is_as_likely_to_be_drawn_whatever_the_windows():
    label, drawn = np.zeros((20, 30), np.uint8), np.zeros((20, 30))
    rng = np.random.default_rng(0)
    for _ in range(1000):
        sample = draw(label, label == 0, KELP, SampleSettings(negatives=60), rng, 13)
        drawn[sample.rows.astype(int), sample.cols.astype(int)] += 1
    # 100 ± 9.5 each; in the parts of each window their mean is 100 ± 1.
    assert drawn.min() > 50
    assert drawn.max() < 150
    for window in tile_windows(20, 30, 13):
        assert drawn[window.slices].mean() == pytest.approx(100, abs=5)


def test_design_weights_calibrate_a_model_on_full_scenes():
    rng = np.random.default_rng(0)
    label = (ndimage.gaussian_filter(rng.normal(size=(300, 300)), 3) > 0.2).astype(np.uint8)
    feature = label + rng.normal(0, 1, label.shape)
    sample = draw(label, np.ones_like(label, bool), KELP, SampleSettings(buffer=2, negatives=800), rng)
    rows = feature[sample.rows.astype(int), sample.cols.astype(int)][:, None]
    truth = label.mean()
    weighted = LogisticRegression().fit(rows, sample.label, sample.weight).predict_proba(feature.reshape(-1, 1))[:, 1]
    plain = LogisticRegression().fit(rows, sample.label).predict_proba(feature.reshape(-1, 1))[:, 1]
    assert weighted.mean() == pytest.approx(truth, rel=0.1)
    assert plain.mean() > 1.5 * truth
    # Well specified, so the weighted model is calibrated at every level, not only on average.
    for low, high in ((0, 0.02), (0.02, 0.1), (0.1, 0.3), (0.3, 1)):
        level = (weighted >= low) & (weighted < high)
        share = label.ravel()[level].mean()
        assert weighted[level].mean() == pytest.approx(share, abs=3 * np.sqrt(share * (1 - share) / level.sum()) + 0.02)
