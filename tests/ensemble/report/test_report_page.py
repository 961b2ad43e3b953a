"""The report in a browser: what is moved there shows the numbers that Python computes."""

import json
import re
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
import pytest

from data.maps.geotiff import NODATA, TOP
from data.metrics.metric import CLASS_METRICS
from data.pages.numbers import format_count, format_number
from ensemble.decide.decision.decision import calibrate
from ensemble.maps import open_maps
from ensemble.report.gallery_section import FIRST
from ensemble.report.score_counts import JointCounts, ScoreCounts, count_joint, truth_of

from ..conftest import KELP, LAND

READ = """
const read = (card) => Object.fromEntries(
  [...card.querySelectorAll("[data-is]")].map((one) => [one.dataset.is, one.textContent]));
const move = (input, value) => { input.value = value; input.dispatchEvent(new Event("input")); };
"""
SWEEP = (
    READ
    + """
return [...document.querySelectorAll(".explorer")].map((card) => {
  const threshold = card.querySelector("[name=threshold]"), weight = card.querySelector("[name=weight]");
  const at = () => {
    const found = [];
    for (let edge = 0; edge <= Number(threshold.max); edge += 16) {
      move(threshold, edge);
      found.push([edge, read(card)]);
    }
    return found;
  };
  const start = read(card), used = at();
  const others = [0, 35, 100].map((share) => { move(weight, share); return [share, at()]; });
  card.querySelector("button").click();
  return { start, used, others, back: read(card), title: threshold.getAttribute("aria-valuetext") };
});
"""
)
NAMES = ("precision", "recall", "dice", "iou")


def data_of(page):
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', page)[1])


def counted(hits, false, own):
    """Return what the page should say, by the metrics of confusion counts."""
    counts = np.array([[0, false, 0], [own - hits, hits, 0]])
    told = {name: rounded(float(CLASS_METRICS[name].score(counts)[1])) for name in NAMES}
    pixels = {"hits": hits, "false": false, "missed": own - hits, "mapped": hits + false}
    return told | {f"{name}-px": format_count(count) for name, count in pixels.items()}


def rounded(score):
    """Write a score with four decimals as browsers do, who round a half up where Python takes the even neighbour."""
    return (
        str(Decimal(score).quantize(Decimal("0.0001"), ROUND_HALF_UP)) if np.isfinite(score) else format_number(score)
    )


def gather(catalogue, directories, ensemble):
    """Return every pixel's used probability, its members' and its label, from the files."""
    maps = open_maps(directories, catalogue.classes)
    stored = [maps.read(scene) for scene in catalogue.scenes]
    proba = [ensemble.decision.proba(one) for one in stored]
    after = [calibrate(ensemble.decision.calibrations, one) for one in stored]
    exclusive = catalogue.classes.exclusive
    truths = [truth_of(maps.label(scene), len(proba[0]), exclusive) for scene in catalogue.scenes]

    def flat(parts):
        return np.concatenate([part.reshape(*part.shape[:-2], -1) for part in parts], axis=-1)

    own, labelled = (flat([truth[part] for truth in truths]) for part in (0, 1))
    return flat(proba), flat(after), own, labelled


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_sliders_show_exactly_what_python_computes(report, browse, make_catalogue, tmp_path, classes):
    catalogue = make_catalogue(classes)
    page, ensemble = report(catalogue, a=(3, 0, 0), b=(3, 1, 1))
    edges = np.array(data_of(page)["edges"])
    proba, after, own, labelled = gather(catalogue, {name: tmp_path / name for name in "ab"}, ensemble)
    joint = JointCounts(count_joint(after[0], after[1], own, labelled))
    cards = browse(tmp_path / "report.html", SWEEP)
    assert len(cards) == len(proba)
    for place, card in enumerate(cards):
        for edge, told in card["used"]:
            said = (proba[place] != NODATA) & (proba[place] >= edges[edge]) & labelled[place]
            positives = own[place] & labelled[place]
            expected = counted(int(np.sum(said & own[place])), int(np.sum(said & ~own[place])), int(positives.sum()))
            assert told.items() >= expected.items(), (place, edge)
            assert told["threshold"] == format_number(edges[edge] / TOP)
        assert len({json.dumps(told) for _, told in card["used"]}) > 20
        for share, swept in card["others"]:
            blended: ScoreCounts = joint.blend(share / 100, edges)
            hits, false = blended.cumulate()
            for edge, told in swept:
                expected = counted(int(hits[place, edge]), int(false[place, edge]), int(blended.pixels[place, 1]))
                assert told.items() >= expected.items(), (place, share, edge)
                assert told["second"] == format_number(share / 100, 2)
        assert card["back"] == card["start"]
        assert card["title"] == card["start"]["threshold"]


def test_the_explorer_starts_at_what_was_chosen_and_tells_its_scores_without_a_script(report, make_catalogue):
    page, ensemble = report(make_catalogue(), a=(3, 0, 0), b=(3, 1, 1))
    told = data_of(page)
    start = int(re.search(r'name="threshold"[^>]* value="(\d+)"', page)[1])
    assert format_number(told["edges"][start] / TOP) == format_number(ensemble.thresholds_[0])
    (facts,) = told["classes"]
    expected = counted(facts["hits"][start], facts["false"][start], facts["positives"])
    for name, text in expected.items():
        assert re.search(rf'data-is="{name}">{re.escape(text)}<', page), name


def test_scenes_are_found_by_name_class_and_fold_and_turned_around(report, browse, make_catalogue, tmp_path):
    page, _ = report(make_catalogue(n_scenes=15), a=(3, 0), b=(2, 1))
    order = re.findall(r"<figcaption><b>(s\d+)</b>", page)
    assert len(order) == 15
    found = browse(
        tmp_path / "report.html",
        READ
        + """
        const form = document.querySelector(".sieve"), more = document.getElementById("more");
        const names = () => document.querySelectorAll("#gallery figure:not([hidden]) b");
        const shown = () => [...names()].map((one) => one.textContent);
        const states = { first: shown(), button: more.textContent };
        more.click();
        states.all = shown();
        move(form.elements.order, "best");
        more.click();
        states.best = shown();
        move(form.elements.text, "S1");
        more.click();
        states.found = shown();
        states.said = form.querySelector("output").textContent;
        move(form.elements.text, "");
        move(form.elements.fold, "2");
        more.click();
        states.fold = shown();
        return states;
        """,
    )
    assert found["first"] == order[:FIRST]
    assert found["button"] == f"Show {15 - FIRST} more"
    assert found["all"] == order
    assert found["best"] == order[::-1]
    assert set(found["found"]) == {"s1", *(f"s{number}" for number in range(10, 15))}
    assert found["said"] == "6 of 15"
    assert set(found["fold"]) == {f"s{number}" for number in range(2, 15, 3)}


@pytest.mark.parametrize("classes", [KELP, LAND])
def test_nothing_is_wider_than_a_phone_but_tables_that_scroll(report, browse, make_catalogue, tmp_path, classes):
    report(make_catalogue(classes), a=(3, 0, 0), a_member_with_a_rather_long_name=(3, 1, 1))
    wide = browse(
        tmp_path / "report.html",
        """
        const phone = document.createElement("iframe");
        phone.style.cssText = "width: 380px; height: 800px; border: 0";
        document.body.append(phone);
        const page = phone.contentDocument;
        page.write(document.documentElement.outerHTML.replaceAll(/<(\\/?)script/g, "<$1template"));
        page.close();
        page.querySelectorAll("details").forEach((folded) => { folded.open = true; });
        const wide = [...page.querySelectorAll("main *, .cover")].filter(
          (one) => one.getBoundingClientRect().right > 380.5 && !one.closest(".wide") && !one.closest("svg"));
        const told = wide.map((one) => one.outerHTML.slice(0, 80));
        return [phone.contentWindow.innerWidth, page.documentElement.scrollWidth, told];
        """,
    )
    assert wide == [380, 380, []]


def test_a_member_alone_has_no_weight_to_move(report, browse, make_catalogue, tmp_path):
    page, _ = report(make_catalogue(), only=(3, 0))
    assert 'name="weight"' not in page
    moved = browse(
        tmp_path / "report.html",
        READ
        + """
        const card = document.querySelector(".explorer");
        move(card.querySelector("[name=threshold]"), 0);
        return read(card);
        """,
    )
    assert moved["recall"] == "1.0000"
