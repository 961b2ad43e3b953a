import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from data.errors import FoldError, SceneError
from data.folds.groups import _match_pattern, connected_components, group_scenes, linking_rules
from data.folds.similarity import BLOCKS, Thumbnails, read_thumbnails, similar_pairs
from data.scenes.footprints import overlapping_pairs, touching_pairs
from data.scenes.image import ImageFile
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import Scene
from data.scenes.windows import Grid
from data.settings import GroupSettings

UTM = rasterio.crs.CRS.from_epsg(32610).to_wkt()
NEXT_UTM = rasterio.crs.CRS.from_epsg(32611).to_wkt()


def scene_at(name, x=None, y=0.0, size=10, crs=UTM, split="train", path=None):
    transform = None if x is None else (1.0, 0.0, x, 0.0, -1.0, y)
    grid = Grid(size, size, None if x is None else crs, transform)
    return Scene(name, split, (ImageFile(path or f"/data/img_{name}.tif", ("dem",)),), grid)


def scene_of(folder, name, values, nodata=None):
    path = folder / f"{name}.tif"
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1], "dtype": "float32"}
    with maybe_ungeoreferenced(), rasterio.open(path, "w", **profile) as raster:
        raster.write(values.astype(np.float32), 1)
    return Scene(name, "train", (ImageFile(str(path), ("dem",), nodata or ()),), Grid(*values.shape))


def hills(seed, size=96):
    rng = np.random.default_rng(seed)
    rows, cols = np.indices((size, size)) / size
    waves = (
        rng.uniform(5, 40) * np.sin(rng.uniform(2, 14) * rows + rng.uniform(2, 14) * cols + rng.uniform(0, 6))
        for _ in range(5)
    )
    return np.maximum(sum(waves), 0)


def sets_of(groups):
    members = {}
    for scene, group in groups.items():
        members.setdefault(group, set()).add(scene)
    return sorted(map(sorted, members.values()))


def brute_force_components(count, pairs):
    """Spread labels along pairs until nothing changes."""
    labels = list(range(count))
    changed = True
    while changed:
        changed = False
        for one, other in pairs:
            low = min(labels[one], labels[other])
            if labels[one] != low or labels[other] != low:
                labels[one] = labels[other] = low
                changed = True
    return labels


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
def test_components_are_those_of_brute_force(case):
    count, pairs = case
    assert connected_components(count, pairs).tolist() == brute_force_components(count, pairs)


def test_a_chain_is_one_component_though_its_ends_never_meet():
    assert set(connected_components(100, [(k, k + 1) for k in reversed(range(99))])) == {0}


def test_without_a_rule_each_scene_is_its_own_group(tmp_path):
    scenes = [scene_at("b"), scene_at("a")]
    assert group_scenes(scenes, GroupSettings(), tmp_path) == {"a": "a", "b": "b"}


def test_the_first_group_of_a_pattern_names_the_group(tmp_path):
    scenes = [scene_at("bay_1"), scene_at("bay_2"), scene_at("cape_1")]
    settings = GroupSettings(pattern=r"(\w+)_\d")
    assert group_scenes(scenes, settings, tmp_path) == {"bay_1": "bay", "bay_2": "bay", "cape_1": "cape"}
    assert group_scenes(scenes, GroupSettings(pattern=r"^[a-z]+"), tmp_path)["bay_2"] == "bay"


def test_ids_that_do_not_match_the_pattern_are_listed(tmp_path):
    with pytest.raises(FoldError, match=r"2 of 3 training scenes.*: expected ids that match.*not met by 7, 8"):
        group_scenes([scene_at("a1"), scene_at("8"), scene_at("7")], GroupSettings(pattern="[a-z]"), tmp_path)
    with pytest.raises(FoldError, match="expected a regular expression"):
        group_scenes([scene_at("a1")], GroupSettings(pattern="("), tmp_path)


def test_a_pattern_that_would_look_for_ever_is_given_up():
    with pytest.raises(FoldError, match=r"expected an answer within 0\.01 s, got none on the id a{40}!"):
        _match_pattern([scene_at("a" * 40 + "!")], "(a|aa)+$", patience=0.01)


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("flat.json", json.dumps({"img_1.tif": 0, "2": 0, "img_3": 1}), None),
        ("inverse.json", json.dumps({"0": ["1", "img_2.tif"], "1": ["3"]}), None),
        ("lists.json", json.dumps([["1", "2"], ["img_3.tif"]]), None),
        ("table.csv", "place,id\n0,1\n0,2\n1,3\n", "place"),
        ("table.csv", "\ufeffid;group\n1;0\n2;0\n3;1\n", None),
        ("table.csv", "id,group\n1,0\n2,0\n3,1\n", None),
    ],
)
def test_a_file_of_groups_may_have_any_usual_form(tmp_path, name, text, column):
    (tmp_path / name).write_text(text)
    scenes = [scene_at(name) for name in "123"]
    groups = group_scenes(scenes, GroupSettings(file=name, column=column), tmp_path)
    assert groups == {"1": "0", "2": "0", "3": "1"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "expected JSON"),
        ("a.json", "3", "got other JSON"),
        ("a.json", '["1"]', "got other JSON"),
        ("a.json", '[["1", "2"], ["1"]]', "expected one group for 1, got 0 and 1"),
        ("a.json", '{"1": null}', "expected a group for 1"),
        ("a.csv", "id,place\n1,x\n", "expected a column of scene ids and the column group, got id, place"),
        ("a.csv", "id,group\n1,\n", "expected a group for 1"),
        ("a.csv", "id,group\n1,NA\n", "expected a group for 1"),
        ("a.json", '{"1": 0}', r"2 of 3 training scenes: expected a group in .*a.json.*; not met by 2, 3"),
    ],
)
def test_a_file_of_groups_that_cannot_be_used_says_why(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(FoldError, match=message):
        group_scenes([scene_at(name) for name in "123"], GroupSettings(file=name), tmp_path)
    with pytest.raises(FoldError, match=r"no_such\.json"):
        group_scenes([scene_at("1")], GroupSettings(file="no_such.json"), tmp_path)


def test_scenes_of_other_splits_need_no_group_in_the_file(tmp_path):
    (tmp_path / "a.json").write_text('{"1": "x"}')
    scenes = [scene_at("1", split="test"), scene_at("x", split="test")]
    groups = group_scenes(scenes, GroupSettings(file="a.json"), tmp_path)
    assert groups["1"] != groups["x"]


def test_footprints_that_overlap_share_a_group_and_those_that_touch_do_not(tmp_path):
    scenes = [scene_at("a", 0), scene_at("b", 9), scene_at("c", 18.5), scene_at("d", 28.5), scene_at("e", 28.5, 10)]
    assert sets_of(group_scenes(scenes, GroupSettings(overlap=True), tmp_path)) == [["a", "b", "c"], ["d"], ["e"]]
    assert touching_pairs(scenes).tolist() == [[0, 1], [1, 2], [2, 3], [2, 4], [3, 4]]


def test_rounding_of_tile_edges_makes_no_overlap_and_no_gap():
    scenes = [scene_at("a", 0.1 + 0.2), scene_at("b", 10.3 - 1e-9), scene_at("c", 20.3 + 1e-9)]
    assert len(overlapping_pairs(scenes)) == 0
    assert touching_pairs(scenes).tolist() == [[0, 1], [1, 2]]


corners = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 15)), min_size=1, max_size=15)


@given(corners)
def test_overlaps_are_those_of_brute_force(boxes):
    scenes = [scene_at(str(k), float(x), float(y), size) for k, (x, y, size) in enumerate(boxes)]
    expected = [
        [i, j]
        for i, (x, y, a) in enumerate(boxes)
        for j, (u, v, b) in enumerate(boxes)
        if i < j and min(x + a, u + b) > max(x, u) and min(y, v) > max(y - a, v - b)
    ]
    assert overlapping_pairs(scenes).tolist() == expected


def test_footprints_in_two_reference_systems_are_compared_on_the_ground(tmp_path):
    # 123° W − 6° = the edge of zones 10 and 11 at 120° W; the same ground has other coordinates in each.
    x, y = rasterio.warp.transform(UTM, NEXT_UTM, [760_000], [4_000_000])
    here = scene_at("here", 760_000, 4_000_000, 1000)
    there = scene_at("there", x[0], y[0], 1000, NEXT_UTM)
    far = scene_at("far", 760_000, 4_000_000, 1000, NEXT_UTM)
    assert sets_of(group_scenes([here, there, far], GroupSettings(overlap=True), tmp_path)) == [
        ["far"],
        ["here", "there"],
    ]


def test_scenes_without_georeferencing_cannot_be_grouped_by_overlap(tmp_path):
    with pytest.raises(FoldError, match=r"1 of 2 training scenes: expected georeferencing.*not met by b"):
        group_scenes([scene_at("a", 0), scene_at("b")], GroupSettings(overlap=True), tmp_path)


def test_near_duplicates_share_a_group_whatever_their_gain_and_gaps(tmp_path):
    first, gappy = hills(1), hills(1) * 1.3 + 5
    gappy[:40, :30] = np.nan
    shifted = np.roll(hills(1), 1, axis=0)
    values = {"a": first, "b": gappy, "c": shifted, "d": hills(2), "e": hills(3)}
    scenes = [scene_of(tmp_path, name, value) for name, value in values.items()]
    groups = group_scenes(scenes, GroupSettings(similar="dem", similarity=0.95), tmp_path)
    assert sets_of(groups) == [["a", "b", "c"], ["d"], ["e"]]


def test_flat_scenes_are_not_near_duplicates(tmp_path):
    sea, nothing = np.zeros((50, 50)), np.full((50, 50), np.nan)
    scenes = [scene_of(tmp_path, name, v) for name, v in (("a", sea), ("b", sea), ("c", nothing), ("d", sea + 7))]
    assert len(set(group_scenes(scenes, GroupSettings(similar="dem"), tmp_path).values())) == 4


def test_two_mountainsides_are_not_near_duplicates(tmp_path):
    slope = np.indices((96, 96))[0] * 10.0
    scenes = [scene_of(tmp_path, str(seed), slope + hills(seed)) for seed in range(4)]
    small = read_thumbnails(scenes, "dem")
    assert np.corrcoef(small.values).min() > 0.98
    assert len(set(group_scenes(scenes, GroupSettings(similar="dem"), tmp_path).values())) == 4


def test_two_even_slopes_are_not_near_duplicates(tmp_path):
    scenes = [scene_of(tmp_path, name, np.indices((96, 96))[0] * 10.0) for name in "ab"]
    assert len(set(group_scenes(scenes, GroupSettings(similar="dem"), tmp_path).values())) == 2


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.6))
def test_likeness_is_the_correlation_over_the_blocks_that_both_show(seed, gaps):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(BLOCKS * BLOCKS)
    values = np.array([base + rng.uniform(0, 1) * rng.standard_normal(len(base)) for _ in range(4)], np.float32)
    valid = (rng.random(values.shape) >= gaps).astype(np.float32)
    values = values * valid
    found = {tuple(pair) for pair in similar_pairs(Thumbnails(values, valid), 0.8).tolist()}
    for i in range(4):
        for j in range(i + 1, 4):
            both = (valid[i] > 0) & (valid[j] > 0)
            likeness = np.corrcoef(values[i, both], values[j, both])[0, 1]
            enough = both.mean() >= 0.25
            if abs(likeness - 0.8) > 1e-3 and abs(both.mean() - 0.25) > 1e-3:
                # Steps of white noise are as alike as its values, so only the values decide.
                assert ((i, j) in found) == (likeness >= 0.8 and enough)


def test_a_thumbnail_of_a_scene_read_in_strips_is_that_of_the_whole(tmp_path):
    scene = scene_of(tmp_path, "a", np.where(hills(4, 100) > 60, np.nan, hills(4, 100)))
    whole = read_thumbnails([scene], "dem")
    strips = read_thumbnails([scene], "dem", strip_pixels=700)
    np.testing.assert_allclose(strips.values, whole.values, atol=1e-5)
    np.testing.assert_array_equal(strips.valid, whole.valid)


def test_a_scene_smaller_than_its_thumbnail_is_no_fault(tmp_path):
    scenes = [scene_of(tmp_path, name, hills(seed, 9)) for name, seed in (("a", 1), ("b", 1), ("c", 2))]
    assert len(group_scenes(scenes, GroupSettings(similar="dem"), tmp_path)) == 3


def test_a_band_that_scenes_lack_is_named(tmp_path):
    with pytest.raises(SceneError, match="nir"):
        group_scenes([scene_of(tmp_path, "a", hills(1))], GroupSettings(similar="nir"), tmp_path)


def test_rules_join_and_a_joined_group_is_called_by_its_smallest_scene(tmp_path):
    scenes = [scene_at("bay_2", 0), scene_at("bay_1", 50), scene_at("cape_1", 5), scene_at("dune_1", 90)]
    groups = group_scenes(scenes, GroupSettings(pattern=r"(\w+)_\d", overlap=True), tmp_path)
    assert groups == {"bay_1": "bay_1", "bay_2": "bay_1", "cape_1": "bay_1", "dune_1": "dune"}


@given(st.permutations(range(8)))
def test_groups_do_not_depend_on_the_order_of_scenes(order):
    scenes = [scene_at(f"{'ab'[k % 2]}{k}", 7.0 * k if k != 4 else 300.0) for k in range(8)]
    settings = GroupSettings(overlap=True, pattern="a0|a2|.*")
    assert group_scenes([scenes[k] for k in order], settings, Path()) == group_scenes(scenes, settings, Path())


def test_a_rules_name_that_is_another_groups_scene_joins_nothing(tmp_path):
    (tmp_path / "a.json").write_text('{"1": "x", "2": "x"}')
    scenes = [scene_at(name, split="val") for name in ("1", "2", "x")]
    assert sets_of(group_scenes(scenes, GroupSettings(file="a.json"), tmp_path)) == [["1", "2"], ["x"]]


def test_which_rules_link_scenes_is_told_of_those_that_link_any_two(tmp_path):
    names = ("a_1", "a_2", "b_1", "c_9")
    scenes = [Scene(name, "train", (), Grid(5, 5)) for name in names]
    (tmp_path / "groups.json").write_text(json.dumps({"a_1": "x", "a_2": "y", "b_1": "x", "c_9": "z"}))
    settings = GroupSettings(pattern="^[a-z]", file="groups.json")
    assert linking_rules(scenes, settings, tmp_path) == ("pattern", "file")
    assert linking_rules(scenes[:2], settings, tmp_path) == ("pattern",)
    assert linking_rules([scenes[0], scenes[2]], settings, tmp_path) == ("file",)
    assert linking_rules([scenes[1], scenes[3]], settings, tmp_path) == ()
