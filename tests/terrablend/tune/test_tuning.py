from itertools import product

import numpy as np
import polars as pl
import pytest
import yaml
from sklearn.metrics import f1_score

import terrablend.tune.trials
import terrablend.tune.tuning
from data.errors import EnsembleError, ExperimentError
from data.maps.geotiff import TOP
from data.scenes.classes import Classes
from ensemble import EnsembleSettings
from ensemble.decide.decision.thresholds import histogram_counts, score_histogram
from ensemble.objective import objective_of
from terrablend.experiment import change_experiment, load_experiment
from terrablend.experiment.search import TuneSettings
from terrablend.tune.tuning import best_score, nested_scores, objective_to_raise

from ..conftest import MEMBER, write_small_coast, write_table_experiment

SEARCH = {
    "members.lightgbm.leaves": {"low": 3, "high": 31, "log": True},
    "members.lightgbm.colsample": {"low": 0.3, "high": 1.0},
    "members.lightgbm.booster": ["lightgbm", "hist_gradient_boosting"],
}


def with_search(experiment, search, **values):
    """Write what is to be searched into an experiment file."""
    written = yaml.safe_load(experiment.read_text())
    experiment.write_text(yaml.safe_dump(written | {"tune": {"search": search, **values}}))
    return experiment


def begin(terrablend, experiment, run):
    for command in ("check", "features"):
        assert terrablend(command, experiment, "--run", run, "--workers", 1).code == 0


def tune(terrablend, experiment, run, *words):
    return terrablend("tune", experiment, words[0], "--run", run, "--workers", 1, *words[1:])


def read_trials(run, name="lightgbm"):
    return pl.read_csv(run / "tune" / name / "trials.csv")


def test_a_search_leaves_a_table_a_page_and_the_experiment_with_the_best_settings(small_table, tmp_path, terrablend):
    write_table_experiment(
        small_table,
        **yaml.safe_load(small_table.read_text()) | {"members": {"lightgbm": MEMBER | {"learning_rate": 1e-6}}},
    )
    rate = {"members.lightgbm.learning_rate": {"low": 0.05, "high": 0.5}}
    experiment = with_search(small_table, SEARCH | rate)
    begin(terrablend, experiment, tmp_path / "run")
    outcome = tune(terrablend, experiment, tmp_path / "run", "lightgbm", "--trials", 8)
    assert outcome.code == 0, outcome.err
    folder = tmp_path / "run" / "tune" / "lightgbm"
    trials = pl.read_csv(folder / "trials.csv")
    assert trials["trial"].to_list() == list(range(9))
    assert trials["members.lightgbm.leaves"][1:].is_between(3, 31).all()
    assert set(trials["members.lightgbm.booster"][1:]) == {"lightgbm", "hist_gradient_boosting"}
    best = trials.filter(pl.col("end") == "done").sort("dice", descending=True).row(0, named=True)
    assert load_experiment(folder / "best.yaml").tune.compared == {"lightgbm": 9}
    found = load_experiment(folder / "best.yaml").members["lightgbm"]
    assert best["trial"] > 0
    assert found.leaves == best["members.lightgbm.leaves"]
    assert found.booster == best["members.lightgbm.booster"]
    assert found.colsample == pytest.approx(best["members.lightgbm.colsample"], rel=1e-3)
    assert found.rounds == MEMBER["rounds"]
    assert f"{best['dice']:.4f} by trial {best['trial']}" in outcome.err
    page = (folder / "index.html").read_text()
    assert all(key in page for key in SEARCH)
    assert f"{best['dice']:.4f}" in page
    assert not (folder / "work").exists()


def test_settings_are_scored_by_rows_held_out_at_a_threshold_chosen_on_the_other_folds(
    small_table, tmp_path, terrablend
):
    run = tmp_path / "run"
    assert terrablend("run", small_table, "--run", run, "--workers", 1).code == 0
    assert tune(terrablend, small_table, run, "lightgbm", "--trials", 1).code == 0
    held_out = pl.read_parquet(run / "members" / "lightgbm" / "oof.parquet")
    label, weight, fold = (held_out[name].to_numpy() for name in ("label", "weight", "fold"))
    proba = np.rint(held_out["proba_crop"].to_numpy() * 65534)
    prediction = np.zeros(len(label), bool)
    for one in range(3):
        others = fold != one
        scores = {
            cut: f1_score(label[others], proba[others] >= cut, sample_weight=weight[others]) for cut in np.unique(proba)
        }
        prediction[~others] = proba[~others] >= max(scores, key=scores.get)
    expected = f1_score(label, prediction, sample_weight=weight)
    assert read_trials(run)["dice"][0] == pytest.approx(expected, abs=0.01)


def test_an_interrupted_search_goes_on_to_the_trials_of_one_that_was_not(
    small_table, tmp_path, terrablend, monkeypatch
):
    experiment = with_search(small_table, SEARCH)
    runs = [tmp_path / "whole", tmp_path / "parts"]
    for run in runs:
        begin(terrablend, experiment, run)
    assert tune(terrablend, experiment, runs[0], "lightgbm", "--trials", 14).code == 0
    count, calls = terrablend_trials().count, []

    def interrupted(self, changes):
        calls.append(changes)
        for number, counts in enumerate(count(self, changes)):
            if len(calls) == 7 and number == 0:
                raise KeyboardInterrupt
            yield counts

    monkeypatch.setattr(terrablend_trials(), "count", interrupted)
    stopped = tune(terrablend, experiment, runs[1], "lightgbm", "--trials", 14)
    assert stopped.code == 2
    assert "Give the same command again" in stopped.err
    monkeypatch.undo()
    monkeypatch.setattr("sys.argv", [])
    assert tune(terrablend, experiment, runs[1], "lightgbm", "--trials", 9).code == 0
    assert read_trials(runs[1]).height == 10
    assert tune(terrablend, experiment, runs[1], "lightgbm", "--trials", 14).code == 0
    assert read_trials(runs[1]).equals(read_trials(runs[0]))


def terrablend_trials():
    return terrablend.tune.trials.Trials


def test_features_are_searched_too_on_tables_of_their_own(tmp_path, terrablend):
    run = tmp_path / "run"
    experiment = with_search(
        write_small_coast(tmp_path / "coast"), {"features.context.radii": [[2], [4]], "members.lightgbm.leaves": [3, 7]}
    )
    begin(terrablend, experiment, run)
    before = {path: path.read_bytes() for path in (run / "pixels").rglob("*.parquet")}
    assert tune(terrablend, experiment, run, "lightgbm", "--trials", 8).code == 0
    trials = read_trials(run)
    assert set(trials["features.context.radii"][1:]) == {"[2]", "[4]"}
    # The same features and leaves score the same, whichever table they were read from; as written it is [2] and 7.
    done = trials.filter(pl.col("end") == "done").with_columns(
        pl.col("features.context.radii").fill_null("[2]"), pl.col("members.lightgbm.leaves").fill_null(7)
    )
    kinds = done.group_by("features.context.radii", "members.lightgbm.leaves").agg(pl.col("dice").n_unique())
    assert 1 < kinds.height < done.height
    assert set(kinds["dice"]) == {1}
    assert {path: path.read_bytes() for path in (run / "pixels").rglob("*.parquet")} == before
    assert not (run / "tune" / "lightgbm" / "work").exists()


def test_networks_are_searched_on_their_scenes(tmp_path, terrablend):
    run, search = tmp_path / "run", {"members.unet.learning_rate": {"low": 1e-5, "high": 1e-1, "log": True}}
    experiment = with_search(write_small_coast(tmp_path / "coast"), search, trials=2, metric="macro_iou")
    assert terrablend("check", experiment, "--run", run, "--workers", 1).code == 0
    outcome = tune(terrablend, experiment, run, "unet")
    assert outcome.code == 0, outcome.err
    trials = read_trials(run, "unet")
    assert trials.height == 3
    assert trials["macro_iou"].is_between(0, 1).all()


def test_tags_are_searched_by_trees_and_networks_alike(planet, terrablend, tmp_path):
    written = yaml.safe_load(planet.read_text())
    small = {"encoder": "tu-regnetx_002", "encoder_depth": 2, "crop": 16, "epochs": 1, "steps": 1, "pretrained": None}
    written["members"]["net"] = {"branch": "cnn", "device": "cpu", **small}
    planet.write_text(yaml.safe_dump(written))
    search = {"members.lightgbm.leaves": [2, 4], "members.net.learning_rate": [1e-4, 1e-3]}
    experiment, run = with_search(planet, search, metric="f2"), tmp_path / "run"
    begin(terrablend, experiment, run)
    for name, count in (("lightgbm", 2), ("net", 1)):
        outcome = tune(terrablend, experiment, run, name, "--trials", count)
        assert outcome.code == 0, outcome.err
        trials = read_trials(run, name)
        assert trials.height == 1 + count
        assert trials["f2"].is_between(0, 1).all()
    assert read_trials(run)["f2"].max() > 0.9, "haze and roads are plain to see"


@pytest.mark.parametrize("metric", ["dice", "macro_dice", {"name": "iou", "of": "b"}, "accuracy"])
def test_thresholds_of_tags_are_those_of_a_search_through_all(metric):
    rng = np.random.default_rng(0)
    tags = Classes("multilabel", (0, 1), ("a", "b"), ((0, 0, 0),) * 2)
    stored, label = rng.integers(0, 6, (2, 60)) * 10_000, rng.integers(0, 2, (2, 60)).astype(np.uint8)
    stored = np.clip(stored + 8_000 * label.astype(int), 0, TOP).astype(np.uint16)
    histograms = np.stack([score_histogram(*pair) for pair in zip(stored, label, strict=True)])
    counts = np.moveaxis(histogram_counts(histograms), 0, 1)
    objective = objective_of(EnsembleSettings(metric=metric), tags)
    every = [
        float(objective.score(counts[list(pair), [0, 1]])) for pair in product([*np.unique(stored), TOP + 1], repeat=2)
    ]
    assert best_score([counts], objective) == pytest.approx(max(every))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"members.lightgbm.leafs": {"low": 3, "high": 9}}, "leafs"),
        ({"members.lightgbm.leaves": {"low": 1, "high": 9}}, "greater than or equal to 2 Got 1"),
        ({"members.lightgbm.booster": ["lightgbm", "catbost"]}, "catbost"),
        ({"folds.count": [3, 4]}, "expected settings of members and features, got folds.count"),
        ({"members.lightgbm.leaves": {"low": 9, "high": 3}}, "expected low < high"),
        ({"members.lightgbm.l2": {"low": 0, "high": 3, "log": True}}, "above 0 where log is set"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_anything_is_tried(
    small_table, tmp_path, terrablend, search, message
):
    begin(terrablend, small_table, tmp_path / "run")
    outcome = tune(terrablend, with_search(small_table, search), tmp_path / "run", "lightgbm")
    assert outcome.code == 2
    assert message in outcome.err
    assert not (tmp_path / "run" / "tune" / "lightgbm" / "study.db").exists()


def test_another_search_does_not_go_on_with_the_trials_of_the_first(small_table, tmp_path, terrablend):
    run = tmp_path / "run"
    begin(terrablend, small_table, run)
    assert tune(terrablend, with_search(small_table, SEARCH), run, "lightgbm", "--trials", 2).code == 0
    other = with_search(small_table, {"members.lightgbm.leaves": [3, 9]})
    refused = tune(terrablend, other, run, "lightgbm", "--trials", 2)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert tune(terrablend, other, run, "lightgbm", "--trials", 2, "--overwrite").code == 0
    assert read_trials(run).columns[-1] == "members.lightgbm.leaves"


def test_what_cannot_be_learned_is_a_failed_trial_not_the_end(small_table, tmp_path, terrablend):
    run = tmp_path / "run"
    begin(terrablend, small_table, run)
    search = {"members.lightgbm.parameters": [{}, {"no_such_thing": 1}]}
    outcome = tune(terrablend, with_search(small_table, search), run, "lightgbm", "--trials", 6)
    assert outcome.code == 0, outcome.err
    ends = read_trials(run)["end"].to_list()
    assert {"done", "failed"} <= set(ends)
    assert "expected a parameter of LightGBM, got no_such_thing" in outcome.err


def test_without_a_search_of_its_own_a_member_has_one_that_suits_its_branch(tmp_path):
    experiment = load_experiment(write_small_coast(tmp_path / "coast"))
    assert experiment.tune == TuneSettings()
    for name, key in (("lightgbm", "members.lightgbm.leaves"), ("unet", "members.unet.learning_rate")):
        assert key in terrablend.tune.tuning.search_space(experiment, name, tmp_path)


def test_thresholds_are_chosen_without_the_fold_that_they_are_scored_on():
    rng = np.random.default_rng(0)
    counted = [rng.integers(1, 50, (6, 2, 3)).astype(float) for _ in range(4)]

    def score(one):
        return one[1, 1] / (one[1].sum() + one[0, 1])

    iou = [[score(one) for one in sum(counted) - each] for each in counted]
    chosen = [each[np.argmax(scores)] for each, scores in zip(counted, iou, strict=True)]
    objective = objective_of(EnsembleSettings(metric="iou"), Classes("binary", (1,), ("kelp",), ((0, 0, 0),)))
    pooled, folds = nested_scores([counts[:, None] for counts in counted], objective)
    assert pooled == pytest.approx(score(sum(chosen)))
    assert folds == pytest.approx([score(one) for one in chosen])


def test_a_changed_experiment_keeps_what_was_written_and_its_defaults(tmp_path):
    experiment = load_experiment(write_small_coast(tmp_path / "coast"))
    assert change_experiment(experiment, {}, tmp_path) == experiment
    changed = change_experiment(experiment, {"members.lightgbm.booster": "random_forest"}, tmp_path)
    assert changed.members["lightgbm"].rounds == 15
    assert changed.members["lightgbm"].min_leaf_rows == 5
    assert experiment.members["lightgbm"].min_leaf_rows is None


def test_the_score_that_is_raised_is_that_of_the_ensemble_unless_another_is_named(tmp_path):
    experiment = load_experiment(write_small_coast(tmp_path / "coast"))
    assert objective_to_raise(experiment).title == "Dice"
    changed = change_experiment(experiment, {"tune.metric": {"name": "fbeta", "beta": 0.5}}, tmp_path)
    assert objective_to_raise(changed).title == "F0.5"
    by_scene = change_experiment(experiment, {"tune.metric": {"name": "dice", "over": "scenes"}}, tmp_path)
    with pytest.raises(ExperimentError, match="expected a score over pixels, got mean scene Dice"):
        objective_to_raise(by_scene)
    unsuitable = change_experiment(experiment, {"tune.metric": {"name": "dice", "of": "rock"}}, tmp_path)
    with pytest.raises(EnsembleError, match="expected of to be one of"):
        objective_to_raise(unsuitable)


def test_whoever_reads_the_scores_of_tuned_settings_is_told_how_many_were_compared():
    assert TuneSettings().caveats == []
    tuned = TuneSettings(compared={"lightgbm": 31})
    assert tuned.caveats == [
        "The settings of lightgbm are the best of 31 that were compared on these folds, which flatters it."
    ]
    assert tuned.record == {"compared": {"lightgbm": 31}}
