import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data.quicklook import ERROR_COLORS, telling_window
from data.windows import Grid, Window
from ensemble.axis import Axis
from ensemble.decision import Decision
from ensemble.maps import MemberMaps
from ensemble.thumbnails import draw_thumbnails
from features.description import ColumnFacts, TableFacts

from .conftest import KELP, LAND, quicklook


def decode(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_the_report_is_one_small_file_that_asks_nothing_of_the_network(report, make_catalogue, classes):
    page, _ = report(make_catalogue(classes), a=(3, 0, 0), b=(3, 1, 1))
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", re.sub(r"base64,[\w+/=]+", "", page))
    assert len(page) < 3_000_000
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    assert ">nan" not in page


def test_the_verdict_comes_first_and_the_chosen_candidate_is_marked(report, make_catalogue):
    page, ensemble = report(make_catalogue(), a=(4, 0), noise=(0, 1))
    assert page.index("noise adds nothing here") < page.index("<table")
    assert re.search(r'<tr class="final">\s*<td>a<span class="used">used', page)
    assert f"{ensemble.score_:.3f}" in page


def test_a_member_alone_is_not_compared_with_itself(report, make_catalogue):
    page, _ = report(make_catalogue(), only=(3, 0))
    assert "the blend gains" not in page
    assert page.count(">used</span>") == 1


def test_scores_without_an_interval_are_shown_without_one(report, make_catalogue):
    train, val = make_catalogue(), make_catalogue(n_scenes=1, split="val")
    both = replace(train, scenes=train.scenes + val.scenes, statistics=train.statistics | val.statistics)
    page, _ = report(both, a=(3, 0), b=(2.5, 1))
    assert "On the validation split" in page
    assert "– to –" in page
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
    assert f"left: 10.00%; width: 40.00%; background: #{color}" in page
    assert "column1 and column2, 0.970" in page
    assert "column1 and column3" not in page
    assert "<h2>Features</h2>" not in report(make_catalogue(classes), good=(3, 0, 0))[0]


@pytest.mark.parametrize("values", [(0.63, 0.81), (-0.03, 0.05), (0.7, 0.7), (0.0, 1.0), (0.70001, 0.70004)])
def test_an_axis_holds_its_values_and_a_few_round_ticks(values):
    axis = Axis.spanning([*values, float("nan")])
    assert all(0 < axis.place(value) < 100 for value in values)
    assert 2 <= len(axis.ticks) <= 5
    for at, text in axis.ticks:
        assert "-" not in text
        assert axis.place(float(text.replace("\N{MINUS SIGN}", "-"))) == pytest.approx(at, abs=0.5)


def test_errors_are_drawn_as_hit_miss_false_alarm_and_nothing_where_all_is_right(make_catalogue, make_members):
    catalogue = make_catalogue()
    maps = MemberMaps(make_members(catalogue, a=(1, 0)))
    decision = Decision((1.0,), (0.5,))
    pictures = draw_thumbnails(catalogue.scenes[0], maps, decision, KELP, quicklook)
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
    assert telling_window(scene, 512) == Window(0, 0, 24, 31)
    label = np.zeros((24, 31), np.uint8)
    label[13, 21] = 1
    large = replace(scene, label=replace(scene.label, path=str(write_raster("large.tif", label))), grid=Grid(24, 31))
    assert telling_window(large, 10) == Window(10, 20, 10, 10)
