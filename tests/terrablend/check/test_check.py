import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import yaml

from data.pages.numbers import format_percent
from data.progress import untracked
from data.scenes.blocks import split_scene
from data.scenes.catalogue import Catalogue, SceneStatistics
from data.scenes.histogram import Histogram
from data.scenes.image import ImageFile
from data.scenes.opinions import agreement
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.scene import read_label
from data.settings import GroupSettings
from data.survey.overview import summarise
from features.unlike import Unlike
from terrablend.check import pictures
from terrablend.check.page import CheckFacts, write_check_page
from terrablend.check.pictures import draw_album
from terrablend.check.tables import blank_scenes, describe_overview

from ...conftest import KELP, LAND


def page_of(catalogue, tmp_path, **values):
    path = tmp_path / "check.html"
    facts = CheckFacts("coast", GroupSettings(), tmp_path, leakage=["none of the groups is split"])
    write_check_page(path, catalogue, summarise(catalogue), replace(facts, **values), None, untracked)
    return path.read_text("utf-8")


def rows_of(out):
    """Return the cells of each line of tables on the terminal, by the first; of equal ones the first line."""
    lines = [re.split(r" {2,}", line.strip()) for line in out.splitlines() if line]
    return {cells[0]: cells[1:] for cells in reversed(lines)}


@pytest.fixture
def checked(small_coast, tmp_path, terrablend):
    outcome = terrablend("check", small_coast, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    return tmp_path / "run", outcome


def test_check_prints_tables_and_draws_a_page(checked):
    run, outcome = checked
    catalogue = Catalogue.load(run / "catalogue.parquet")
    train = catalogue.split("train")
    rows = rows_of(outcome.out)
    assert rows["scenes"] == [
        str(len(train)),
        str(len(catalogue.split("test"))),
        *(str(len(catalogue.in_fold(fold))) for fold in catalogue.folds),
    ]
    kelp = sum(catalogue.label_counts(scene.id)[1] for scene in train)
    share = 100 * kelp / sum(catalogue.label_counts(scene.id).sum() for scene in train)
    assert float(rows["kelp"][0].split("%")[0]) == pytest.approx(share, rel=0.05)
    assert rows["nir"][4].endswith("%")
    assert str(run / "check.html") in outcome.err.replace("\n", "")

    page = (run / "check.html").read_text("utf-8")
    assert page.endswith("</html>")
    assert "alike on dem, by a correlation of 0.98 or more" in page
    for scene in train:
        assert scene.id in page
    for line in (run / "folds.txt").read_text("utf-8").splitlines():
        assert line in page


def test_a_page_needs_nothing_but_itself(checked):
    page = (checked[0] / "check.html").read_text("utf-8")
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"<(?:script|link|iframe)\b", page)
    addresses = re.findall(r"(?:src=\"|url\()([^\")]*)", page)
    assert addresses
    assert all(address.startswith("data:image/") for address in addresses)


def test_a_second_check_prints_the_same_and_leaves_the_page(checked, terrablend):
    run, first = checked
    before = (run / "check.html").stat().st_mtime_ns
    again = terrablend("check", run, "--workers", 1)
    assert again.code == 0, again.err
    assert again.out == first.out
    assert (run / "check.html").stat().st_mtime_ns == before


def test_any_number_of_workers_draws_the_same_page(checked, small_coast, tmp_path, terrablend):
    outcome = terrablend("check", small_coast, "--run", tmp_path / "two", "--workers", 2)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "two" / "check.html").read_bytes() == (checked[0] / "check.html").read_bytes()


def test_a_dry_run_prints_no_tables(small_coast, tmp_path, terrablend):
    outcome = terrablend("check", small_coast, "--run", tmp_path / "run", "--dry-run")
    assert outcome.out.split() == ["check", "to", "do"]


def test_a_table_of_rows_has_its_class_balance(small_table, tmp_path, terrablend):
    outcome = terrablend("check", small_table, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    assert "crop" in rows_of(outcome.out)
    page = (tmp_path / "run" / "check.html").read_text("utf-8")
    assert "Class balance" in page
    assert "data:image" not in page


def test_what_is_unlike_training_is_told_before_anything_is_trained(make_scenes, tmp_path):
    unlike = Unlike("test", {f"scene <{number}>": 0.9 - number / 50 for number in range(20)}, 500)
    page = page_of(make_scenes(), tmp_path, unlike=[unlike])
    assert unlike.sentence.replace("<", "&lt;").replace(">", "&gt;") in page
    assert 'scene &lt;11&gt;</td><td class="n">68%' in page
    assert "scene &lt;12&gt;" not in page
    assert "Of 500 scenes 20 were looked at" in page
    assert "no training pixel shows" not in page_of(make_scenes(), tmp_path)


def test_tags_are_shown_by_the_scenes_that_have_them(make_tagged, tmp_path):
    catalogue = make_tagged(n_scenes=12)
    train = [scene.tags for scene in catalogue.scenes]
    rows = rows_of(describe_overview(catalogue, summarise(catalogue)))
    haze = sum(0 in tags for tags in train)
    assert rows["haze"][:2] == [f"{haze / 12:.0%}", str(haze)]
    assert rows["never"][:2] == ["0%", "0"]
    page = page_of(catalogue, tmp_path)
    blank = [scene.id for scene in catalogue.scenes if not scene.tags]
    assert f"{len(blank)} of 12 train scenes without a tag" in page
    # Photographs alone: tags are of a scene as a whole.
    assert "image/png" not in page


def test_names_of_scenes_and_classes_are_no_markup(make_scenes, tmp_path):
    catalogue = make_scenes()
    scenes = tuple(replace(scene, group="<b>&") for scene in catalogue.scenes)
    page = page_of(replace(catalogue, scenes=scenes), tmp_path, warnings=["<i>odd"], name="<kelp>")
    assert "&lt;b&gt;&amp;" in page
    assert "&lt;i&gt;odd" in page
    assert "&lt;kelp&gt;" in page


def test_an_example_shows_the_class_where_most_of_it_lies(make_scenes):
    catalogue = make_scenes(n_scenes=6)
    album = draw_album(catalogue, summarise(catalogue), None, untracked)
    assert album.examples[0] == ()
    shares = {scene.id: catalogue.label_counts(scene.id)[1] for scene in catalogue.scenes}
    ranked = sorted(shares, key=lambda name: -shares[name] / catalogue.label_counts(name).sum())
    assert [shot.scene.id for shot in album.examples[1]] == [ranked[0], ranked[1], ranked[3]]


def test_a_scene_in_blocks_is_shown_once_for_a_class(make_scenes):
    catalogue = make_scenes(n_scenes=2)
    blocks = tuple(block for scene in catalogue.scenes for block in split_scene(scene, 20))
    counts = {block.id: np.bincount(read_label(block).ravel(), minlength=256)[:2] for block in blocks}
    statistics = {("train", name): SceneStatistics(400, tuple(found.tolist())) for name, found in counts.items()}
    blocks = tuple(replace(block, group=block.id, fold=0) for block in blocks)
    blocked = replace(catalogue, scenes=blocks, statistics=statistics)
    album = draw_album(blocked, summarise(blocked), None, untracked)
    shown = [shot.scene for shot in album.examples[1]]
    assert sorted({scene.whole.id for scene in shown}) == sorted(scene.whole.id for scene in shown) == ["s0", "s1"]
    for scene in shown:
        own = [block.id for block in blocks if block.whole.id == scene.whole.id]
        assert scene.id == max(own, key=lambda name: counts[name][1] / counts[name].sum())


def test_tables_name_whole_scenes_in_place_of_their_blocks(make_scenes):
    catalogue = make_scenes(n_scenes=2, shape=(40, 40))
    blocks = [block for scene in catalogue.scenes for block in split_scene(scene, 10)]
    assert len(blocks) > 24
    far, seen = {blocks[0].id, blocks[3].id}, {"count": 100, "deviation": 1.0, "minimum": 0.0, "maximum": 9.0}
    facts = {
        block.id: tuple(
            {"band": band, "mean": 900.0 if block.id in far else 5.0 + place % 3, **seen} for band in catalogue.bands
        )
        for place, block in enumerate(blocks)
    }
    statistics = {("train", block.id): SceneStatistics(100, (100, 0), facts[block.id]) for block in blocks}
    blocks = tuple(replace(block, group=f"g{place // 2}", fold=0) for place, block in enumerate(blocks))
    blocked = replace(
        catalogue,
        scenes=blocks,
        statistics=statistics,
        histograms=(Histogram("nir", (0.0, 1.0), {"train": (0.0, 1.0, 0.0)}),),
    )
    text = describe_overview(blocked, summarise(blocked))
    assert not [block.id for block in blocks if block.id in text]
    each = len(blocks) // 2
    assert f"{len(blocks)} of {len(blocks)} train blocks without a pixel of kelp:" in text
    assert f"  s0 ({each} blocks), s1 ({each} blocks)" in text
    [(title, names)] = blank_scenes(blocked, summarise(blocked)).values()
    assert (title, names) == (
        f"{len(blocks)} of {len(blocks)} train blocks without a pixel of kelp",
        [f"s0 ({each} blocks)", f"s1 ({each} blocks)"],
    )
    assert "blocks unlike the training scenes, by 6 or more robust z-scores: 2" in text
    rows = rows_of(text)
    assert rows["train s0 (2 blocks)"][0].startswith("mean of")
    assert rows[f"train s0, {each // 2} groups"] == ["2", "s0 (2 blocks)"]


def test_a_large_scene_is_shown_by_a_part_of_it(write_raster, tmp_path, terrablend):
    rng = np.random.default_rng(0)
    for number in range(2):
        label = np.zeros((600, 700), np.uint8)
        label[520:540, 530:560] = 1
        write_raster(f"image/s{number}.tif", rng.integers(1, 200, (3, 600, 700), np.uint8))
        write_raster(f"mask/s{number}.tif", label)
    experiment = {
        "name": "large",
        "task": "binary",
        "root": str(tmp_path),
        "classes": {1: "kelp"},
        "folds": {"count": 2},
        "scenes": {"bands": ["red", "green", "blue"], "train": {"image": "image/{id}.tif", "label": "mask/{id}.tif"}},
        "members": {"lightgbm": {"branch": "trees"}},
    }
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(experiment))
    assert terrablend("check", tmp_path / "large.yaml", "--run", tmp_path / "run", "--workers", 1).code == 0
    catalogue = Catalogue.load(tmp_path / "run" / "catalogue.parquet")
    album = draw_album(catalogue, summarise(catalogue), None, untracked)
    assert all(shot.part for shot in album.examples[1])
    assert "a part of it" in (tmp_path / "run" / "check.html").read_text("utf-8")


def test_pictures_of_one_scene_share_what_they_read(make_scenes, monkeypatch):
    catalogue, read = make_scenes(LAND, n_scenes=2, shape=(520, 600)), []
    counted = pictures.read_label
    monkeypatch.setattr(pictures, "read_label", lambda *given: read.append(given[0].id) or counted(*given))
    album = draw_album(catalogue, summarise(catalogue), None, untracked)
    drawn = [shot.scene.id for shots in album.examples for shot in shots]
    # Four windows to find the one with most of each class in, and that one for each picture.
    assert sorted(read) == sorted(["s0", "s1"] * 4 + drawn)
    for label, shots in enumerate(album.examples):
        assert len(shots) == 2, label
        assert all(shot.part and shot.overlay and shot.photo for shot in shots)


def test_thousands_of_scenes_make_a_page_of_a_few_megabytes(make_scenes, write_raster, tmp_path):
    catalogue = make_scenes(n_scenes=2, shape=(180, 180))
    rng = np.random.default_rng(0)
    bands = tuple(f"b{number}" for number in range(12))
    image = ImageFile(str(write_raster("noise.tif", rng.integers(0, 255, (12, 180, 180), np.uint8))), bands)
    scenes, statistics = [], {}
    for number in range(5_000):
        split = "train" if number < 4_000 else "test"
        facts = tuple(
            {
                "band": band,
                "count": 900,
                "mean": rng.standard_t(2),
                "deviation": rng.gamma(2),
                "minimum": 0,
                "maximum": 9,
            }
            for band in bands
        )
        like = catalogue.scenes[number % 2]
        scene = replace(
            like, images=(image,), id=f"scene_{number:05}_with_a_long_name", split=split, group=f"g{number // 40}"
        )
        scenes.append(scene if split == "train" else replace(scene, fold=None, label=None))
        counts = (900, int(number % 3 > 0)) if split == "train" else ()
        statistics[split, scene.id] = SceneStatistics(int(rng.integers(500, 900)), counts, facts)
    edges = tuple(range(49))
    histograms = tuple(Histogram(band, edges, {"train": (0.02,) * 50, "test": (0.02,) * 50}) for band in bands)
    large = Catalogue(catalogue.classes, bands, tuple(scenes), statistics, histograms)
    assert len(summarise(large).outliers) > 100
    assert len(page_of(large, tmp_path).encode()) < 3_000_000
    assert len(describe_overview(large, summarise(large)).splitlines()) < 80


def test_a_broken_band_is_shown_beside_the_scene_that_stands_out_by_it(small_coast, tmp_path, terrablend):
    [image, *_] = sorted((small_coast.parent / "test").glob("*.tif"))
    with maybe_ungeoreferenced(), rasterio.open(image, "r+") as raster:
        nir = raster.read(2)
        raster.write(np.where(nir == -32768, nir, 30_000).astype(nir.dtype), 2)
    outcome = terrablend("check", small_coast, "--run", tmp_path / "run", "--workers", 1)
    assert outcome.code == 0, outcome.err
    name = image.name.removesuffix("_satellite.tif")
    assert rows_of(outcome.out)[f"test {name}"][0] == "mean of nir"
    catalogue = Catalogue.load(tmp_path / "run" / "catalogue.parquet")
    album = draw_album(catalogue, summarise(catalogue), None, untracked)
    assert album.outliers[0].scene.id == name
    assert album.outliers[0].band.startswith("data:image/jpeg")
    assert not album.groups[0][0].band


@pytest.mark.parametrize(("classes", "shown"), [(KELP, ["kelp"]), (LAND, ["water", "rock", "kelp"])])
def test_the_page_shows_how_much_annotators_agree_on_each_class(make_scenes, tmp_path, classes, shown):
    catalogue = make_scenes(classes, n_scenes=2)
    assert "Agreement of annotators" not in page_of(catalogue, tmp_path)
    pairs = np.diag([6, 1, 1])[: len(classes.label_names), : len(classes.label_names)]
    pairs[0, 1] = pairs[1, 0] = 1
    known = catalogue.statistics["train", "s0"]
    statistics = {**catalogue.statistics, ("train", "s0"): replace(known, pairs=tuple(pairs.ravel().tolist()))}
    page = page_of(replace(catalogue, statistics=statistics), tmp_path)
    rows = re.findall(r"kappa of (\w+)</td>((?:<td class=\"n\">[\d.]+</td>)+)", page)
    assert [name for name, _ in rows] == shown
    share, kappas = agreement(pairs)
    wanted = dict(zip(classes.label_names, kappas, strict=True))
    for name, cells in rows:
        # Of the training scenes, and of the fold with the one that has several annotators.
        assert re.findall(r"[\d.]+", cells.replace('"n"', "")) == [f"{wanted[name]:.2f}"] * 2
    assert f'<td>pixels alike</td><td class="n">{format_percent(share)}' in page
