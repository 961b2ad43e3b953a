import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn import metrics as oracle

from data.errors import EnsembleError
from data.metrics.confusion import confusion_counts
from data.scenes.classes import Classes
from ensemble.objective import objective_of
from ensemble.settings import EnsembleSettings

from .conftest import KELP, LAND

TAGS = Classes("multilabel", (0, 1, 2), ("haze", "river", "road"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))


def objective(metric, classes):
    return objective_of(EnsembleSettings(metric=metric), classes)


def tag_counts(label, prediction):
    """Count tags (n, K) of each scene, (n, K, 2, 3)."""
    return np.stack(
        [
            [confusion_counts(a[k : k + 1], b[k : k + 1], 2) for k in range(len(a))]
            for a, b in zip(label, prediction, strict=True)
        ]
    )


@given(st.integers(0, 300))
def test_scores_of_tags_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 2, (2, 9, 3)).astype(np.uint8)
    label[0], prediction[0] = 1, 1
    label[:, 0] = 1
    counts = tag_counts(label, prediction)
    expected = {
        "dice": oracle.f1_score(label, prediction, average="micro"),
        "f2": oracle.fbeta_score(label, prediction, beta=2, average="micro"),
        "macro_dice": oracle.f1_score(label, prediction, average="macro"),
        "macro_f2": oracle.fbeta_score(label, prediction, beta=2, average="macro"),
        "accuracy": (label == prediction).mean(),
    }
    for name, value in expected.items():
        assert float(objective(name, TAGS).over(counts)) == pytest.approx(value), name
    by_scene = oracle.fbeta_score(label, prediction, beta=2, average="samples")
    assert float(objective({"name": "f2", "over": "scenes"}, TAGS).over(counts)) == pytest.approx(by_scene)
    one = oracle.f1_score(label[:, 1], prediction[:, 1], zero_division=np.nan)
    assert float(objective({"name": "dice", "of": "river"}, TAGS).over(counts)) == pytest.approx(one, nan_ok=True)


@given(st.integers(0, 300))
def test_scores_of_classes_are_those_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    label, prediction = rng.integers(0, 3, (2, 40)).astype(np.uint8)
    label[:3], prediction[:3] = range(3), range(3)
    counts = confusion_counts(label, prediction, 3)[None]
    half = oracle.fbeta_score(label, prediction, beta=0.5, average=None)
    assert float(objective({"name": "macro_fbeta", "beta": 0.5}, LAND).score(counts)) == pytest.approx(half.mean())
    kelp = objective({"name": "fbeta", "beta": 0.5, "of": "kelp"}, LAND)
    assert float(kelp.score(counts)) == pytest.approx(half[2])
    assert float(objective("kappa", LAND).score(counts)) == pytest.approx(oracle.cohen_kappa_score(label, prediction))


SCENES = [
    ([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3),
    ([0, 0, 0, 0], [0, 0, 0, 0], {"skip": None, 0: 0, 1: 1}),
    ([0, 0, 0, 0], [1, 0, 0, 0], {"skip": None, 0: 0, 1: 0}),
    ([1, 0, 0, 0], [0, 0, 0, 0], 0),
]


@pytest.mark.parametrize("empty", ["skip", 0, 1])
def test_a_scene_without_positives_counts_as_the_user_says(empty):
    counts = np.stack([confusion_counts(np.uint8(label), np.uint8(found), 2)[None] for label, found, _ in SCENES])
    scores = [score[empty] if isinstance(score, dict) else score for *_, score in SCENES]
    expected = np.mean([score for score in scores if score is not None])
    found = objective({"name": "dice", "over": "scenes", "empty": empty}, KELP)
    assert float(found.over(counts)) == pytest.approx(expected)
    # Many thresholds at once, scenes first.
    np.testing.assert_allclose(found.over(np.stack([counts, counts], axis=1)), [expected] * 2)


def test_a_scene_without_a_labelled_pixel_never_counts():
    counts = np.zeros((2, 1, 2, 3))
    counts[0] = [[4, 0, 0], [0, 4, 0]]
    for empty in ("skip", 0, 1):
        for name in ("dice", "macro_iou", "accuracy"):
            metric = {"name": name, "over": "scenes", "empty": empty}
            assert float(objective(metric, KELP).over(counts)) == 1


def test_a_scene_of_which_nothing_was_predicted_is_not_found_empty():
    counts = np.zeros((3, 1, 2, 3))
    counts[0] = [[4, 0, 0], [0, 4, 0]]
    counts[1, 0, 0] = [3, 0, 1]
    counts[2, 0, 0] = [0, 0, 4]
    found = objective({"name": "dice", "over": "scenes", "empty": 1}, KELP)
    assert found.score(counts).tolist() == [1, 1, 0]


def test_the_mean_over_scenes_of_macro_scores_leaves_out_classes_that_a_scene_lacks():
    label, found = np.uint8([0, 0, 1, 1]), np.uint8([0, 2, 1, 1])
    counts = np.stack([confusion_counts(*pair, 3)[None] for pair in ((label, found), (np.uint8([2, 2]),) * 2)])
    score = objective({"name": "macro_iou", "over": "scenes"}, LAND).over(counts)
    assert float(score) == pytest.approx(np.mean([(0.5 + 1) / 2, 1]))


def test_a_cost_is_named_by_class_and_the_less_the_better():
    cheap = objective({"name": "cost", "costs": {"kelp": {"background": 5}}}, KELP)
    label = np.uint8([0, 0, 1, 1])
    scores = [
        float(cheap.score(confusion_counts(label, np.uint8(found), 2)[None])) for found in ([1, 1, 1, 1], [0, 0, 1, 0])
    ]
    assert scores == [-0.5, -1.25]
    assert "minus" in cheap.title
    with pytest.raises(EnsembleError, match=r"got kelb\. Nearest: kelp"):
        objective({"name": "cost", "costs": {"kelb": {"background": 5}}}, KELP)


def test_words_say_what_is_pooled_and_averaged():
    assert objective(None, KELP).meaning == "Dice of kelp, pooled over all pixels"
    assert objective(None, LAND).title == "macro IoU"
    assert objective(None, TAGS).meaning == "mean over the tags of their Dice, pooled over all scenes"
    planet = objective({"name": "f2", "over": "scenes"}, TAGS)
    assert planet.title == "mean scene F2"
    assert "each one's own F2 of all tags together; a scene without any is left out" in planet.meaning
    assert objective("f2", TAGS).title == "micro F2"
    assert objective({"name": "precision_at_recall", "at_least": 0.9}, KELP).title == "precision at recall ≥ 0.9"


@pytest.mark.parametrize(
    ("metric", "classes", "message"),
    [
        ("dice", LAND, r"a score over all classes for the task multiclass, got dice\. Use macro_dice, or name one"),
        ({"name": "recall_at_precision", "at_least": 0.5}, LAND, r"Name one class: \{name: recall_at_precision"),
        ({"name": "iou", "of": "kelb"}, LAND, r"one of water, rock, kelp, got kelb\. Nearest: kelp"),
        ({"name": "macro_iou", "of": "kelp"}, LAND, r"got macro_iou\. Leave of out, or use iou"),
        ({"name": "macro_f2", "over": "scenes"}, TAGS, r"few tags are in any one\. Use f2 alone"),
        ({"name": "f2", "over": "scenes", "of": "haze"}, TAGS, r"few tags are in any one\. Use f2 alone"),
        ({"name": "cost", "costs": {}}, TAGS, "expected a score of tags, got cost"),
    ],
)
def test_a_metric_that_does_not_suit_the_task_is_refused(metric, classes, message):
    with pytest.raises(EnsembleError, match=message):
        objective(metric, classes)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("macro_jou", r"got macro_jou\. Nearest: macro_iou"),
        ({"name": "dice", "bta": 2}, r"got bta\. Did you mean beta\?"),
        ("fbeta", r"expected beta with fbeta, got none"),
        ({"name": "dice", "beta": 2}, r"expected beta with fbeta, macro_fbeta alone, got it with dice"),
        ({"name": "f2", "empty": 1}, r"Add over: scenes"),
        ({"name": "kappa", "over": "scenes"}, r"expected kappa over pixels"),
        ({"name": "cost", "costs": {"kelp": {"background": -1}}}, "greater than or equal to 0"),
    ],
)
def test_a_metric_that_is_not_defined_is_refused(metric, message):
    with pytest.raises(ValidationError, match=message):
        EnsembleSettings(metric=metric)
