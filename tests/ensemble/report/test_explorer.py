"""Counts and scores of thresholds in Python; what the page shows of them in a browser is in ``test_report_page.py``."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from data.maps.geotiff import NODATA, TOP
from data.metrics.metric import CLASS_METRICS
from data.pages.numbers import format_count, format_number
from data.scenes.classes import IGNORE
from ensemble.decide.decision.thresholds import decide, threshold_bin
from ensemble.report.curves import average_precision, count_reliability, precision_recall
from ensemble.report.explorer import Blendable, best_edge, explorer_data, explorer_rows, threshold_texts
from ensemble.report.score_counts import (
    CELLS,
    JointCounts,
    ScoreCounts,
    count_joint,
    count_scores,
    threshold_edges,
    truth_of,
)

SHAPES = [("binary", 1), ("multilabel", 3), ("multiclass", 3)]


def draw(task, n_classes, seed=0, n=400, blank=0.1):
    """Return stored probabilities (K, n) that know something of labels, a few of each missing."""
    rng = np.random.default_rng(seed)
    shape = (n_classes if task == "multilabel" else 1, n)
    label = rng.integers(0, n_classes if task == "multiclass" else 2, shape).astype(np.uint8)
    label[rng.random(label.shape) < blank] = IGNORE
    own, _ = truth_of(label, n_classes, task == "multiclass")
    stored = np.rint(np.clip(0.35 * own + rng.random((n_classes, n)) * 0.65, 0, 1) * TOP).astype(np.uint16)
    stored[:, rng.random(n) < blank] = NODATA
    return stored, label


def counts_of(stored, label, task, edges):
    return ScoreCounts(edges, count_scores(stored, *truth_of(label, len(stored), task == "multiclass"), edges))


@pytest.mark.parametrize(("task", "n_classes"), SHAPES)
def test_hits_and_false_alarms_of_every_edge_are_those_of_the_decision(task, n_classes):
    stored, label = draw(task, n_classes)
    edges = threshold_edges([0.31234, 0.5, 0.98765])
    hits, false = counts_of(stored, label, task, edges).cumulate()
    own, labelled = truth_of(label, n_classes, task == "multiclass")
    for place in range(n_classes):
        for edge in range(0, len(edges), 7):
            said = decide(stored[place : place + 1], (edges[edge] / TOP,), exclusive=False)[0] == 1
            assert hits[place, edge] == np.sum(said & own[place] & labelled[place])
            assert false[place, edge] == np.sum(said & ~own[place] & labelled[place])


def test_thresholds_that_were_decided_are_among_the_edges_as_they_are():
    edges = threshold_edges([0.31234, 2.5])
    assert {threshold_bin(0.31234), threshold_bin(0.5), 0, TOP} <= set(edges.tolist())
    assert edges[-1] == TOP, "a multiplier of an argmax is no threshold"
    assert (np.diff(edges) > 0).all()


@pytest.mark.parametrize(("task", "n_classes"), SHAPES)
def test_what_is_said_of_a_threshold_are_the_scores_of_its_confusion_counts(task, n_classes):
    stored, label = draw(task, n_classes)
    scores = counts_of(stored, label, task, threshold_edges([]))
    own, labelled = truth_of(label, n_classes, task == "multiclass")
    for place in range(n_classes):
        for edge in (0, 100, 256, 400, 512):
            said = (stored[place] != NODATA) & (stored[place] >= scores.edges[edge])
            truth = own[place] & labelled[place]
            counts = np.zeros((2, 3), np.int64)
            for row in (0, 1):
                for col in (0, 1):
                    counts[row, col] = np.sum(labelled[place] & (own[place] == row) & (said == col))
            told = threshold_texts(scores, place, edge, 0.01)
            for name, metric in CLASS_METRICS.items():
                assert told[name] == format_number(float(metric.score(counts)[1]), 4), name
            assert told["mapped-px"] == format_count(np.sum(said & labelled[place]))
            assert told["missed-px"] == format_count(np.sum(truth & ~said))
            assert told["missed-ha"] == f"{format_number(np.sum(truth & ~said) * 0.01, 1)} ha"
            assert told["threshold"] == format_number(scores.edges[edge] / TOP)


def test_an_area_is_told_only_where_the_size_of_a_pixel_is_known():
    stored, label = draw("binary", 1)
    scores = counts_of(stored, label, "binary", threshold_edges([]))
    assert threshold_texts(scores, 0, 256, None)["hits-ha"] == ""
    assert "," not in threshold_texts(scores, 0, 0, 1234.5)["mapped-ha"]


def blended_loop(first, second, own, labelled, weight, edge):
    """Return hits and false alarms, pixel by pixel, of members rounded to the middles of their cells."""
    hits = false = 0
    for a, b, is_own, is_labelled in zip(first, second, own, labelled, strict=True):
        if not is_labelled:
            continue
        parts = [
            ((min(int(one) * CELLS // TOP, CELLS - 1) + 0.5) / CELLS, share)
            for one, share in ((a, 1 - weight), (b, weight))
            if one != NODATA and share > 0
        ]
        if not parts:
            continue
        score = parts[0][0] * parts[0][1] + parts[1][0] * parts[1][1] if len(parts) == 2 else parts[0][0]
        if score * TOP >= edge:
            hits, false = hits + is_own, false + (not is_own)
    return hits, false


@settings(max_examples=15)
@given(weight=st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.95, 1.0]), edge=st.integers(0, 512), seed=st.integers(0, 99))
def test_another_weight_is_counted_as_a_loop_over_pixels_counts_it(weight, edge, seed):
    first, label = draw("binary", 1, seed, n=120)
    second, _ = draw("binary", 1, seed + 1000, n=120)
    own, labelled = truth_of(label, 1, exclusive=False)
    edges = threshold_edges([])
    found = JointCounts(count_joint(first, second, own, labelled)).blend(weight, edges)
    hits, false = found.cumulate()
    expected = blended_loop(first[0], second[0], own[0], labelled[0], weight, edges[edge])
    assert (hits[0, edge], false[0, edge]) == expected
    assert found.pixels[0].tolist() == [np.sum(labelled & ~own), np.sum(labelled & own)]


def test_average_precision_is_that_of_scikit_learn():
    edges = threshold_edges([])
    stored, label = draw("binary", 1, n=2000, blank=0)
    stored = edges[np.searchsorted(edges, stored, "right") - 1].astype(np.uint16)
    expected = average_precision_score(label[0], stored[0])
    assert average_precision(counts_of(stored, label, "binary", edges))[0] == pytest.approx(expected, abs=1e-12)


def test_reliability_compares_mean_probabilities_with_frequencies_bin_by_bin():
    stored, label = draw("binary", 1, n=20_000)
    found = count_reliability(counts_of(stored, label, "binary", threshold_edges([])), 0)
    there = (stored != NODATA) & (label != IGNORE)
    proba, own = stored[there] / TOP, label[there] == 1
    cell = np.minimum((proba * 20).astype(int), 19)
    seen = [number for number in range(20) if (cell == number).any()]
    np.testing.assert_allclose(found.mean, [proba[cell == one].mean() for one in seen], atol=0.002)
    np.testing.assert_allclose(found.observed, [own[cell == one].mean() for one in seen], atol=0.02)
    assert found.pixels.sum() == there.sum()


def test_the_best_edge_has_the_best_dice_of_all_and_lies_near_a_half():
    stored, label = draw("binary", 1)
    scores = counts_of(stored, label, "binary", threshold_edges([]))
    precision, recall = precision_recall(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = 2 * precision[0] * recall[0] / (precision[0] + recall[0])
    assert dice[best_edge(scores, 0)] == np.nanmax(dice)
    nothing = ScoreCounts(scores.edges, np.zeros_like(scores.counts))
    assert scores.edges[best_edge(nothing, 0)] / TOP == pytest.approx(0.5, abs=1e-4)


def test_the_spread_is_that_of_the_best_without_each_fold():
    edges = threshold_edges([0.4])
    folds = {fold: counts_of(*draw("binary", 1, seed=fold), "binary", edges) for fold in range(4)}
    (row,) = explorer_rows(folds, {"one": (folds, None)}, (0.4,), None)
    total = sum(one.counts for one in folds.values())
    without = [best_edge(ScoreCounts(edges, total - one.counts), 0) for one in folds.values()]
    assert row["spread"] == (min(without), max(without))
    assert edges[row["chosen"]] == threshold_bin(0.4)
    assert row["start"] == row["chosen"]
    (unchosen,) = explorer_rows(folds, {}, None, None)
    assert unchosen["start"] == unchosen["best"] == best_edge(ScoreCounts(edges, total), 0)


def test_a_class_that_is_nowhere_has_no_scores_and_no_place_in_the_plots():
    edges = threshold_edges([0.4])
    nothing = ScoreCounts(edges, np.zeros((1, 2, len(edges) + 1), np.int64))
    (row,) = explorer_rows({0: nothing, 1: nothing}, {"one": ({0: nothing}, {0: nothing})}, (0.4,), 0.01)
    assert row["point"] is None
    assert row["curve"] == row["reliability"] == row["members"][0]["before"] == ""
    assert {row["at"][name] for name in ("precision", "recall", "dice", "iou")} == {"–"}
    assert np.isnan(row["error"])
    assert row["shares"] == {"missed": 0, "hits": 0, "false": 0}


def test_what_the_page_counts_with_survives_json_and_stays_small():
    edges = threshold_edges([])
    stored, label = draw("multiclass", 3)
    own, labelled = truth_of(label, 3, exclusive=True)
    folds = {0: counts_of(stored, label, "multiclass", edges)}
    joint = JointCounts(count_joint(stored, stored, own, labelled))
    told = explorer_data(folds, 0.01, Blendable("a", "b", joint, (0.2, 0.5, 1.0)))
    text = json.dumps(told, allow_nan=False, separators=(",", ":"))
    told = json.loads(text)
    assert [one["weight"] for one in told["classes"]] == [0.2, 0.5, 1.0]
    assert told["classes"][1]["hits"][0] == np.sum(own[1] & labelled[1] & (stored[1] != NODATA))
    assert len(text) < 3 * 30_000
