"""What the nested scores are made of: decisions without the fold, exact counts, intervals, verdicts."""

from dataclasses import replace

import numpy as np
import pytest

from data.errors import EnsembleError
from data.maps.geotiff import NODATA, map_writer, read_class_map, read_map, read_proba
from data.metrics.confusion import confusion_counts, question_counts
from data.metrics.metric import METRICS
from data.scenes.catalogue import Catalogue
from data.scenes.scene import read_label
from ensemble import BLEND, EnsembleSettings, fit_ensemble, score_table, write_scores
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.thresholds import decide
from ensemble.decide.thresholds import tune_thresholds
from ensemble.maps import open_maps
from ensemble.objective import objective_of
from ensemble.predict import write_prediction
from ensemble.score.intervals import Interval
from ensemble.score.verdict import judge_gain

from .conftest import KELP, LAND

SETTINGS = EnsembleSettings(sample=4000, calibration="none", cleaning="none")


def relabel(catalogue, folds, meaning):
    """Give the label values of some folds another meaning: value → index."""
    scenes = [
        replace(s, label=replace(s.label, values=tuple(meaning.items()))) if s.fold in folds else s
        for s in catalogue.scenes
    ]
    return Catalogue(catalogue.classes, (), tuple(scenes), catalogue.statistics)


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_weights_and_thresholds_of_a_fold_do_not_change_with_its_labels(make_catalogue, make_members, classes):
    n = len(classes.label_names)
    catalogue = make_catalogue(classes, folds=3)
    members = make_members(catalogue, a=(2, 0, None, [0, *[2] * (n - 1)]), b=(1.5, 1))
    _, (before,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    turned = relabel(catalogue, [2], {value: (value + 1) % n for value in range(n)} | {255: 255})
    _, (after,) = fit_ensemble(members, turned, SETTINGS, seed=0)

    def decided(evaluation, fold):
        # Probabilities are calibrated to be shown of the candidate that is used, which all folds choose.
        return {name: replace(one, shown=Calibration()) for name, one in evaluation.decisions[fold].items()}

    assert decided(after, 2) == decided(before, 2)
    assert decided(after, 0) != decided(before, 0)
    assert decided(after, 1) != decided(before, 1)
    assert not np.array_equal(after.total(BLEND, fold=2), before.total(BLEND, fold=2))


def test_nested_counts_are_those_of_each_scene_decided_without_its_fold(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0), b=(1.6, 1))
    _, (evaluation,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    for scene in catalogue.scenes:
        stored = np.stack([read_map(members[name] / "oof" / f"{scene.id}.tif") for name in members])
        for candidate, decision in evaluation.decisions[scene.fold].items():
            prediction = decision.cleaning.apply(decide(decision.proba(stored), decision.thresholds, exclusive=False))
            counts = question_counts(read_label(scene)[None], prediction, 2)
            np.testing.assert_array_equal(evaluation.counts[candidate][scene.id], counts)


def test_the_threshold_is_the_best_on_all_pixels_not_only_on_sampled_ones(make_catalogue, make_members, monkeypatch):
    catalogue = make_catalogue(rare=0.05)
    members = make_members(catalogue, only=(2, 0))
    # How far it is pulled towards a half is asked elsewhere.
    monkeypatch.setattr(tune_thresholds, "CAUTION", 0)
    ensemble, _ = fit_ensemble(members, catalogue, SETTINGS.model_copy(update={"sample": 1000}), seed=0)
    stored = np.stack([read_map(members["only"] / "oof" / f"{scene.id}.tif") for scene in catalogue.scenes], axis=1)
    blended = ensemble.proba([stored])
    label = np.stack([read_label(scene) for scene in catalogue.scenes])

    def score(threshold):
        return float(METRICS["dice"].score(confusion_counts(label[None], decide(blended, [threshold], False), 2)))

    assert score(ensemble.thresholds_[0]) >= max(score(threshold) for threshold in np.linspace(0, 1, 1001))
    assert score(ensemble.thresholds_[0]) > score(0.5)


def test_fixed_thresholds_stay_at_one_half_and_at_the_argmax(make_catalogue, make_members):
    fixed = SETTINGS.model_copy(update={"thresholds": "fixed"})
    for classes, plain in ((KELP, (0.5,)), (LAND, (1.0, 1.0, 1.0))):
        catalogue = make_catalogue(classes)
        members = make_members(catalogue, a=(2, 0, None, [0, *[2] * (len(plain) - 1 or 1)]))
        ensemble, (evaluation,) = fit_ensemble(members, catalogue, fixed, seed=0)
        assert ensemble.thresholds_ == plain
        assert {decision.thresholds for found in evaluation.decisions.values() for decision in found.values()} == {
            plain
        }


def test_multipliers_gain_out_of_fold_where_the_odds_of_a_class_are_off(make_catalogue, make_members):
    catalogue = make_catalogue(LAND)
    members = make_members(catalogue, off=(3, 0, None, [0, 0, 2.5]))
    ensemble, (tuned,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    _, (plain,) = fit_ensemble(members, catalogue, SETTINGS.model_copy(update={"thresholds": "fixed"}), seed=0)
    assert ensemble.thresholds_[2] < ensemble.thresholds_[0]
    score = METRICS["macro_iou"].score
    assert score(tuned.total(BLEND)[0]) > score(plain.total(BLEND)[0]) + 0.02


def test_the_verdict_says_what_the_paired_interval_says(make_catalogue, make_members):
    catalogue = make_catalogue()
    said = set()
    # A copy does not pay, and who knows the other half of the pixels adds a lot, whatever was drawn.
    for how in ({"a": (2, 0), "b": (2, 0)}, {"a": (2, 0), "b": (1.6, 1)}, {"a": (3, 0, 0), "b": (3, 1, 1)}):
        members = make_members(catalogue, **how)
        ensemble, evaluations = fit_ensemble(members, catalogue, SETTINGS, seed=0)
        table = score_table(evaluations, KELP, SETTINGS)
        gains = table.filter((table["scope"] == "gain") & (table["metric"] == "objective")).rows(named=True)
        best = max("ab", key=lambda name: evaluations[0].by_group()[name].score(objective_of(SETTINGS, KELP)).value)
        row = next(row for row in gains if row["candidate"] == best)
        words = judge_gain(Interval(row["value"], row["low"], row["high"]), SETTINGS.smallest_gain)
        words = {"more than chance": "The blend pays"}.get(words, words) if row["value"] > 0 else "does not pay"
        assert words in ensemble.verdict_
        said.add(words)
    assert {"does not pay", "The blend pays"} <= said


def test_one_member_is_scored_and_there_is_nothing_to_blend(make_catalogue, make_members):
    catalogue = make_catalogue()
    ensemble, (evaluation,) = fit_ensemble(make_members(catalogue, only=(2, 0)), catalogue, SETTINGS, seed=0)
    assert ensemble.weights_ == {"only": 1.0}
    assert "nothing to blend" in ensemble.verdict_
    np.testing.assert_array_equal(evaluation.total("only"), evaluation.total(BLEND))


def test_pixels_without_a_prediction_count_against_the_member(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(5, 0))
    _, (before,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    for scene in catalogue.scenes:
        path = members["a"] / "oof" / f"{scene.id}.tif"
        proba = read_proba(path)
        proba[:, :12] = np.nan
        with map_writer(path, scene.grid, ("kelp",), {}) as writer:
            writer.write(scene.grid.window, proba)
    _, (after,) = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    assert after.total("a").sum() == before.total("a").sum()
    assert after.total("a")[..., 2].sum() == sum((read_label(scene)[:12] != 255).sum() for scene in catalogue.scenes)
    assert METRICS["dice"].score(after.total("a")[0]) < METRICS["dice"].score(before.total("a")[0]) - 0.2


def test_a_member_without_a_prediction_is_left_out_there(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, one=(3, 0, 0), two=(3, 1, 1))
    ensemble, _ = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    first, second = np.uint16([[[60_000, 60_000, NODATA]]]), np.uint16([[[NODATA, 0, NODATA]]])
    blended = ensemble.proba([first, second])
    assert (blended[0, 0, 0] == NODATA, blended[0, 0, 1] == NODATA, blended[0, 0, 2]) == (False, False, NODATA)
    assert blended[0, 0, 0] == ensemble.decision.calibrations[0].apply(first)[0, 0, 0]
    assert ensemble.decide(blended)[0, 0, 2] == 255


def test_a_prediction_is_the_decision_on_the_members_maps(make_catalogue, make_members, tmp_path):
    catalogue = make_catalogue(LAND)
    members = make_members(catalogue, one=(3, 0, 0), two=(3, 1, 1))
    ensemble, _ = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    maps = open_maps({name: members[name] for name in ensemble.used}, LAND)
    write_prediction(ensemble, maps, catalogue.scenes[0], tmp_path / "classes.tif", tmp_path / "proba.tif")
    blended = ensemble.proba(maps.read(catalogue.scenes[0]))
    [label] = ensemble.clean(ensemble.decide(blended))
    np.testing.assert_array_equal(read_class_map(tmp_path / "classes.tif", LAND), label)
    np.testing.assert_array_equal(read_map(tmp_path / "proba.tif"), ensemble.show(blended))


def test_the_same_seed_gives_the_same_bytes_and_large_scenes_the_same_counts(
    make_catalogue, make_members, tmp_path, monkeypatch
):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0), b=(1.6, 1))
    settings = SETTINGS.model_copy(update={"sample": 10**6})
    found = []
    for name in ("one", "two"):
        ensemble, evaluations = fit_ensemble(members, catalogue, settings, seed=0)
        ensemble.save(tmp_path / f"{name}.json")
        write_scores(score_table(evaluations, KELP, settings), tmp_path / f"{name}.parquet")
        found.append(evaluations[0])
    for suffix in ("json", "parquet"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()
    again, (evaluation,) = fit_ensemble(members, catalogue, settings, seed=0, most_bytes=200)
    found.append(evaluation)
    assert again == ensemble
    for candidate, scenes in found[0].counts.items():
        for scene, counts in scenes.items():
            np.testing.assert_array_equal(found[2].counts[candidate][scene], counts)


def test_the_score_table_names_scopes_and_pairs_differences(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0), b=(1.6, 1))
    _, evaluations = fit_ensemble(members, catalogue, SETTINGS, seed=0)
    table = score_table(evaluations, KELP, SETTINGS)
    dice = table.filter((table["metric"] == "dice") & (table["label"] == ""))
    assert set(dice["scope"]) == {"pooled", "gain", "scene mean", "scene gain", "fold 0", "fold 1", "fold 2", "folds"}
    value = {row["candidate"]: row for row in dice.filter(dice["scope"] == "pooled").rows(named=True)}
    gain = {row["candidate"]: row for row in dice.filter(dice["scope"] == "gain").rows(named=True)}
    assert set(gain) == set(value) - {BLEND} > {"a", "b"}
    for member, row in gain.items():
        assert row["value"] == pytest.approx(value[BLEND]["value"] - value[member]["value"])
        assert row["low"] <= row["value"] <= row["high"]
        assert value[member]["low"] < value[member]["value"] < value[member]["high"]


def test_a_fold_without_positives_is_scored_and_all_folds_but_one_are_refused(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0))
    nothing = {0: 0, 1: 0, 255: 255}
    ensemble, _ = fit_ensemble(members, relabel(catalogue, [0], nothing), SETTINGS, seed=0)
    assert np.isfinite(ensemble.score_)
    with pytest.raises(EnsembleError, match=r"expected labelled kelp in at least two folds, .* got it in fold 2"):
        fit_ensemble(members, relabel(catalogue, [0, 1], nothing), SETTINGS, seed=0)


def test_labels_that_are_all_ignored_and_an_ensemble_of_nobody_are_refused(make_catalogue, make_members):
    catalogue = make_catalogue()
    members = make_members(catalogue, a=(2, 0))
    ignored = relabel(catalogue, [0, 1, 2], {0: 255, 1: 255, 255: 255})
    with pytest.raises(EnsembleError, match="expected labelled pixels to decide on, got none"):
        fit_ensemble(members, ignored, SETTINGS, seed=0)
    with pytest.raises(EnsembleError, match="expected members to blend, got none"):
        fit_ensemble({}, catalogue, SETTINGS, seed=0)
