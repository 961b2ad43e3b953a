import struct

import numpy as np
import polars as pl
import pytest

from data.errors import MemberError

catboost = pytest.importorskip("catboost")

from trees.boosters import catboost_booster  # noqa: E402
from trees.boosters.catboost_booster import CatBoostBooster  # noqa: E402
from trees.boosters.catboost_model import check_catboost_model  # noqa: E402

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(200, 4)).astype(np.float32)
FEATURES[RNG.random(FEATURES.shape) < 0.1] = np.nan

OPTIONS = {
    "of levels": {"depth": 3},
    "of nodes": {"grow_policy": "Lossguide", "max_leaves": 5},
    "of classes": {"loss_function": "MultiClass", "depth": 2},
    "of nodes and classes": {"loss_function": "MultiClass", "grow_policy": "Depthwise", "depth": 3},
    "of a leaf alone": {"depth": 0},
    "of many borders": {"depth": 3, "border_count": 255},
}


def model_file(path, options, categorical=False):
    label = RNG.integers(0, 3 if "loss_function" in options else 2, len(FEATURES))
    rows = FEATURES
    if categorical:
        last = pl.col("d").fill_nan(0).round().cast(pl.Int32).fill_null(-1)
        rows = pl.DataFrame(FEATURES, schema=list("abcd")).with_columns(last)
    data = catboost.Pool(rows, label, cat_features=["d"] if categorical else None)
    model = catboost.CatBoostClassifier(iterations=4, allow_writing_files=False, logging_level="Silent", **options)
    model.fit(data)
    model.save_model(str(path), format="cbm")
    return path


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_catboost_grows_is_sound(tmp_path, options):
    path = model_file(tmp_path / "fold0.cbm", options)
    assert check_catboost_model(path.read_bytes())
    assert CatBoostBooster.load(path).rounds == 4


def test_tables_of_categories_are_catboosts_alone(tmp_path, monkeypatch):
    path = model_file(tmp_path / "fold0.cbm", {"depth": 3}, categorical=True)
    assert not check_catboost_model(path.read_bytes())
    tried = []
    monkeypatch.setattr(catboost_booster, "_try_alone", tried.append)
    # Kinds are numbers here.
    booster = CatBoostBooster.load(path)
    assert tried == [path]
    assert len(booster.importance()) == 4


@pytest.mark.parametrize("options", [OPTIONS["of levels"], OPTIONS["of nodes"]], ids=["of levels", "of nodes"])
def test_a_model_that_catboost_would_not_survive_never_reaches_it(tmp_path, monkeypatch, options):
    path = model_file(tmp_path / "fold0.cbm", options)
    data = path.read_bytes()
    monkeypatch.setattr(catboost_booster, "open_model", None)
    split, size = struct.pack("<i", 10**6), struct.pack("<i", -3)
    places = [place for place in range(8, len(data) - 4, 4) if data[place : place + 4] == struct.pack("<i", 4)]
    refused = 0
    for place in places:
        # Vectors of an element a tree, their sizes before them.
        for wrong in (split, size):
            copy = data[: place + 4] + wrong + data[place + 8 :]
            try:
                check_catboost_model(copy)
            except (ValueError, struct.error):
                refused += 1
                path.write_bytes(copy)
                with pytest.raises(MemberError, match=r"fold0\.cbm: expected a CatBoost model, got"):
                    CatBoostBooster.load(path)
    assert refused >= 4


def test_a_truncated_model_asks_for_no_memory(tmp_path):
    data = model_file(tmp_path / "fold0.cbm", {"depth": 2}).read_bytes()
    for end in range(0, len(data), 211):
        with pytest.raises((ValueError, IndexError, struct.error)):
            check_catboost_model(data[:end])
