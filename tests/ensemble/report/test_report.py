import base64
import html
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from PIL import Image

from data.pages.numbers import format_count
from data.pages.quicklook import ERROR_COLORS, richest_window
from data.scenes.rasters import maybe_ungeoreferenced
from data.scenes.windows import Grid, Window
from ensemble.decide.decision.blend import Blend
from ensemble.decide.decision.calibration import Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.fitted import fit_and_measure
from ensemble.maps import MemberFolder, open_maps
from ensemble.report.page import SECTIONS, write_report
from ensemble.report.section import ReportSource, RunFacts
from ensemble.report.thumbnails import draw_thumbnails
from features.description import ColumnFacts, TableFacts

from ..conftest import KELP, LAND, SETTINGS, quicklook


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGBA"))


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_the_report_is_one_small_file_that_asks_nothing_of_the_network(report, make_catalogue, classes):
    page, _ = report(make_catalogue(classes), a=(3, 0, 0), b=(3, 1, 1))
    text = re.sub(r"base64,[\w+/=]+", "", page)
    assert not re.search(r"https?:|//[a-z]|<script src|<link|@import|url\(| on[a-z]+=|eval\(|import\(|fetch\(", text)
    assert len(page) < 3_000_000
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert ">nan" not in page


def test_the_verdict_comes_first_and_the_chosen_candidate_is_marked(report, make_catalogue):
    page, ensemble = report(make_catalogue(), a=(4, 0), noise=(0, 1))
    assert page.index("noise adds nothing here") < page.index("<table")
    assert re.search(r'<tr class="final">\s*<td>blend<span class="used">used', page)
    assert re.search(r"<li>(no gain of )?noise .*left out", page)
    assert re.search(r"<li>a is worth \+0", page) or ensemble.used == ("a",)
    assert f"{ensemble.score_:.3f}" in page


def test_a_member_alone_is_not_compared_with_itself(report, make_catalogue):
    page, _ = report(make_catalogue(), only=(3, 0))
    assert "gain of" not in page
    assert page.count(">used</span>") == 1
    assert "<dt>member</dt>" in page
    assert "weight of" not in page
    assert "<tr><td>only</td>" not in page or "calibrated</th>" in page


def test_scenes_come_before_statistics_which_are_folded(report, make_catalogue, browse, tmp_path):
    page, _ = report(make_catalogue(), a=(4, 0), b=(1, 1))
    assert (
        page.index('<section id="scenes">') < page.index('<section id="train">') < page.index('<details class="whole">')
    )
    assert re.search(r'<details class="whole">\s*<summary><h2>Fold by fold</h2>', page)
    opened = browse(
        tmp_path / "report.html",
        """
        const state = () => [...document.querySelectorAll(".whole")].map((one) => one.open);
        const before = state();
        document.querySelector('.contents a[href="#folds"]').click();
        return [before, document.querySelector("#folds .whole").open, state().filter(Boolean).length];
        """,
    )
    assert not any(opened[0])
    assert opened[1:] == [True, 1]


def test_what_has_no_prediction_is_told_beside_the_scores(report, make_catalogue):
    told = "of the labelled pixels have no prediction, as where a scene has no data. They count as missed"
    assert told not in report(make_catalogue(), a=(4, 0))[0]
    page, _ = report(make_catalogue(), a=(4, 0, None, 0, 6))
    blank = (6 * 31 - 4) / (24 * 31 - 4)
    assert f"{100 * blank:.0f}% {told}" in page
    assert f"accuracy can reach {100 * (1 - blank):.0f}% at most" in page


def test_scores_without_an_interval_are_shown_without_one(report, make_catalogue):
    train, val = make_catalogue(), make_catalogue(n_scenes=1, split="val")
    both = replace(train, scenes=train.scenes + val.scenes, statistics=train.statistics | val.statistics)
    page, _ = report(both, a=(3, 0), b=(2.5, 1))
    assert "<h2>Validation split</h2>" in page
    assert "No interval is given for background, kelp and what is averaged over them" in page
    assert "nan" not in page
    assert "nan" not in re.sub(r"base64,[\w+/=]+", "", page)


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_the_best_features_are_shown_with_the_side_their_class_lies_on(report, make_catalogue, classes):
    names = classes.label_names
    columns = [
        ColumnFacts(f"column{number}", "band", f"definition {number}", 0, "", 0.25, (1.0, 2.0, 3.0, 4.0, 5.0), auc)
        for number, auc in enumerate([(0.5, 0.5), (0.9, 0.1), *[(0.4, 0.6)] * 28])
    ]
    columns = [replace(column, auc=(*column.auc, *[float("nan")] * (len(names) - 2))) for column in columns]
    facts = TableFacts(100, names, tuple(columns), (("column1", "column2", 0.97), ("column1", "column3", 0.0)))
    page, _ = report(make_catalogue(classes), features=facts, good=(3, 0, 0))
    shown = re.findall(r"<tr><td>(column\d+)</td>", page)
    assert shown[0] == "column1"
    assert "column0" not in shown
    assert len(shown) == 24
    assert "The best 24 of 30" in page
    color = "".join(f"{part:02x}" for part in classes.label_colors[1])
    assert f"left: 10.00%; width: 40.00%; --own: #{color}" in page
    assert "column1 and column2, 0.970" in page
    assert "column1 and column3" not in page
    assert "<h2>Features</h2>" not in report(make_catalogue(classes), good=(3, 0, 0))[0]


def test_errors_are_drawn_as_hit_miss_false_alarm_and_nothing_where_all_is_right(make_catalogue, make_members):
    catalogue = make_catalogue()
    maps = open_maps(make_members(catalogue, a=(1, 0)), catalogue.classes)
    decision = Decision((Calibration(),), Blend(((1.0,),)), (0.5,))
    pictures = draw_thumbnails([(catalogue.scenes[0], decision)], maps, KELP, quicklook, 256)
    assert len(pictures) == 5
    _, label, _, shown, errors = map(decode, pictures)
    is_kelp, said_kelp = [(picture[..., :3] == KELP.colors[0]).all(axis=-1) for picture in (label, shown)]
    for name, where in (("hit", is_kelp & said_kelp), ("miss", is_kelp & ~said_kelp)):
        assert where.any()
        assert (errors[where] == (*ERROR_COLORS[name], 255)).all()
    ignored = np.zeros(label.shape[:2], bool)
    ignored[0, :4] = True
    false = ~is_kelp & said_kelp & ~ignored
    assert (errors[false] == (*ERROR_COLORS["false alarm"], 255)).all()
    assert (errors[ignored] == (*ERROR_COLORS["unknown"], 255)).all()
    assert (errors[~is_kelp & ~said_kelp & ~ignored][:, 3] == 0).all()


def test_of_a_large_scene_the_part_with_most_of_the_rarer_labels_is_shown(make_catalogue, write_raster):
    scene = make_catalogue().scenes[0]
    assert richest_window(scene, 512) == Window(0, 0, 24, 31)
    label = np.zeros((24, 31), np.uint8)
    label[13, 21] = 1
    large = replace(scene, label=replace(scene.label, path=str(write_raster("large.tif", label))), grid=Grid(24, 31))
    assert richest_window(large, 10) == Window(10, 20, 10, 10)


def _invent(scene):
    """Label a square of a scene as what it is not."""
    with maybe_ungeoreferenced(), rasterio.open(scene.label.path, "r+") as raster:
        label = raster.read(1)
        label[4:11, 4:11] = np.where(label[4:11, 4:11] == 1, 0, 1)
        raster.write(label, 1)


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_a_run_s_report_tells_of_parts_areas_choices_and_labels(make_catalogue, make_members, tmp_path, classes):
    catalogue = make_catalogue(classes)
    directories, branches = make_members(catalogue, a=(3, 0, 0), b=(3, 1, 1)), {"a": "trees", "b": "cnn"}
    _invent(catalogue.scenes[0])
    members = {name: MemberFolder(path, branches[name]) for name, path in directories.items()}
    fitted = fit_and_measure(members, catalogue, SETTINGS, seed=0)
    run = RunFacts("coast", quicklook)
    maps = open_maps(directories, classes)
    write_report(tmp_path / "report.html", ReportSource(fitted, run, maps, catalogue, SETTINGS))
    page = (tmp_path / "report.html").read_text("utf-8")
    keys = [section.key for section in SECTIONS if f'"#{section.key}"' in page]
    assert re.findall(r'<section id="(\w+)">', page) == keys, "the page is its sections, in their order"
    for anchor, title in re.findall(r'<a href="#(\w+)">([^<]+)</a>', page):
        assert page.count(f'<section id="{anchor}">') == 1, title
    assert {"areas", "thresholds", "audit", "scenes"} <= set(re.findall(r'<section id="(\w+)">', page))
    for ablation in fitted.ablations:
        assert re.search(rf"<td>{ablation.name}</td>", page)
        assert html.escape(ablation.verdict) in page
    assert f"<summary>members: <b>{fitted.ensemble.choices_['members'].name}</b>" in page
    assert len(fitted.ensemble.worths_) == 2
    for worth in fitted.ensemble.worths_:
        assert f"<li>{worth.words(SETTINGS.confidence_level)}</li>" in page
    part = page[page.index('<section id="audit">') : page.index('<section id="thresholds">')]
    assert part.count("<figure>") == min(len(fitted.audit.regions), 20) > 0
    assert f"<b>1. {fitted.audit.regions[0].scene}</b>" in part
    part = page[page.index('<section id="areas">') : page.index('<section id="audit">')]
    for area in fitted.areas["train"].area:
        assert format_count(area.value) in part
    assert "nan" not in re.sub(r"base64,[\w+/=]+", "", page)
