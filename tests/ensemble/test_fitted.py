from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import dequantise
from data.metrics.confusion import question_counts
from data.scenes.scene import read_label
from ensemble import fit_ensemble
from ensemble.decide.decision.thresholds import plain_thresholds
from ensemble.fitted import fit_and_measure
from ensemble.maps import MemberFolder, open_maps

from .conftest import KELP, LAND, SETTINGS


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_in_sample_members_are_scored_on_val_alone_and_decide_nothing(make_catalogue, make_members, classes):
    train, val = make_catalogue(classes), make_catalogue(classes, n_scenes=3, split="val")
    both = replace(train, scenes=train.scenes + val.scenes, statistics=train.statistics | val.statistics)
    paths = make_members(both, a=(3, 0), leaky=(9, 1))
    members = {"a": MemberFolder(paths["a"], "trees"), "leaky": MemberFolder(paths["leaky"], "maps", decides=False)}
    fitted = fit_and_measure(members, both, SETTINGS, seed=0)
    assert fitted.ensemble.members == ("a",)
    bare, _ = fit_ensemble({"a": paths["a"]}, both, SETTINGS, seed=0, branches={"a": "trees"})
    assert fitted.ensemble.decision == bare.decision
    told = fitted.scores.select("split", "candidate").unique()
    assert told.filter(pl.col("candidate").str.contains("leaky")).rows() == [("val", "leaky, in sample")]
    counts = fitted.evaluations[1].counts["leaky, in sample"]
    maps = open_maps({"leaky": paths["leaky"]}, classes)
    for scene in both.split("val"):
        proba = dequantise(maps.read(scene)[0])
        label = proba.argmax(axis=0) if classes.exclusive else proba[0] >= plain_thresholds(classes)[0]
        expected = question_counts(read_label(scene)[None], label[None].astype(np.uint8), classes.n_labels)
        assert (counts[scene.id] == expected).all()
    assert set(fitted.evaluations[1].counts) == {*fitted.evaluations[0].counts, "leaky, in sample"}


def test_members_that_are_all_in_sample_have_nothing_to_decide_on(make_catalogue, make_members):
    catalogue = make_catalogue()
    paths = make_members(catalogue, leaky=(9, 1))
    with pytest.raises(EnsembleError, match="expected members to blend"):
        fit_and_measure({"leaky": MemberFolder(paths["leaky"], "maps", decides=False)}, catalogue, SETTINGS, seed=0)
