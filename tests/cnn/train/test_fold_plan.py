from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn import load_member
from cnn.crops.crops import SceneStore
from cnn.inputs.settings import AugmentSettings
from cnn.network.model_file import read_about
from cnn.settings import CnnSettings
from cnn.train.fold_plan import build_crops, fit_normalisations, target_labels
from data.errors import MemberError
from data.progress import untracked
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene
from features.feature_set import FeatureSet

from ..conftest import fit_member

OPTIONS: dict[str, Any] = {"seed": 3, "threads": 1, "device": "cpu", "folds": [0]}


def proba_of(directory: Path, scene: Scene) -> np.ndarray:
    member = load_member(directory, device="cpu")
    return np.concatenate([proba for _, _, proba in member.predict([scene], [0])], axis=1)


EVERYTHING = {
    "loss": "0.3 bce + 0.4 tversky + 0.2 lovasz + .01 boundary",
    "class_weights": "balanced",
    "region_weights": {"background": 0.3},
    "label_smoothing": 0.1,
    "scene_weights": {"has_bright": 2, "nir_mean": 1.5},
    "normalise": {"by": "quantile", "low": 0.01, "high": 0.99, "clip": 1.2},
    "augment": AugmentSettings(
        rotate=180,
        scale=1.5,
        brightness=0.3,
        contrast=0.2,
        noise=0.2,
        blur=1,
        band_dropout=0.3,
        coarse_dropout=3,
        mixup=0.3,
        cutmix=1,
    ),
    "resize": 1.5,
}


def test_with_everything_switched_on_the_same_seed_gives_the_same_bytes(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    settings = CnnSettings(**{**tiny.model_dump(), **EVERYTHING})
    for name in ("one", "two"):
        fit_member("net", settings, catalogue, tmp_path / name, **OPTIONS)
    one, two = ((tmp_path / name / "fold0.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two
    scene = catalogue.split("test")[0]
    assert proba_of(tmp_path / "one", scene).shape == (1, scene.grid.height, scene.grid.width)


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "jaccard"},
        {"class_weights": {"bright": 3}},
        {"region_weights": {"background": 1}},
        {"label_smoothing": 0.1},
        {"augment": {"noise": 0.1}},
        {"augment": {"flips": False}},
        {"resize": 2},
        {"normalise": "minmax"},
        {"scene_weights": {"bright_share": 9}},
    ],
)
def test_every_setting_changes_what_is_learned(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, change: dict[str, Any]
) -> None:
    settings = tiny.model_copy(update={"epochs": 1, "steps": 1})
    weights = []
    for name, values in (("plain", {}), ("changed", change)):
        fit_member("net", CnnSettings(**{**settings.model_dump(), **values}), catalogue, tmp_path / name, **OPTIONS)
        stored = (tmp_path / name / "fold0.safetensors").read_bytes()
        weights.append(stored[8 + int.from_bytes(stored[:8], "little") :])
    assert weights[0] != weights[1]


def test_scenes_normalised_by_themselves_look_the_same_however_bright_they_are(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, make_scene: Callable[..., Scene]
) -> None:
    settings = CnnSettings(**{**tiny.model_dump(), "normalise": {"per_scene": True}})
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    assert read_about(tmp_path / "fold0.safetensors")["normalisation"] is None
    dark = proba_of(tmp_path, make_scene("any"))
    bright = proba_of(tmp_path, make_scene("any", shift=300.0))
    np.testing.assert_allclose(dark, bright, atol=1e-3)
    plain = tmp_path / "plain"
    fit_member("net", tiny, catalogue, plain, **OPTIONS)
    other = proba_of(plain, make_scene("any")), proba_of(plain, make_scene("any", shift=300.0))
    assert np.nanmax(np.abs(other[0] - other[1])) > 1e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_weights": {"brite": 2}}, r"class_weights: .* got brite\. Nearest: bright"),
        ({"crop_weights": {"background": 2}}, "crop_weights: expected names among bright, got background"),
        ({"scene_weights": {"has_brite": 2}}, r"got has_brite\. Nearest: has_bright"),
        ({"normalise": {"by": "fixed", "scale": {"rad": 2}}}, r"normalise\.scale: .* got rad\. Nearest: red"),
    ],
)
def test_unknown_names_are_refused_before_any_scene_is_read(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    read: list[str] = []

    def track(items: Any, what: str, total: int) -> Any:
        read.append(what)
        return untracked(items, what, total)

    settings = CnnSettings(**{**tiny.model_dump(), **change})
    with pytest.raises(MemberError, match=message):
        fit_member("net", settings, catalogue, tmp_path, **OPTIONS, track=track)
    assert not read


def test_an_epoch_shows_the_area_of_the_scenes_once_on_any_scale(catalogue: Catalogue, tiny: CnnSettings) -> None:
    scenes = catalogue.outside_fold(0)
    store = SceneStore(FeatureSet(catalogue.bands, ["red", "nir"]), scenes, target_labels(catalogue.classes), 1e9, 0)
    fitted = fit_normalisations(tiny, store, scenes)
    counts = [
        len(build_crops(store, catalogue, scenes, fitted, tiny.model_copy(update=change), 16, 0))
        for change in ({"steps": None}, {"steps": None, "resize": 2.0}, {"steps": 7})
    ]
    assert counts == [32, 120, 28]
    assert 4 * 40 * 48 == 30 * 16**2, "in batches of four"


@pytest.mark.parametrize(
    ("resize", "devices", "batch", "steps"),
    [(1.0, 1, 4, 8), (2.5, 1, 5, 38), (5.0, 1, 16, 47), (1.0, 3, 6, 8), (5.0, 20, 40, 19)],
)
def test_batches_are_small_where_scenes_are_few_and_small(
    catalogue: Catalogue, tiny: CnnSettings, resize: float, devices: int, batch: int, steps: int
) -> None:
    scenes = catalogue.outside_fold(0)
    store = SceneStore(FeatureSet(catalogue.bands, ["red", "nir"]), scenes, target_labels(catalogue.classes), 1e9, 0)
    settings = tiny.model_copy(update={"steps": None, "batch_size": None, "resize": resize, "devices": devices})
    plan = build_crops(store, catalogue, scenes, fit_normalisations(tiny, store, scenes), settings, 16, 0).plan
    assert (plan.batch, plan.steps, plan.count) == (batch, steps, batch * steps)


def test_crops_are_placed_on_the_positive_class_or_on_any(
    catalogue: Catalogue, multiclass_catalogue: Catalogue, tiny: CnnSettings
) -> None:
    assert target_labels(catalogue.classes) == (1,)
    assert target_labels(multiclass_catalogue.classes) == (0, 1, 2)
    for which, share, weights in ((catalogue, 0.5, {}), (multiclass_catalogue, 0.0, {"edge": 5.0})):
        scenes = which.outside_fold(0)
        store = SceneStore(FeatureSet(which.bands, ["red"]), scenes, target_labels(which.classes), 1e9, 0)
        settings = tiny.model_copy(update={"crop_weights": weights})
        crops = build_crops(store, which, scenes, fit_normalisations(tiny, store, scenes), settings, 16, 0)
        assert crops.placement.positive_share == share
        expected = [1.0] if which is catalogue else [1.0, 2.0, 7.0]
        assert crops.placement.targets.tolist() == expected
