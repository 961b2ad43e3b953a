import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from jinja2 import DictLoader, PackageLoader, UndefinedError

from data.pages import page as pages
from data.pages.axis import Axis
from data.pages.page import label_marks, write_page
from data.scenes.classes import Classes
from data.variables import expand_variables

LAND = Classes("multiclass", (0, 4, 7), ("sea", "snow", "night"), ((0, 90, 200), (250, 250, 250), (5, 5, 20)))

TEMPLATE = """{% extends "page.html" %}
{% from "parts.html" import swatch, ticks, confusion_table %}
{% block title %}{{ name }}{% endblock %}
{% block style %}.own { color: red; }{% endblock %}
{% block main %}<p class="own">{{ name }} {{ value | format_number(2, "+") }}
{{ count | format_count }} {{ count | shouted }}</p>
{{ swatch(marks[1]) }}{{ ticks(axis) }}{{ confusion_table(table, marks) }}
<script type="application/json" id="told">{{ told | tojson }}</script>{% endblock %}
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Return a function that writes a page of a template of its own."""
    loaders = {"mine": DictLoader({"mine.html": TEMPLATE}), "data.pages": PackageLoader("data.pages", "")}
    monkeypatch.setattr(pages, "PackageLoader", lambda package, path: loaders[package])

    def write(**values):
        told = {
            "name": "<coast>",
            "value": 0.5,
            "count": 12345,
            "marks": label_marks(LAND),
            "told": {"a": "</script>"},
            "axis": Axis.spanning([0, 1]),
            "table": [[(0.5, 1), (0.5, 1), (0.0, 0)]] * 3,
            **values,
        }
        write_page(tmp_path / "page.html", "mine", "mine.html", filters={"shouted": lambda count: f"{count}!"}, **told)
        return (tmp_path / "page.html").read_text("utf-8")

    return write


def test_a_page_holds_its_own_and_the_common_style_and_asks_nothing_of_the_network(written):
    page = written()
    assert page.index("prefers-color-scheme: dark") < page.index(".own { color: red; }") < page.index("</style>")
    assert "&lt;coast&gt; · Terrablend</title>" in page
    assert "+0.50\n12\u202f345 12345!</p>" in page
    assert not re.search(r"https?:|src=|<link|@import|url\(", page)
    assert "{{" not in page
    assert "{%" not in page


def test_what_a_script_reads_cannot_end_the_script(written):
    assert page_data(written()) == '{"a":"\\u003c/script\\u003e"}'


def page_data(page):
    return re.search(r'id="told">(.*?)</script>', page)[1]


def test_a_page_that_lacks_a_value_is_not_written(written, tmp_path):
    with pytest.raises(UndefinedError, match="element 1"):
        written(marks=[None])
    assert not list(tmp_path.iterdir())


def contrast(first, second):
    def luminance(color):
        parts = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_a_class_is_marked_by_its_colour_and_its_id_which_can_be_read_on_it():
    marks = label_marks(LAND)
    assert [(mark.label, mark.id, mark.color) for mark in marks] == [
        ("sea", 0, "#005ac8"),
        ("snow", 4, "#fafafa"),
        ("night", 7, "#050514"),
    ]
    rng = np.random.default_rng(0)
    colors = tuple(tuple(color) for color in rng.integers(0, 256, (200, 3)).tolist())
    many = Classes("multiclass", tuple(range(200)), tuple(f"c{number}" for number in range(200)), colors)
    for mark in label_marks(many):
        assert contrast(mark.ink, mark.color) >= 4.5
        other = {"#000000": "#ffffff", "#ffffff": "#000000"}[mark.ink]
        assert contrast(mark.ink, mark.color) >= contrast(other, mark.color)


@pytest.mark.parametrize("values", [(0.63, 0.81), (-0.03, 0.05), (0.7, 0.7), (0.0, 1.0), (0.70001, 0.70004), (0, 3e6)])
def test_an_axis_holds_its_values_and_a_few_round_ticks(values):
    axis = Axis.spanning([*values, float("nan")])
    assert all(0 < axis.place(value) < 100 for value in values)
    assert 2 <= len(axis.ticks) <= 5
    for at, text in axis.ticks:
        assert "-" not in text
        assert axis.place(float(text.replace("\N{MINUS SIGN}", "-").replace("\u202f", ""))) == pytest.approx(
            at, abs=0.5
        )


def test_whatever_a_page_is_made_of_is_installed_with_its_package():
    root = Path(pages.__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        pytest.skip("needs a checkout")
    setuptools = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    for package in setuptools["packages"]:
        folder = root / package.replace(".", "/")
        listed = {path for pattern in setuptools["package-data"].get(package, ()) for path in folder.glob(pattern)}
        there = {path for kind in ("html", "css", "js") for path in folder.glob(f"*.{kind}")}
        assert there <= listed, package


def test_names_are_text_on_a_page_whatever_they_hold(tmp_path, monkeypatch):
    monkeypatch.setenv("HIDDEN_VALUE", "a<b>&secret")
    expand_variables("${HIDDEN_VALUE}")
    name = "<script>alert(1)</script>"
    rows = [{"name": name, "text": "at a<b>&secret/x"}]
    (tmp_path / "pages").mkdir()
    monkeypatch.setattr(
        "data.pages.page.PackageLoader", lambda *_: DictLoader({"x.html": "{{ rows }}{{ rows | tojson }}"})
    )
    write_page(tmp_path / "x.html", "data.pages", "x.html", rows=rows)
    page = (tmp_path / "x.html").read_text()
    assert "<script>" not in page
    assert "secret" not in page
