import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def cells_of(path):
    return json.loads(path.read_text("utf-8"))["cells"]


@pytest.fixture
def run_notebook(tmp_path, monkeypatch):
    """Return a function that runs every cell of a notebook in an empty folder, and returns the names it made."""
    monkeypatch.chdir(tmp_path)

    def run(name):
        names = {}
        for cell in cells_of(ROOT / "examples" / f"{name}.ipynb"):
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
        return names

    return run


def test_from_chips_to_a_map(run_notebook):
    names = run_notebook("chips")
    assert names["run"].ensemble.score_ > 0.9
    assert set(np.unique(names["mapped"])) == {0, 1}


def test_from_a_scene_and_polygons_to_a_map(run_notebook):
    names = run_notebook("scene_and_polygons")
    assert (names["mapped"] == names["truth"]).mean() > 0.95
    assert names["run"].path.name == "fields"


def test_from_probabilities_to_a_decision(run_notebook):
    names = run_notebook("probabilities")
    assert names["decision"].score_ > 0.5
    assert names["again"] == names["decision"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_executed_and_shown_on_the_site(path):
    spec = importlib.util.spec_from_file_location("pages", ROOT / "examples" / "pages.py")
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    code = [cell for cell in cells_of(path) if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert sum(bool(cell["outputs"]) for cell in code) >= 3
    assert not re.search(r"/(tmp|home|root|work)/", json.dumps(code))
    page = pages.page_of(path)
    assert page.count("```python\n") == len(code)
    for link in re.findall(r"\]\((?!data:|https?:)([^)#]+)", page):
        assert (ROOT / "docs" / "examples" / link).resolve().exists(), link
    assert path.stat().st_size < 300_000


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS} == {"chips", "probabilities", "scene_and_polygons"}
