import numpy as np
import pytest
import rasterio.features
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from data.maps.geotiff import NODATA, TOP
from data.scenes.classes import IGNORE
from data.scenes.windows import Grid, Window
from ensemble.audit.edges import measure_edges
from ensemble.audit.evidence import LEAST, count_contradictions, weigh_evidence
from ensemble.audit.outlines import to_coordinates, trace_outlines
from ensemble.audit.parts import DAMPING, NEAR, find_parts
from ensemble.audit.regions import list_candidates, outline_region

NAMES = ("water", "rock", "kelp")


def find_regions(seen, names=NAMES):
    """Return the regions of all parts, with their score."""
    parts = find_parts(seen, len(names))
    candidates = list_candidates("s", parts, np.arange(len(parts)), names)
    return [outline_region(one, float(score)) for one, score in zip(candidates, parts.fact("score"), strict=True)]


def stored_classes(shape, seed, missing=0.0):
    """Return random probabilities of three classes (3, H, W) as stored."""
    rng = np.random.default_rng(seed)
    stored = np.rint(np.moveaxis(rng.dirichlet([1, 1, 1], shape), -1, 0) * TOP).astype(np.uint16)
    stored[:, rng.random(shape) < missing] = NODATA
    return stored


def evidence(label, prediction, seed=0):
    """Return evidence of one member with random probabilities of three classes."""
    stored = stored_classes(label.shape, seed)
    return weigh_evidence(stored[None], (1.0,), stored, label, prediction)


def binary_evidence(proba, threshold=0.5):
    """Return evidence of one member that finds kelp where a label says there is none."""
    stored = np.rint(proba[None] * TOP).astype(np.uint16)
    label, prediction = np.zeros(proba.shape, np.uint8), (proba >= threshold).astype(np.uint8)
    return weigh_evidence(stored[None], (1.0,), stored, label, prediction)


def label_and_prediction(draw_ignore=True):
    values = st.sampled_from([0, 1, 2, 255] if draw_ignore else [0, 1, 2])
    shapes = st.shared(st.tuples(st.integers(1, 9), st.integers(1, 9)), key="shape")
    return st.tuples(arrays(np.uint8, shapes, elements=values), arrays(np.uint8, shapes, elements=values))


def filled(region, shape):
    """Return the pixels within a region's outline."""
    geometry = {"type": "MultiPolygon", "coordinates": region.outline}
    return rasterio.features.geometry_mask([geometry], shape, rasterio.Affine.identity(), invert=True)


@given(label_and_prediction(), st.integers(0, 5))
def test_regions_are_those_of_a_slow_loop(planes, seed):
    label, prediction = planes
    seen = evidence(label, prediction, seed)
    wanted = []
    for said in range(3):
        for thought in range(3):
            parts, count = ndimage.label((label == said) & (prediction == thought) & (said != thought), np.ones((3, 3)))
            for number in range(1, count + 1):
                mask = parts == number
                odds, error = seen.odds[mask].mean(dtype=float), seen.error[mask].sum() / TOP
                if odds > 0:
                    wanted.append((NAMES[said], NAMES[thought], mask.sum(), error, odds, mask))
    found = [region for region in find_regions(seen) if region.score > 0]
    assert len(found) == len(wanted)
    for region in found:
        mask = filled(region, label.shape)
        (same,) = [one for one in wanted if (one[5] == mask).all()]
        assert (region.label, region.prediction, region.area) == same[:3]
        assert (region.error, region.confidence) == pytest.approx(same[3:5], abs=1e-9)
        assert region.score == pytest.approx(same[4] * same[2] ** DAMPING)
        rows, cols = np.nonzero(mask)
        assert region.window == Window(rows.min(), cols.min(), np.ptp(rows) + 1, np.ptp(cols) + 1)
        assert mask[region.row, region.col]


@given(label_and_prediction(), st.integers(0, 5))
def test_facts_are_those_of_a_slow_loop(planes, seed):
    label, prediction = planes
    seen = evidence(label, prediction, seed)
    parts = find_parts(seen, 3)
    for place in range(len(parts)):
        mask = parts.number == place + 1
        assert (label[mask] == parts.label[place]).all()
        assert (prediction[mask] == parts.prediction[place]).all()
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        near = ndimage.binary_dilation(label == parts.prediction[place], np.ones((2 * NEAR + 1,) * 2))
        expected = {
            "least": seen.least[mask].mean(dtype=float),
            "gap": seen.error[mask].mean() / TOP,
            "size": np.log(mask.sum()),
            "thickness": depth[mask].max(),
            "touch": near[mask].mean(),
            "said": float(parts.label[place] == 0),
            "level": np.median(parts.fact("score")),
            "bulk": seen.odds[mask].mean(dtype=float) * np.log1p(depth[mask].max()),
        }
        found = {name: parts.fact(name)[place] for name in expected}
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_sliver_is_thin_and_beside_an_outline_or_a_few_pixels():
    label, prediction = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    label[5:15, 5:15] = 1
    prediction[5:15, 4:14] = 1  # moved by a pixel: a sliver on either side
    prediction[30:33, 5:8] = 1  # a bed that is missing
    prediction[30, 20] = 1  # noise
    prediction[36, 10:30] = 1  # a road that is missing
    seen = weigh_evidence(
        np.zeros((1, 1, 40, 40), np.uint16), (1.0,), np.zeros((1, 40, 40), np.uint16), label, prediction
    )
    parts = find_parts(seen, 2)
    listed = {(int(top), int(left)) for left, top, *_ in parts.box[~parts.slivers]}
    assert listed == {(30, 5), (36, 10)}
    edges = measure_edges(seen, parts)
    assert (edges.down, edges.right) == (0, -1)
    assert edges.width == pytest.approx(20 / 40)
    assert edges.growth == 0


@given(label_and_prediction())
def test_counts_are_those_of_a_slow_loop(planes):
    label, prediction = planes
    seen = evidence(label, prediction)
    labelled = contradicted = 0
    error = 0.0
    for place_ in np.ndindex(label.shape):
        if label[place_] != 255 and prediction[place_] != 255:
            labelled += 1
            if label[place_] != prediction[place_]:
                contradicted += 1
                error += seen.error[place_] / TOP
    assert count_contradictions(seen)[:2] == (labelled, contradicted)
    assert count_contradictions(seen)[2] == pytest.approx(error)


@given(label_and_prediction(), st.integers(0, 9))
def test_evidence_is_that_of_a_slow_loop(planes, seed):
    label, prediction = planes
    members = np.stack([stored_classes(label.shape, seed + number, missing=0.3) for number in range(3)])
    blended, shares = stored_classes(label.shape, seed + 3, missing=0.2), (0.5, 0.0, 0.5)
    found = weigh_evidence(members, shares, blended, label, prediction)
    for place_ in np.ndindex(label.shape):
        said, seen = int(label[place_]), int(prediction[place_])
        odds, error = [], 0
        if said != IGNORE and seen != IGNORE:
            for number in (0, 2):
                against, support = (int(members[number, which][place_]) for which in (said, seen))
                if against != NODATA:
                    odds.append(np.log(max(support, LEAST) / max(against, LEAST)))
            if blended[0][place_] != NODATA:
                error = max(int(blended[seen][place_]) - int(blended[said][place_]), 0)
        assert found.odds[place_] == pytest.approx(np.mean(odds) if odds else 0, abs=1e-5)
        assert found.least[place_] == pytest.approx(min(odds) if odds else 0, abs=1e-5)
        assert found.error[place_] == error


def test_one_class_is_weighed_against_what_is_not_it():
    stored = np.uint16([[[TOP, 1, NODATA, 7, 40_000]]])
    label, prediction = np.uint8([[0, 0, 0, IGNORE, 1]]), np.uint8([[1, 0, IGNORE, 1, 0]])
    found = weigh_evidence(stored[None], (1.0,), stored, label, prediction)
    np.testing.assert_allclose(found.odds, [[np.log(1000), 0, 0, 0, np.log((TOP - 40_000) / 40_000)]], rtol=1e-5)
    np.testing.assert_array_equal(found.error, [[TOP, 0, 0, 0, 0]])


def test_a_confident_bed_comes_before_a_larger_doubtful_one_and_before_a_confident_pixel():
    proba = np.zeros((20, 40))
    proba[2:7, 2:7] = 0.99
    proba[2:18, 20:36] = 0.6
    proba[15, 4] = 0.99
    found = find_regions(binary_evidence(proba), ("sea", "kelp"))
    assert [region.area for region in sorted(found, key=lambda one: -one.score)] == [25, 1, 256]


def test_a_prediction_that_a_low_threshold_made_is_no_region():
    seen = binary_evidence(np.full((3, 3), 0.4), threshold=0.3)
    assert [region.score < 0 for region in find_regions(seen, ("sea", "kelp"))] == [True]
    assert count_contradictions(seen) == (9, 9, 0.0)


@given(arrays(np.bool_, st.tuples(st.integers(1, 8), st.integers(1, 8))), st.integers(0, 5), st.integers(0, 5))
def test_an_outline_holds_its_pixels_and_no_others(mask, row, col):
    polygons = trace_outlines(mask, row, col)
    whole = np.zeros((16, 16), bool)
    whole[row : row + mask.shape[0], col : col + mask.shape[1]] = mask
    if not mask.any():
        assert polygons == []
        return
    geometry = {"type": "MultiPolygon", "coordinates": polygons}
    found = rasterio.features.geometry_mask([geometry], whole.shape, rasterio.Affine.identity(), invert=True)
    np.testing.assert_array_equal(found, whole)


def test_outlines_lie_on_the_grid_of_their_scene():
    square = trace_outlines(np.ones((1, 1), bool), 2, 3)
    grid = Grid(9, 9, "EPSG:32610", (10, 0, 500_000, 0, -10, 4_000_000))
    ((ring,),) = to_coordinates(square, grid)
    assert set(ring) == {(500_030, 3_999_980), (500_040, 3_999_980), (500_040, 3_999_970), (500_030, 3_999_970)}
    ((ring,),) = to_coordinates(square, Grid(9, 9))
    assert set(ring) == {(3, -2), (4, -2), (4, -3), (3, -3)}
