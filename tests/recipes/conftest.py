"""A recipe followed as its page says, and what must hold of every run of one."""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest
import rasterio

from data.scenes.catalogue import Catalogue
from data.scenes.rasters import maybe_ungeoreferenced

from ..terrablend.conftest import Command, terrablend

__all__ = ["terrablend"]

STAGES = ("check", "features", "trees", "cnn", "explain", "ensemble", "submit")


@pytest.fixture
def follow(terrablend: Command, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that goes from a download to a submission, command by command, and returns the run folder."""

    def run(recipe: str, download: Path, *settings: str) -> Path:
        file, folder = tmp_path / f"{recipe}.yaml", tmp_path / "run"
        options = [word for setting in (*settings, "ensemble.sample=10000") for word in ("--set", setting)]
        outcome = terrablend("init", download, "--recipe", recipe, "-o", file)
        assert outcome.code == 0, outcome.err
        for stage in STAGES:
            outcome = terrablend(stage, file, "--run", folder, "--workers", 1, *options)
            assert outcome.code == 0, outcome.err
        for page in ("check.html", "ensemble/report.html"):
            assert "</html>" in (folder / page).read_text("utf-8")
        return folder

    return run


def require_no_leak(run: Path, places: Mapping[str, str]) -> Catalogue:
    """Check that a place, by scene, is in one fold alone and no map has seen it; return the scenes."""
    catalogue = Catalogue.load(run / "catalogue.parquet")
    scenes = catalogue.split("train")
    folds: dict[str, set[int]] = {}
    for scene in scenes:
        assert scene.fold is not None
        folds.setdefault(places[scene.id], set()).add(scene.fold)
    assert all(len(found) == 1 for found in folds.values())
    assert {fold for found in folds.values() for fold in found} == {0, 1}
    assert f"none of the {len(folds)} groups is split" in (run / "folds.txt").read_text()
    for path in run.glob("members/*/oof/*.tif"):
        with maybe_ungeoreferenced(), rasterio.open(path) as raster:
            assert {int(fold) for fold in raster.tags()["folds"].split(",")} == folds[places[path.stem]]
    return catalogue


def nested_score(run: Path, metric: str, candidate: str = "blend", scope: str = "pooled") -> float:
    """Return a score of the blend, or of a member, on scenes that had no say in it."""
    scores = pl.read_parquet(run / "ensemble" / "scores.parquet")
    [value] = scores.filter(split="train", candidate=candidate, scope=scope, label="", metric=metric)["value"]
    return float(value)
