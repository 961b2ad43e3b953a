from dataclasses import replace

import numpy as np
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import dequantise
from data.scenes.classes import IGNORE, Classes
from ensemble import fit_ensemble
from ensemble.fitted import fit_rows
from ensemble.maps import open_maps
from ensemble.rows import LabelledRows, open_rows
from ensemble.score.evaluation import BLEND

from .conftest import KELP, LAND, SETTINGS

TAGS = Classes("multilabel", (0, 1, 2), ("haze", "road", "mine"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))
PLAIN = SETTINGS.model_copy(update={"cleaning": "none"})


def rows_of(catalogue, directories):
    """Return the pixels of maps as rows, a group a scene."""
    maps = open_maps(directories, catalogue.classes)
    stored, label, group, fold = [], [], [], []
    for scene in catalogue.split("train"):
        values = maps.read(scene)
        stored.append(values.reshape(*values.shape[:2], -1))
        label.append(maps.label(scene)[0].ravel())
        group += [scene.id] * label[-1].size
        fold.append(np.full(label[-1].size, scene.fold))
    proba = dequantise(np.concatenate(stored, axis=2))
    by_member = {name: proba[place].T for place, name in enumerate(directories)}
    return LabelledRows(by_member, np.concatenate(label), group, np.concatenate(fold))


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_rows_are_decided_as_the_maps_that_they_come_from(make_catalogue, make_members, classes):
    catalogue = make_catalogue(classes)
    own = tuple(replace(scene, group=scene.id) for scene in catalogue.scenes)
    catalogue = replace(catalogue, scenes=own)
    directories = make_members(catalogue, a=(3, 0, 0), b=(3, 1, 1))
    expected, [nested] = fit_ensemble(directories, catalogue, PLAIN, seed=0)
    rows = rows_of(catalogue, directories)
    fitted = fit_rows(*open_rows(rows, classes), SETTINGS, seed=0)
    # Which pixels are sampled depends on the shape of a scene; binary thresholds and all counts are of every pixel.
    assert fitted.ensemble.score_ == pytest.approx(expected.score_, abs=0.01)
    assert fitted.ensemble.weights_ == pytest.approx(expected.weights_, abs=0.1)
    for rank, (_, counts) in enumerate(sorted(nested.counts["a"].items())):
        assert fitted.nested.counts["a"][f"{rank:06d}"].sum(axis=-1).tolist() == counts.sum(axis=-1).tolist()


@pytest.mark.parametrize("classes", [KELP, LAND, TAGS])
def test_weights_are_as_good_as_rows_that_stand_there_so_often(classes):
    rng = np.random.default_rng(3)
    n, groups, third = 420, 12, 140
    settings = SETTINGS.model_copy(update={"policy": "average"})
    group = np.arange(n) % groups
    if classes is TAGS:
        label = (rng.random((n, 3)) < 0.3).astype(np.uint8)
        hint = label
    else:
        label = rng.integers(0, classes.n_labels, n).astype(np.uint8)
        hint = np.eye(classes.n_labels)[label][:, -len(classes.names) :]
    proba = {name: 0.3 + 0.4 * hint + rng.uniform(-0.29, 0.29, hint.shape) for name in "ab"}
    if classes.exclusive:
        proba = {name: values / values.sum(axis=1, keepdims=True) for name, values in proba.items()}
    weight = rng.integers(1, 4, n)
    rows = LabelledRows(proba, label, [f"g{one:02d}" for one in group], group % 3, weight.astype(float))
    many = np.repeat(np.arange(n), weight)
    repeated = LabelledRows(
        {name: values[many] for name, values in proba.items()},
        label[many],
        [rows.group[row] for row in many],
        rows.fold[many],
    )
    one, other = (fit_rows(*open_rows(some, classes), settings, seed=0) for some in (rows, repeated))
    assert one.nested.total("a").tolist() == other.nested.total("a").tolist()
    assert one.ensemble.score_ == pytest.approx(other.ensemble.score_, abs=0.01)
    assert one.ensemble.thresholds_ == pytest.approx(other.ensemble.thresholds_, abs=0.05)
    if classes is TAGS:
        return
    ignored = replace(rows, weight=np.where(np.arange(n) < third, 0.0, 1.0))
    fewer = LabelledRows(
        {name: values[third:] for name, values in proba.items()}, label[third:], rows.group[third:], rows.fold[third:]
    )
    one, other = (fit_rows(*open_rows(some, classes), settings, seed=0) for some in (ignored, fewer))
    assert one.nested.total(BLEND).sum() == other.nested.total(BLEND).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fold": np.arange(60) % 3}, "each group in one fold, got g0, g1"),
        ({"proba": {"a": np.zeros((60, 2))}}, r"member a: expected probabilities \(60, 1\)"),
        ({"proba": {"a": np.full((60, 1), 3.0)}}, "from 0 to 1, got 3 to 3"),
        ({"label": np.full(60, 2, np.uint8)}, "labels from 0 to 1, and 255 for none, got 2"),
        ({"label": np.zeros((60, 2), np.uint8)}, "labels of 1 questions a row, got 2"),
        ({"weight": np.full(60, -1.0)}, "numbers from 0 up"),
        ({"group": ["g"] * 3}, "expected groups of 60 rows, got 3"),
        ({"label": np.full(60, IGNORE, np.uint8)}, "expected labelled pixels"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change, message):
    group = np.repeat(np.arange(6), 10)
    rows = LabelledRows({"a": np.full((60, 1), 0.5)}, np.zeros(60, np.uint8), [f"g{one}" for one in group], group % 3)
    with pytest.raises(EnsembleError, match=message):
        fit_rows(*open_rows(replace(rows, **change), KELP), SETTINGS, seed=0)
    with pytest.raises(EnsembleError, match="expected none for rows"):
        fit_rows(*open_rows(rows, KELP), SETTINGS.model_copy(update={"rules": [1]}), seed=0)


def test_rows_without_a_prediction_are_misses_and_rows_without_a_label_do_not_count():
    group = np.repeat(np.arange(6), 10)
    label = np.tile([0, 1], 30).astype(np.uint8)
    proba = np.where(label == 1, 0.9, 0.1)[:, None].astype(np.float32)
    proba[5] = np.nan
    label[:5] = IGNORE
    maps, catalogue = open_rows(LabelledRows({"a": proba}, label, [f"g{one}" for one in group], group % 3), KELP)
    assert [scene.grid.height for scene in catalogue.scenes] == [10] * 6
    fitted = fit_rows(maps, catalogue, SETTINGS, seed=0)
    assert fitted.nested.total(BLEND).sum() == 55
    assert fitted.nested.total(BLEND)[..., -1].sum() == 1
