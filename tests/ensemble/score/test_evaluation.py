from dataclasses import dataclass, replace

import numpy as np
import pytest

from data.errors import MapError
from data.maps.geotiff import write_class_map
from data.metrics.confusion import question_counts
from data.metrics.metric import METRICS
from data.scenes.classes import Classes
from data.scenes.scene import Scene, read_label
from data.scenes.windows import Grid
from ensemble import MAP, EnsembleSettings, evaluate_class_maps, score_table
from ensemble.decide.decision.cleaning import Cleaning, Rule
from ensemble.maps import MemberMaps, open_maps
from ensemble.score.evaluation import decide_scene, evaluate_members, mapped_pixels

from ..conftest import KELP, SHAPE

NONE = Cleaning()


@dataclass(frozen=True)
class Cut:
    """A decision that takes the first member from some stored value on, and counts how often it was asked."""

    least: int
    cleaning: Cleaning = NONE

    def apply(self, stored):
        asked.append(self.least)
        return np.where(stored[0] == 65535, 255, stored[0] >= self.least).astype(np.uint8)


asked: list[int] = []


@pytest.fixture
def members(make_catalogue, make_members):
    """A catalogue, and the maps of a member that leaves much to clean."""
    catalogue = make_catalogue()
    asked.clear()
    return catalogue, open_maps(make_members(catalogue, one=(1.5, 0)), catalogue.classes)


def predict(maps, scene, least):
    stored = maps.read(scene)[0]
    return np.where(stored == 65535, 255, stored >= least).astype(np.uint8)


def test_whole_scenes_are_cleaned_and_then_counted_and_others_counted_as_decided(members, monkeypatch):
    catalogue, maps = members
    cleaning = Cleaning(min_size=4, fill=3)
    decisions = {"plain": Cut(30_000), "cleaned": Cut(30_000, cleaning), "other": Cut(40_000, Cleaning(smooth=1))}
    whole = evaluate_members(maps, catalogue.scenes, lambda _: decisions, KELP)
    for scene in catalogue.scenes:
        for name, decision in decisions.items():
            prediction = decision.cleaning.apply(predict(maps, scene, decision.least))
            np.testing.assert_array_equal(
                whole.counts[name][scene.id], question_counts(read_label(scene)[None], prediction, 2)
            )
            np.testing.assert_array_equal(whole.mapped[name][scene.id], np.bincount(prediction.ravel(), minlength=2))
    assert not np.array_equal(whole.total("plain"), whole.total("cleaned"))
    # A window is too small to clean in: objects go on beyond it.
    parts = evaluate_members(replace(maps, most_bytes=100), catalogue.scenes, lambda _: decisions, KELP)
    for name in decisions:
        np.testing.assert_array_equal(parts.stack(name), whole.stack(name))


def test_equal_decisions_are_carried_out_once(members):
    catalogue, maps = members
    same = {"one": Cut(30_000), "blend": Cut(30_000), "cleaned": Cut(30_000, Cleaning(fill=2)), "two": Cut(20_000)}
    evaluation = evaluate_members(maps, catalogue.scenes[:1], lambda _: same, KELP)
    assert sorted(asked) == [20_000, 30_000]
    np.testing.assert_array_equal(evaluation.total("one"), evaluation.total("blend"))


def test_rules_see_the_masks_of_their_scene(members):
    catalogue, maps = members
    rule = Cleaning(rules=(Rule(1, "dem > 0", 0),))
    land = np.zeros(SHAPE, bool)
    land[:, 15:] = True

    def masks(scene: Scene):
        return {"dem > 0": land if scene.id == "s0" else ~land}

    for scene in catalogue.scenes[:2]:
        ((_, window, label),) = decide_scene(maps, scene, [Cut(30_000, rule)], masks)
        assert window == scene.grid.window
        kept = predict(maps, scene, 30_000)
        kept[masks(scene)["dem > 0"][None] & (kept == 1)] = 0
        np.testing.assert_array_equal(label, kept)


def test_masks_are_only_made_where_there_is_something_to_clean(members):
    catalogue, maps = members

    def masks(scene: Scene):
        raise AssertionError("nobody asked for masks")

    assert list(decide_scene(maps, catalogue.scenes[0], [Cut(1)], masks))


def test_mapped_pixels_are_those_of_the_cleaned_map_labelled_or_not(members):
    catalogue, maps = members
    decision = Cut(30_000, Cleaning(min_size=5))
    found = mapped_pixels(maps, catalogue.scenes, decision, KELP)
    evaluation = evaluate_members(maps, catalogue.scenes, lambda _: {"blend": decision}, KELP)
    for scene in catalogue.scenes:
        prediction = decision.cleaning.apply(predict(maps, scene, 30_000))
        assert found[scene.id].tolist() == [(prediction == 0).sum(), (prediction == 1).sum()]
        np.testing.assert_array_equal(found[scene.id], evaluation.mapped["blend"][scene.id])
        # Four pixels of each label are ignored, but mapped.
        assert found[scene.id].sum() == evaluation.counts["blend"][scene.id].sum() + 4


def test_tags_are_counted_one_by_one_and_have_no_mapped_area():
    tags = Classes("multilabel", (0, 1, 2), ("clear", "river", "road"), ((0, 0, 0),) * 3)
    rng = np.random.default_rng(0)
    labels = {f"s{number}": rng.choice([0, 1, 255], 3, p=[0.4, 0.4, 0.2]).astype(np.uint8) for number in range(6)}
    stored = {scene: rng.integers(0, 65535, (1, 3, 1, 1)).astype(np.uint16) for scene in labels}
    scenes = [Scene(scene, "train", (), Grid(1, 1), group=scene, fold=0) for scene in labels]

    class TagMaps(MemberMaps):
        def windows(self, scene, area=None):
            yield scene.grid.window, stored[scene.id]

        def label(self, scene, window=None):
            return labels[scene.id][:, None, None]

    @dataclass(frozen=True)
    class Tags:
        cleaning: Cleaning = NONE

        def apply(self, stored):
            return (stored[0] >= 30_000).astype(np.uint8)

    evaluation = evaluate_members(TagMaps({}, tags), scenes, lambda _: {"blend": Tags()}, tags)
    assert evaluation.total("blend").shape == (3, 2, 3)
    for scene, label in labels.items():
        for tag in range(3):
            expected = np.zeros((2, 3), int)
            if label[tag] != 255:
                expected[label[tag], int(stored[scene][0, tag, 0, 0] >= 30_000)] = 1
            np.testing.assert_array_equal(evaluation.counts["blend"][scene][tag], expected)
    assert evaluation.mapped == {}


@pytest.fixture
def pairs(make_catalogue, tmp_path):
    found = []
    for number, scene in enumerate(make_catalogue().scenes):
        prediction = read_label(scene)
        prediction[prediction == 255] = 0
        prediction[5 : 5 + number] = 1 - prediction[5 : 5 + number]
        prediction[-1] = 255
        write_class_map(tmp_path / "maps" / f"{scene.id}.tif", prediction, scene.grid, KELP, {})
        found.append((tmp_path / "maps" / f"{scene.id}.tif", scene))
    return found


def test_class_maps_are_scored_pooled_and_as_the_mean_over_scenes(pairs):
    evaluation = evaluate_class_maps(pairs, KELP)
    table = score_table([evaluation], KELP, EnsembleSettings())
    dice = table.filter((table["metric"] == "dice") & (table["label"] == ""))
    rows = {row["scope"]: row for row in dice.rows(named=True)}
    assert set(rows) == {"pooled", "scene mean"}
    counts = np.stack(list(evaluation.counts[MAP].values()))[:, 0]
    assert rows["pooled"]["value"] == METRICS["dice"].score(counts.sum(axis=0))
    assert rows["scene mean"]["value"] == pytest.approx(METRICS["dice"].score(counts).mean())
    for row in rows.values():
        assert row["low"] < row["value"] < row["high"]
    # The last row of each map holds no prediction.
    assert counts[:, :, 2].sum() == len(pairs) * 31
    for mapped in evaluation.mapped[MAP].values():
        assert mapped.sum() == (SHAPE[0] - 1) * SHAPE[1]


def test_a_map_of_another_size_or_none_at_all_is_refused(pairs):
    path, scene = pairs[0]
    write_class_map(path, np.zeros((3, 4), np.uint8), Grid(3, 4), KELP, {})
    with pytest.raises(MapError, match="expected 24 × 31 pixels like its scene, got 3 × 4"):
        evaluate_class_maps([(path, scene)], KELP)
    with pytest.raises(MapError, match="expected class maps to score, got none"):
        evaluate_class_maps([], KELP)
