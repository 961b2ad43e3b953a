import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "benchmarks/robustness.py"
MODULE = importlib.util.spec_from_file_location("robustness", PATH)
robustness = sys.modules["robustness"] = importlib.util.module_from_spec(MODULE)
MODULE.loader.exec_module(robustness)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {kind.name: kind for kind in (*robustness.make_files(folder), *robustness.make_models(folder))}


NAMES = ("catalogue", "pixel rows", "tag maps", "column facts", "explanation", "ensemble", "experiment",
         "LightGBM", "XGBoost", "scikit-learn", "boosters of tags", "network")  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_copy_ends_in_a_named_error_or_in_the_same_content(kinds, name):
    ends = list(robustness.judge_copies(kinds[name], 40, seed=0))
    assert [end for end in ends if end[1] not in robustness.CLEAN] == []
    assert "clean" in {end for _, end, _ in ends}


def test_every_kind_of_file_is_damaged(kinds):
    assert tuple(kinds) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if name != "experiment"])
def test_the_error_of_an_empty_file_names_it(kinds, name):
    kind = kinds[name]
    before = kind.path.read_bytes()
    end, text = robustness.judge(kind, "", b"")
    kind.path.write_bytes(before)
    assert end == "clean", text
