import re

import numpy as np
import pytest

from ensemble.report.trees_section import explanation_rows
from features.description import ColumnFacts, TableFacts
from features.explanation import ClassUse, ColumnUse, Dependence, Explanation, Spread, Swarm

from ..conftest import KELP, LAND

NAN = float("nan")


def facts_of(names, labels):
    columns = tuple(
        ColumnFacts(
            name, "index", f"what {name} is", 0, f"Author of {name}", 0.1, (0.0, 1, 2, 3, 4), (0.5,) * len(labels)
        )
        for name in names
    )
    return TableFacts(100, labels, columns, (("c0", "c1", 0.97), ("c0", "c19", 0.96), ("c2", "c3", 0.0)))


def use_of(name, place, has_shap=True):
    rng = np.random.default_rng(place)
    swarm = Swarm(tuple(rng.normal(size=40) / (place + 1)), (NAN, *(np.arange(1, 40) / 40)))
    dependence = Dependence((-1.0, 0.0, 3.0), (0.1, 0.2, 0.4), ((0.1, 0.1, 0.1), (0.1, 0.3, 0.7)))
    return ColumnUse(
        name,
        Spread(0.4 / (place + 1), 0.01),
        Spread(0.02 - 0.002 * place, 0.001),
        Spread(0.05 - 0.005 * place, 0.001),
        1 / (place + 1) if has_shap else NAN,
        swarm if has_shap and place < 15 else None,
        dependence if place < 6 else None,
    )


def explain(classes, has_shap=True, n_columns=20):
    labels = classes.label_names
    names = [f"c{number}" for number in range(n_columns)]
    columns = tuple(use_of(name, place, has_shap) for place, name in enumerate(names))
    orders = (columns, (columns[1], columns[0], *columns[2:]), columns)
    shown = labels[1:] if len(labels) == 2 else labels
    uses = tuple(ClassUse(label, 0.1, NAN, order) for label, order in zip(shown, orders, strict=False))
    return Explanation("lightgbm", 4000, 40, 5, has_shap, uses), facts_of(names, labels)


@pytest.fixture
def shown():
    explanation, facts = explain(KELP)
    (member,) = explanation_rows([explanation], facts)
    return member["classes"][0]


def points_of(path):
    return np.array(re.findall(r"M([\d.]+) ([\d.-]+)h0", path), float)


def test_a_swarm_has_one_dot_a_row_at_its_shap_value_and_none_on_another(shown):
    for place, row in enumerate(shown["rows"]):
        dots = np.concatenate([points_of(path) for _, path in row["swarm"]])
        swarm = row["use"].swarm
        assert len(dots) == len(swarm.shap) == 40
        expected = np.sort([shown["axis"].place(value) for value in swarm.shap])
        np.testing.assert_allclose(np.sort(dots[:, 0]), expected, atol=0.06)
        assert len(np.unique(dots, axis=0)) == 40
        assert 0 <= dots[:, 1].min() < dots[:, 1].max() <= 100, place


def test_dots_are_shaded_from_the_lowest_to_the_highest_value_and_those_without_apart(shown):
    row = shown["rows"][0]
    swarm = row["use"].swarm
    shades = dict(row["swarm"])
    assert set(shades) == {"0", "1", "2", "3", "4", "none"}
    assert len(points_of(shades["none"])) == 1
    assert points_of(shades["none"])[0, 0] == pytest.approx(shown["axis"].place(swarm.shap[0]), abs=0.06)
    highest = [shown["axis"].place(value) for value, rank in zip(swarm.shap, swarm.rank, strict=True) if rank >= 0.8]
    np.testing.assert_allclose(np.sort(points_of(shades["4"])[:, 0]), np.sort(highest), atol=0.06)


def test_bars_are_as_long_as_their_share_of_the_longest_and_gains_by_shuffling_have_none(shown):
    rows = shown["rows"]
    assert len(rows) == 15
    assert [row["gain"] for row in rows[:3]] == [100, 50, 33.3]
    assert rows[0]["log_loss"] == 100
    assert rows[5]["log_loss"] == 50
    assert rows[12]["use"].log_loss.mean < 0
    assert rows[12]["log_loss"] == 0


def test_a_dependence_is_drawn_on_the_scale_of_its_class(shown):
    plot = shown["plots"][0]
    assert len(shown["plots"]) == 6
    assert plot["rug"] == [0, 25, 100]
    for line, curve in ((plot["mean"], (0.1, 0.2, 0.4)), (plot["folds"][1], (0.1, 0.3, 0.7))):
        points = np.array([point.split(",") for point in line.split()], float)
        np.testing.assert_array_equal(points[:, 0], plot["rug"])
        np.testing.assert_allclose(100 - points[:, 1], [shown["height"].place(value) for value in curve], atol=0.01)
    assert shown["height"].high > 0.7


def test_only_columns_that_are_shown_are_named_as_alike():
    explanation, facts = explain(KELP)
    assert explanation_rows([explanation], facts)[0]["alike"] == [("c0", "c1", 0.97)]


@pytest.mark.parametrize("classes", [KELP, LAND])
@pytest.mark.parametrize("has_shap", [True, False])
def test_the_report_shows_how_the_trees_use_the_columns(report, make_catalogue, classes, has_shap):
    explanation, facts = explain(classes, has_shap)
    page, _ = report(make_catalogue(classes), features=facts, explanations=[explanation], good=(3, 0, 0))
    part = page[page.index("<h2>Feature importance</h2>") : page.index("<footer>")]
    several = len(classes.label_names) > 2
    assert part.count('<input type="radio"') == (3 if several else 0)
    assert part.count(" checked>") == (1 if several else 0)
    assert part.count("<article>") == len(explanation.classes)
    assert re.findall(r"<b>(c\d+)</b><span>", part)[:2] == ["c0", "c1"]
    assert "what c0 is [Author of c0]" in part
    assert "15 of 20 columns" in part
    assert part.count('class="swarm"') == (16 * len(explanation.classes) if has_shap else 0)
    assert part.count("<figure>") == 6 * len(explanation.classes)
    assert ("no SHAP values of scikit-learn" in part) != has_shap
    assert "\N{MINUS SIGN}0.050" in part
    assert "nan" not in part.lower().replace("nanometre", "")


def test_without_explanations_the_report_has_no_such_section(report, make_catalogue):
    page, _ = report(make_catalogue(), good=(3, 0))
    assert "Feature importance" not in page
