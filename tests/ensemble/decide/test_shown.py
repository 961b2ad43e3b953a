"""What is shown as probability holds, whatever labels are made of; and nothing of a fold is known of it."""

import numpy as np
import pytest

from data.maps.geotiff import dequantise
from data.scenes.scene import read_label
from ensemble import EnsembleSettings, fit_ensemble
from ensemble.maps import open_maps

from ..conftest import KELP, LAND, noisy

SETTINGS = EnsembleSettings(sample=4000, calibration="none", cleaning="none", thresholds="fixed")


def overconfident(classes, seed):
    """Return a member that is far too sure of what it says."""
    plain = noisy(classes, 1.5, seed)

    def proba(scene):
        powers = plain(scene) ** 4
        return powers / powers.sum(axis=0) if len(powers) > 1 else powers / (powers + (1 - plain(scene)) ** 4)

    return proba


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_what_is_shown_is_right_as_often_as_it_says(make_catalogue, write_maps, classes):
    catalogue = make_catalogue(classes)
    members = {"sure": write_maps("sure", catalogue, overconfident(classes, 0))}
    ensemble, (evaluation,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    maps = open_maps(members, classes)
    said, shown, right = [], [], []
    for scene in catalogue.scenes:
        decision = evaluation.decisions[scene.fold][evaluation.final]
        blended, label = decision.proba(maps.read(scene)), read_label(scene)
        own = label == np.arange(len(classes.label_names))[-len(blended) :, None, None]
        said.append(dequantise(blended)[:, label != 255])
        shown.append(dequantise(decision.show(blended))[:, label != 255])
        right.append(own[:, label != 255])
    said, shown, right = (np.concatenate(parts, axis=1) for parts in (said, shown, right))
    sure = said > 0.95
    assert said[sure].mean() - right[sure].mean() > 0.03
    assert abs(shown[sure].mean() - right[sure].mean()) < 0.03
    if not classes.exclusive:
        assert ensemble.decision.shown.method != "none"
    # Labels are made without it.
    stored = maps.read(catalogue.scenes[0])
    np.testing.assert_array_equal(ensemble.decide(ensemble.proba(stored)), ensemble.decision.apply(stored))


def test_what_is_shown_of_a_fold_does_not_know_its_labels(make_catalogue, write_maps, write_raster):
    catalogue = make_catalogue()
    members = {"sure": write_maps("sure", catalogue, overconfident(KELP, 0))}
    _, (before,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    for scene in catalogue.in_fold(0):
        label = read_label(scene)
        write_raster(f"{scene.split}{scene.id[1:]}.tif", np.where(label == 255, 255, 1 - label).astype(np.uint8))
    _, (after,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    shown = [[one.decisions[fold][one.final].shown for fold in (0, 1)] for one in (before, after)]
    assert shown[0][0] == shown[1][0]
    assert shown[0][1] != shown[1][1]
