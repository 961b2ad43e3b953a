import json
from dataclasses import replace

import geopandas
import numpy as np
import polars as pl
import pytest
from rasterio.crs import CRS

from data.maps.geotiff import TOP, dequantise
from data.scenes.classes import Classes
from data.scenes.windows import Grid, Window
from ensemble.audit.audit_files import write_audit
from ensemble.audit.edges import EdgeNoise
from ensemble.audit.evidence import count_contradictions, weigh_evidence
from ensemble.audit.label_audit import CROP, AuditedScene, audit_labels
from ensemble.audit.parts import find_parts
from ensemble.audit.ranking import Ranking
from ensemble.audit.regions import list_candidates, outline_region
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.cleaning import Cleaning, Rule
from ensemble.decide.decision.decision import Decision
from ensemble.maps import open_maps
from ensemble.score.evaluation import BLEND, Evaluation

from ..conftest import LAND, SHAPE, noisy

UTM = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0)
TAGS = Classes("multilabel", (0, 1, 2), ("haze", "road", "water"), ((0, 0, 255), (90, 90, 90), (230, 159, 0)))


def evaluation_of(catalogue, decide):
    """Return an evaluation whose decisions are those of a function of the fold."""
    scenes = catalogue.split("train")
    folds = {scene.id: scene.fold for scene in scenes}
    decisions = {fold: {BLEND: decide(fold)} for fold in catalogue.folds}
    groups = {scene.id: scene.group for scene in scenes}
    return Evaluation("train", {}, groups, BLEND, folds, decisions)


def halves(threshold=0.5, **cleaning):
    """Return the decision for the plain mean of two members."""
    return Decision((Calibration(),) * 2, Blend(((0.5, 0.5),)), (threshold,), Cleaning(**cleaning))


def blocky(classes, strength, seed):
    """Return a member that errs in blocks of 4 × 4 pixels: what it contradicts is more than slivers."""
    plain = noisy(classes, strength, seed)

    def proba(scene):
        rows, cols = (np.minimum(np.arange(side) // 4 * 4 + 1, side - 1) for side in SHAPE)
        return plain(scene)[:, rows][:, :, cols]

    return proba


@pytest.fixture
def make_blocky(make_catalogue, write_maps, write_raster):
    """Return a function that gives a catalogue of labels in blocks, and the maps of two members."""

    def make(**options):
        catalogue = make_catalogue(**options)
        for number, scene in enumerate(catalogue.scenes):
            n = catalogue.classes.n_labels
            blocks = np.random.default_rng(number).choice(n, (6, 8), p=[0.7, *[0.3 / (n - 1)] * (n - 1)])
            label = np.kron(blocks, np.ones((4, 4)))[: SHAPE[0], : SHAPE[1]].astype(np.uint8)
            label[0, :4] = 255
            write_raster(f"{scene.split}{number}.tif", label)
        members = {
            name: write_maps(name, catalogue, blocky(catalogue.classes, strength, seed))
            for seed, (name, strength) in enumerate({"one": 2.0, "two": 1.0}.items())
        }
        return catalogue, open_maps(members, catalogue.classes)

    return make


@pytest.fixture
def members(make_blocky):
    return make_blocky()


def slow_audit(catalogue, maps, evaluation):
    """Return all regions that may be listed, by the plain score, and the counts of each scene, from whole maps."""
    regions, counts, names = [], {}, catalogue.classes.label_names
    for scene in catalogue.split("train"):
        decision = evaluation.decisions[scene.fold][BLEND]
        stored, [label] = maps.read(scene), maps.label(scene)
        [prediction] = decision.cleaning.apply(decision.apply(stored))
        evidence = weigh_evidence(stored, decision.weights, decision.proba(stored), label, prediction)
        parts = find_parts(evidence, len(names))
        listed = np.flatnonzero(~parts.slivers & (parts.fact("confidence") > 0))
        scores = parts.fact("score")[listed]
        candidates = list_candidates(scene.id, parts, listed, names)
        regions += [outline_region(one, float(score)) for one, score in zip(candidates, scores, strict=True)]
        counts[scene.id] = count_contradictions(evidence)
    return sorted(regions, key=lambda region: -region.score), counts


def test_the_audit_keeps_the_worst_regions_of_all_scenes_and_ranks_every_scene(members):
    catalogue, maps = members
    evaluation = evaluation_of(catalogue, lambda fold: halves(0.4 + fold / 20))
    regions, counts = slow_audit(catalogue, maps, evaluation)
    audit = audit_labels(maps, catalogue, evaluation, ranking=Ranking(), most=25)
    assert [one.outline for one in audit.regions] == [one.outline for one in regions[:25]]
    assert [one.score for one in audit.regions] == pytest.approx([one.score for one in regions[:25]])
    assert {one.scene: (one.labelled, one.contradicted, one.error) for one in audit.scenes} == counts
    scores = [one.score for one in audit.scenes]
    assert scores == sorted(scores, reverse=True)
    assert max(one.share for one in audit.scenes) == max(error / labelled for labelled, _, error in counts.values())


def test_a_label_that_a_move_mends_comes_before_one_of_a_scene_that_is_hard_to_map():
    hard = AuditedScene("hard", 1000, 90, 50.0, EdgeNoise(0.5, 0.1))
    moved = AuditedScene("moved", 1000, 40, 20.0, EdgeNoise(0.5, 0.0, 0, -2))
    few = AuditedScene("few", 1000, 4, 2.0, EdgeNoise(0.1, 0.0, 1, 0))
    assert sorted([hard, moved, few], key=lambda scene: -scene.score) == [moved, hard, few]
    assert hard.score == hard.share


def test_windows_give_the_same_audit(members):
    catalogue, maps = members
    evaluation = evaluation_of(catalogue, lambda _: halves())
    whole = audit_labels(maps, catalogue, evaluation)
    tiled = audit_labels(replace(maps, most_bytes=100), catalogue, evaluation)
    assert (tiled.regions, tiled.scenes, tiled.words()) == (whole.regions, whole.scenes, whole.words())


def test_scenes_are_judged_by_what_was_decided_without_their_fold(members):
    catalogue, maps = members
    # In fold 1 nothing is kelp, so no background is contradicted.
    evaluation = evaluation_of(catalogue, lambda fold: halves(1.0 if fold == 1 else 0.5))
    audit = audit_labels(maps, catalogue, evaluation, most=10_000)
    said = {fold: {one.label for one in audit.regions if evaluation.folds[one.scene] == fold} for fold in (0, 1, 2)}
    assert said == {0: {"background", "kelp"}, 1: {"kelp"}, 2: {"background", "kelp"}}


def test_what_cleaning_takes_back_is_no_evidence(members):
    catalogue, maps = members
    nothing = {"dem > 0": np.ones(SHAPE, bool)}
    rules = (Rule(1, "dem > 0", 0),)
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves(rules=rules)), lambda _: nothing)
    plain = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves()), most=10_000)
    # What was kelp is background now; there it contradicts labels that say kelp, but only on second thoughts.
    assert {region.label for region in audit.regions} == {"kelp"}
    missed = [region for region in plain.regions if region.label == "kelp"]
    error = sum(region.error for region in audit.regions)
    assert error == pytest.approx(sum(region.error for region in missed))


def test_several_classes_are_named(make_blocky):
    catalogue, maps = make_blocky(classes=LAND, n_scenes=4, folds=2)
    evaluation = evaluation_of(
        catalogue, lambda _: Decision((Calibration(),) * 2, Blend(((0.5, 0.5),), exclusive=True), (1.0, 1.0, 2.0))
    )
    audit = audit_labels(maps, catalogue, evaluation, most=10_000)
    slow = slow_audit(catalogue, maps, evaluation)[0]
    assert {(one.scene, one.window) for one in audit.regions} == {(one.scene, one.window) for one in slow}
    pairs = {(region.label, region.prediction) for region in audit.regions}
    assert {("water", "rock"), ("water", "kelp"), ("rock", "kelp")} <= pairs


def test_tags_of_scenes_are_ranked_like_regions(make_catalogue, write_tag_maps):
    catalogue = make_catalogue(n_scenes=4, folds=2)
    rng = np.random.default_rng(0)
    stored = {scene.id: rng.integers(0, TOP, 3).astype(np.uint16) for scene in catalogue.scenes}
    labels = {scene.id: rng.integers(0, 2, 3).astype(np.uint8) for scene in catalogue.scenes}
    scenes = tuple(replace(scene, tags=tuple(np.flatnonzero(labels[scene.id]))) for scene in catalogue.scenes)
    catalogue = replace(catalogue, classes=TAGS, scenes=scenes)
    maps = open_maps({"one": write_tag_maps("one", TAGS, stored)}, TAGS)
    decision = Decision((Calibration(),), Blend(((1.0,),)), (0.5, 0.5, 0.5))
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: decision))
    wanted = []
    for scene, said in stored.items():
        for name, p, tagged in zip(TAGS.names, dequantise(said), labels[scene], strict=True):
            if (p >= 0.5) != tagged:
                odds = abs(np.log(p / (1 - p)))
                wanted.append((odds, scene, *((name, f"no {name}") if tagged else (f"no {name}", name))))
    found = [(one.scene, one.label, one.prediction) for one in audit.regions]
    assert found == [tuple(names) for _, *names in sorted(wanted, reverse=True)]
    assert [one.score for one in audit.regions] == pytest.approx(
        sorted((one[0] for one in wanted), reverse=True), rel=0.01
    )
    assert all(one.window == Window(0, 0, *SHAPE) and not one.outline for one in audit.regions)
    assert {one.labelled for one in audit.scenes} == {3}


def test_a_crop_holds_its_region_and_stays_within_the_scene(members):
    catalogue, maps = members
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves()))
    large = replace(catalogue, scenes=tuple(replace(one, grid=Grid(400, 500)) for one in catalogue.scenes))
    for given, least in ((catalogue, SHAPE), (large, (CROP, CROP))):
        crops = audit.crops(given, 20)
        assert [region for region, _ in crops] == list(audit.regions[:20])
        for region, crop in crops:
            assert crop.meet(region.window) == region.window
            assert crop.meet(given.scenes[0].grid.window) == crop
            assert (crop.height, crop.width) == least


def test_files_say_what_the_audit_says(members, tmp_path):
    catalogue, maps = members
    first, second, third, *others = catalogue.scenes
    systems = {first.id: CRS.from_epsg(32610).to_wkt(), second.id: CRS.from_epsg(32611).to_wkt(), third.id: None}
    scenes = tuple(
        replace(scene, grid=Grid(*SHAPE, systems[scene.id], UTM)) if scene.id in systems else scene
        for scene in catalogue.scenes
    )
    catalogue = replace(catalogue, scenes=scenes)
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves()), most=10_000)
    write_audit(audit, tmp_path, catalogue)

    table = pl.read_parquet(tmp_path / "audit.parquet")
    assert table["rank"].to_list() == list(range(1, len(audit.regions) + 1))
    assert table["score"].to_list() == [region.score for region in audit.regions]
    listed = pl.read_csv(tmp_path / "audit.csv")
    assert listed["scene"].to_list() == [one.scene for one in audit.scenes]
    layers = {"audit_epsg_32610": {first.id}, "audit_epsg_32611": {second.id}, "audit_unknown": {third.id}}
    layers["audit_pixels"] = {scene.id for scene in others}
    ranks = []
    for layer, ids in layers.items():
        found = geopandas.read_file(tmp_path / "audit.gpkg", layer=layer)
        assert set(found["scene"]) == ids & {region.scene for region in audit.regions}
        assert (found.area / found["area"]).round(6).isin([1 if layer == "audit_pixels" else 100]).all()
        ranks += found["rank"].tolist()
    assert sorted(ranks) == table["rank"].to_list()
    on_ground = json.loads((tmp_path / "audit.geojson").read_text("utf-8"))["features"]
    assert {one["properties"]["scene"] for one in on_ground} == {first.id, second.id}


def test_regions_whose_system_has_no_longitude_are_left_out_of_geojson_and_counted(members, tmp_path, caplog):
    catalogue, maps = members
    plan = 'LOCAL_CS["site plan",UNIT["metre",1],AXIS["Easting",EAST],AXIS["Northing",NORTH]]'
    scenes = tuple(replace(scene, grid=Grid(*SHAPE, plan, UTM)) for scene in catalogue.scenes)
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves()), most=12)
    write_audit(audit, tmp_path, replace(catalogue, scenes=scenes))
    assert not (tmp_path / "audit.geojson").exists()
    assert len(geopandas.read_file(tmp_path / "audit.gpkg")) == 12
    assert "12 of 12 regions are not in audit.geojson" in caplog.text


def test_an_audit_without_outlines_leaves_no_old_ones_behind(members, tmp_path):
    catalogue, maps = members
    audit = audit_labels(maps, catalogue, evaluation_of(catalogue, lambda _: halves()))
    write_audit(audit, tmp_path, catalogue)
    assert (tmp_path / "audit.gpkg").exists()
    assert not (tmp_path / "audit.geojson").exists()
    write_audit(replace(audit, regions=()), tmp_path, catalogue)
    assert sorted(path.name for path in tmp_path.glob("audit.*")) == ["audit.csv", "audit.parquet"]
    assert pl.read_parquet(tmp_path / "audit.parquet").height == 0
