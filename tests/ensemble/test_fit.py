import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import read_map
from data.metrics.metric import CLASS_METRICS, METRICS
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.scene import read_label
from data.scenes.windows import Window
from ensemble import BLEND, Ensemble, EnsembleSettings, fit_ensemble, score_table
from ensemble.fitted import FittedEnsemble
from ensemble.maps import open_maps
from ensemble.objective import objective_of
from ensemble.report.page import write_report
from ensemble.report.section import ReportSource, RunFacts

from .conftest import KELP, LAND, SHAPE, noisy

SETTINGS = EnsembleSettings(sample=20_000)


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_members_that_know_different_pixels_gain_from_each_other(make_catalogue, write_maps, classes):
    catalogue = make_catalogue(classes, n_scenes=12)
    members = {
        name: write_maps(name, catalogue, noisy(classes, 3, seed, seed)) for seed, name in enumerate(("one", "two"))
    }
    ensemble, (evaluation,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    assert ensemble.verdict_.startswith("The blend pays")
    assert min(ensemble.weights_.values()) > 0.3
    assert sum(ensemble.weights_.values()) == pytest.approx(1)
    objective = objective_of(SETTINGS, classes)
    assert ensemble.metric == objective.title
    scores = {name: float(objective.score(evaluation.total(name))) for name in evaluation.counts}
    assert scores[BLEND] > max(scores["one"], scores["two"])
    assert ensemble.score_ == scores[BLEND]


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_a_member_that_adds_nothing_gets_no_weight_and_the_verdict_says_so(make_catalogue, write_maps, classes):
    catalogue = make_catalogue(classes)
    members = {
        "good": write_maps("good", catalogue, noisy(classes, 4, 0)),
        "noise": write_maps("noise", catalogue, noisy(classes, 0, 1)),
    }
    # Fitted weights let a few hundredths of noise through now and then: see test_deciding.
    settings = SETTINGS.model_copy(update={"blend": "equal"})
    ensemble, _ = fit_ensemble(members, catalogue, settings, seed=0)
    assert ensemble.weights_ == {"good": 1.0, "noise": 0.0}
    assert ensemble.used == ("good",)
    assert "noise adds nothing here" in ensemble.verdict_


@pytest.mark.parametrize(("classes", "policy"), [(KELP, "tuned"), (LAND, "cautious")])
def test_scenes_without_a_label_have_no_say_and_a_fold_may_have_none_else(
    make_catalogue, make_members, write_raster, classes, policy
):
    catalogue = make_catalogue(classes)
    members = make_members(catalogue, one=(2, 0), two=(1, 1))
    blank = [scene for scene in catalogue.scenes if scene.fold == 2]
    for scene in blank:
        write_raster(Path(scene.label.path).name, np.full(SHAPE, 255, np.uint8))
        catalogue.statistics["train", scene.id] = SceneStatistics(0, (0,) * classes.n_labels)
    assert not {scene.id for scene in catalogue.labelled} & {scene.id for scene in blank}
    settings = SETTINGS.model_copy(update={"policy": policy})
    ensemble, (evaluation,) = fit_ensemble(members, catalogue, settings, seed=0)
    assert set(evaluation.decisions) == {0, 1, 2}

    scenes = tuple(scene for scene in catalogue.scenes if scene.fold != 2)
    alone, _ = fit_ensemble(members, replace(catalogue, scenes=scenes), settings, seed=0)
    assert ensemble.decision == alone.decision


def test_what_is_used_on_a_fold_was_decided_without_it(make_catalogue, write_maps, write_raster):
    catalogue = make_catalogue()
    directory = write_maps("one", catalogue, noisy(KELP, 2, 0))
    _, (before,) = fit_ensemble({"one": directory}, catalogue, SETTINGS, seed=0)
    # The labels of fold 0 are turned round. Had they a say in its threshold, its predictions would change.
    scenes = []
    for scene in catalogue.scenes:
        if scene.fold == 0:
            label = read_label(scene)
            turned = np.where(label == 255, 255, 1 - label).astype(np.uint8)
            path = write_raster(f"turned{scene.id}.tif", turned)
            scene = replace(scene, label=replace(scene.label, path=str(path)))
        scenes.append(scene)
    turned_catalogue = Catalogue(KELP, (), tuple(scenes), catalogue.statistics)
    _, (after,) = fit_ensemble({"one": directory}, turned_catalogue, SETTINGS, seed=0)
    for scene in catalogue.in_fold(0):
        np.testing.assert_array_equal(after.counts["one"][scene.id], before.counts["one"][scene.id][:, ::-1])
    changed = [
        not np.array_equal(after.counts["one"][s.id], before.counts["one"][s.id]) for s in catalogue.outside_fold(0)
    ]
    assert any(changed)


def test_the_same_maps_make_the_same_ensemble_in_any_order(make_catalogue, write_maps):
    catalogue = make_catalogue()
    members = {
        name: write_maps(name, catalogue, noisy(KELP, 2, seed, seed)) for seed, name in enumerate(("one", "two"))
    }
    ensemble, (evaluation,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    turned = Catalogue(KELP, (), catalogue.scenes[::-1], catalogue.statistics)
    again, (other,) = fit_ensemble(members, turned, SETTINGS, seed=0)
    assert again == ensemble
    for name, counts in evaluation.counts.items():
        for scene in counts:
            np.testing.assert_array_equal(other.counts[name][scene], counts[scene])


def test_val_scenes_are_scored_by_the_ensemble_itself(make_catalogue, write_maps):
    train, val = make_catalogue(), make_catalogue(n_scenes=2, split="val")
    catalogue = Catalogue(KELP, (), train.scenes + val.scenes, train.statistics | val.statistics)
    directory = write_maps("one", catalogue, noisy(KELP, 3, 0))
    ensemble, (_, evaluation) = fit_ensemble({"one": directory}, catalogue, SETTINGS, seed=0)
    for scene in val.scenes:
        label = ensemble.clean(ensemble.decide(ensemble.proba([read_map(directory / "val" / f"{scene.id}.tif")])))
        assert evaluation.counts[BLEND][scene.id][0, 1, 1] == ((label == 1) & (read_label(scene) == 1)).sum()


def test_a_recall_is_promised_by_what_is_used_or_refused_with_the_groups_it_takes(make_catalogue, write_maps):
    catalogue = make_catalogue(n_scenes=12)
    members = {"one": write_maps("one", catalogue, noisy(KELP, 2, 0))}

    def fit(recall, confidence):
        metric = {"name": "precision_at_recall", "at_least": recall, "confidence": confidence}
        return fit_ensemble(
            members, catalogue, EnsembleSettings.model_validate({"sample": 4000, "metric": metric}), seed=0
        )

    ensemble, (evaluation,) = fit(0.4, 0.6)
    assert ensemble.decision.cleaning.idle
    assert ensemble.thresholds_[0] > fit(0.5, 0.6)[0].thresholds_[0]
    recalls = [float(CLASS_METRICS["recall"].score(counts)[0, 1]) for counts in evaluation.stack(BLEND)]
    assert np.mean(recalls) > 0.4
    with pytest.raises(EnsembleError, match=r"expected kelp in at least 29 groups outside each fold"):
        fit(0.9, 0.95)


def test_prediction_sets_are_measured_on_folds_that_their_levels_did_not_see(make_catalogue, write_maps):
    catalogue = make_catalogue(n_scenes=12)
    members = {"one": write_maps("one", catalogue, noisy(KELP, 1, 0))}
    settings = SETTINGS.model_copy(update={"set_coverage": 0.7})
    sets = fit_ensemble(members, catalogue, settings, seed=0)[0].prediction_sets
    assert sets.sure == (True, True)
    assert all(0.6 < share < 1 for share in sets.held)
    assert 1 < sets.size < 2
    # Six groups are too few for nine in ten.
    none = fit_ensemble(members, catalogue, SETTINGS, seed=0)[0].prediction_sets
    assert none.sure == (False, False)
    assert (none.levels, none.held, none.size) == ((0, 0), (1.0, 1.0), 2.0)


def test_missing_maps_are_counted_and_named(make_catalogue, write_maps):
    catalogue = make_catalogue()
    directory = write_maps("one", catalogue, noisy(KELP, 2, 0))
    (directory / "oof" / "s3.tif").unlink()
    with pytest.raises(EnsembleError, match=r"member one: .* each of 9 scenes, 1 are missing: .*s3\.tif"):
        fit_ensemble({"one": directory}, catalogue, SETTINGS, seed=0)


def test_maps_of_other_classes_are_refused(make_catalogue, write_maps):
    catalogue = make_catalogue(LAND)
    directory = write_maps("one", catalogue, noisy(LAND, 2, 0))
    renamed = Catalogue(replace(LAND, names=("water", "rock", "sand")), (), catalogue.scenes, catalogue.statistics)
    with pytest.raises(EnsembleError, match="expected maps of water, rock, sand, got water, rock, kelp"):
        fit_ensemble({"one": directory}, renamed, SETTINGS, seed=0)


def test_one_fold_is_too_few(make_catalogue, write_maps):
    catalogue = make_catalogue(folds=1)
    with pytest.raises(EnsembleError, match="expected at least two folds"):
        fit_ensemble({"one": write_maps("one", catalogue, noisy(KELP, 2, 0))}, catalogue, SETTINGS, seed=0)


def test_a_score_of_one_class_does_not_suit_many(make_catalogue, write_maps):
    catalogue = make_catalogue(LAND)
    directory = write_maps("one", catalogue, noisy(LAND, 2, 0))
    with pytest.raises(EnsembleError, match="Use macro_dice"):
        fit_ensemble({"one": directory}, catalogue, EnsembleSettings.model_validate({"metric": "dice"}), seed=0)


def test_an_ensemble_comes_back_as_it_was_saved(make_catalogue, write_maps, tmp_path):
    catalogue = make_catalogue(LAND)
    ensemble, _ = fit_ensemble({"one": write_maps("one", catalogue, noisy(LAND, 2, 0))}, catalogue, SETTINGS, seed=0)
    ensemble.save(tmp_path / "ensemble.json")
    assert Ensemble.load(tmp_path / "ensemble.json") == ensemble
    (tmp_path / "ensemble.json").write_text('{"classes": {}}')
    with pytest.raises(EnsembleError, match="got a damaged file or another's"):
        Ensemble.load(tmp_path / "ensemble.json")
    (tmp_path / "ensemble.json").write_text('{"weights_": {"one": 1.0}, "thresholds_": [0.5]}')
    with pytest.raises(EnsembleError, match=r"as had none of an earlier version.*`terrablend ensemble --overwrite`"):
        Ensemble.load(tmp_path / "ensemble.json")


@pytest.mark.parametrize("classes", [KELP, replace(LAND, names=("water", "<b>rock</b>", "kelp"))])
def test_scores_and_report_tell_what_was_found(make_catalogue, write_maps, tmp_path, classes):
    catalogue = make_catalogue(classes)
    members = {name: write_maps(name, catalogue, noisy(classes, 3, seed)) for seed, name in enumerate(("one", "two"))}
    ensemble, evaluations = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    scores = score_table(evaluations, classes, SETTINGS)
    row = scores.filter(
        (pl.col("candidate") == BLEND)
        & (pl.col("scope") == "pooled")
        & (pl.col("label") == "")
        & (pl.col("metric") == "macro_iou")
    ).row(0, named=True)
    assert row["value"] == pytest.approx(float(METRICS["macro_iou"].score(evaluations[0].total(BLEND)[0])))
    assert row["low"] <= row["value"] <= row["high"]

    def quicklook(scene, window: Window | None):
        return np.full((window.height, window.width, 3), 120, np.uint8)

    for name in ("a.html", "b.html"):
        fitted = FittedEnsemble(ensemble, tuple(evaluations), scores)
        run = RunFacts("<coast>", quicklook, notes=["12 groups, none of them is split"])
        maps = open_maps(members, classes)
        write_report(tmp_path / name, ReportSource(fitted, run, maps, catalogue, SETTINGS))
    page = (tmp_path / "a.html").read_text()
    assert page == (tmp_path / "b.html").read_text()
    assert "adds nothing" in page or "The blend" in page
    assert "&lt;coast&gt;" in page
    assert "<b>rock</b>" not in page
    assert "none of them is split" in page
    assert not re.search(r"https?:|src=\"//|<script src", page)
    assert page.count("data:image/") >= 6 * 5
