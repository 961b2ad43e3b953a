"""A small version of benchmarks/trust.py: the cheap cells, of few worlds."""

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

PATH = Path(__file__).parents[1] / "benchmarks/trust.py"


@pytest.fixture(scope="module")
def trust():
    sys.path.insert(0, str(PATH.parent))
    spec = importlib.util.spec_from_file_location("trust", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["trust"] = module
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(PATH.parent))
    for name in [name for name in sys.modules if name == "trust" or name.startswith("trust_")]:
        sys.modules.pop(name)


@pytest.fixture(scope="module")
def populations(trust):
    names = ("Dice", "Dice, rare and uneven")
    return {name: trust.Population.of(trust.WORLDS[name], 0, scenes=400) for name in names}


def missed(cells):
    return [cell.line for cell in cells if not cell.met]


def test_intervals_of_scores_and_gains_cover(trust, populations):
    assert not missed(trust.score_cells(populations, 25, 0, groups=(6, 30)))


def test_intervals_of_areas_cover(trust, populations):
    assert not missed(trust.area_cells(populations, 40, 0, groups=(12,), scenes=(5, 30)))


def test_intervals_of_points_cover(trust):
    assert not missed(trust.design_cells(10, 0))


def test_intervals_of_points_and_probabilities_cover(trust):
    assert not missed(trust.assisted_cells(8, 0))


def test_promises_are_kept(trust):
    assert not missed(trust.promise_cells(8, 0, scenes=200))


def test_prediction_sets_hold_what_they_say(trust):
    assert not missed(trust.set_cells(8, 0, scenes=200))


def test_plots_draw_every_cell_that_has_a_place_in_one(trust, tmp_path):
    line = [
        trust.Cell("a", found, 0.01, (0.92, 0.98), series="Dice <2 %", at=at) for at, found in ((6, 0.9), (30, 0.95))
    ]
    bars = [
        trust.Cell("b", 0, 0, (0, 1), kind=kind, row=row, values={"old": 0.5, "new": 0.7})
        for kind in ("threshold", "audit")
        for row in ("one", "two")
    ]
    trust.write_plots([*line, *bars], tmp_path)
    drawn = {path.name: ElementTree.parse(path).getroot() for path in tmp_path.iterdir()}
    name = "{http://www.w3.org/2000/svg}"
    assert len(drawn["trust_coverage.svg"].findall(f"{name}circle")) == 2
    for plot in ("trust_thresholds.svg", "trust_audits.svg"):
        assert len(drawn[plot].findall(f"{name}rect")) == 2 + 4


def test_a_cell_outside_its_goal_by_more_than_two_errors_is_missed(trust):
    assert trust.Cell("a", 0.90, 0.01, (0.92, 0.98)).met
    assert not trust.Cell("a", 0.89, 0.01, (0.92, 0.98)).met
    assert trust.share_cell("b", [True] * 19 + [False], (0.92, 0.98)).met
