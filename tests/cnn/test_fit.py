import csv
import dataclasses
import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cnn import load_member
from cnn.network.model_file import read_about
from cnn.settings import CnnSettings
from data.errors import FeatureError, MemberError
from data.maps.geotiff import read_proba
from data.maps.member import Member
from data.maps.store import open_store, write_maps
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene, read_label, read_scene, valid_mask

from .conftest import fit_member

OPTIONS = {"seed": 3, "threads": 1, "device": "cpu"}


def proba_of(directory: Path, scene: Scene, folds: list[int]) -> np.ndarray:
    member = load_member(directory, device="cpu")
    return np.concatenate([proba for _, _, proba in member.predict([scene], folds)], axis=1)


def test_two_trainings_with_the_same_seed_give_the_same_bytes(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        torch.rand(3)
        fit_member("net", tiny, catalogue, tmp_path / name, **OPTIONS)
    fit_member("net", tiny, catalogue, tmp_path / "other", **{**OPTIONS, "seed": 4}, folds=[0])
    one, two, other = ((tmp_path / name / "fold0.safetensors").read_bytes() for name in ("one", "two", "other"))
    assert one == two
    assert one != other
    assert one != (tmp_path / "one" / "fold1.safetensors").read_bytes()


def test_a_second_start_keeps_finished_folds(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit_member("net", tiny, catalogue, whole, **OPTIONS)
    fit_member("net", tiny, catalogue, parts, **OPTIONS, folds=[0])
    assert load_member(parts, device="cpu").folds == (0,)
    kept = (parts / "fold0.safetensors").stat().st_mtime_ns
    fit_member("net", tiny, catalogue, parts, **OPTIONS)
    assert (parts / "fold0.safetensors").stat().st_mtime_ns == kept
    assert load_member(parts, device="cpu").folds == (0, 1)
    for fold in (0, 1):
        name = f"fold{fold}.safetensors"
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert {path.name for path in parts.iterdir()} == {
        "fold0.safetensors",
        "fold1.safetensors",
        "fold0.csv",
        "fold1.csv",
        "fold0.html",
        "fold1.html",
        "member.json",
        "timings.json",
    }


def test_networks_made_with_other_settings_are_refused(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    fit_member("net", tiny, catalogue, tmp_path, **OPTIONS, folds=[0])
    with pytest.raises(MemberError, match=r"present settings.*--overwrite"):
        fit_member("net", tiny.model_copy(update={"learning_rate": 0.1}), catalogue, tmp_path, **OPTIONS)
    with pytest.raises(MemberError, match="present trained_on"):
        fit_member("net", tiny, catalogue, tmp_path, **{**OPTIONS, "seed": 4})
    fit_member("net", tiny.model_copy(update={"tta": "d4"}), catalogue, tmp_path, **OPTIONS, folds=[0])


def test_normalisation_knows_the_training_folds_only(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, make_scene: Callable[..., Scene]
) -> None:
    fit_member("net", tiny, catalogue, tmp_path / "before", **OPTIONS, folds=[0])
    scenes = [
        make_scene(scene.id, fold=0, shift=9000.0) if scene.fold == 0 else scene for scene in catalogue.scenes
    ]  # Overwrites the held-out images.
    changed = dataclasses.replace(catalogue, scenes=tuple(scenes))
    fit_member("net", tiny, changed, tmp_path / "after", **OPTIONS, folds=[0])
    assert (tmp_path / "before/fold0.safetensors").read_bytes() == (tmp_path / "after/fold0.safetensors").read_bytes()

    about = read_about(tmp_path / "after/fold0.safetensors")
    assert about["inputs"] == ["red", "nir"], "the mask band is no input by default"
    pixels = np.concatenate(
        [read_scene(scene, bands=["red", "nir"]).reshape(2, -1) for scene in changed.outside_fold(0)], axis=1
    )
    np.testing.assert_allclose(about["normalisation"]["offset"], np.nanmean(pixels, 1, dtype=np.float64), rtol=1e-6)


def test_it_learns_an_easy_problem_and_keeps_nodata(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    settings = tiny.model_copy(update={"epochs": 6, "steps": 10, "learning_rate": 1e-2})
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS, folds=[0])
    hits = []
    for scene in catalogue.in_fold(0):
        proba, label = proba_of(tmp_path, scene, [0]), read_label(scene)
        assert proba.shape == (1, 40, 48)
        np.testing.assert_array_equal(np.isfinite(proba[0]), valid_mask(scene, read_scene(scene)))
        seen = np.isfinite(proba[0])
        hits.append((proba[0][seen] > 0.5) == (label[seen] == 1))
    assert np.concatenate(hits).mean() > 0.95


def test_multiclass_probabilities_add_up_to_one(
    multiclass_catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, make_scene: Callable[..., Scene]
) -> None:
    settings = tiny.model_copy(update={"inputs": ["nir", "red"], "loss": "dice", "positive_share": 0.5, "tta": "d4"})
    fit_member("net", settings, multiclass_catalogue, tmp_path, **OPTIONS)
    proba = proba_of(tmp_path, make_scene("odd", 67, 1, fold=None, split="test"), [0, 1])
    assert proba.shape == (3, 67, 1)
    seen = np.isfinite(proba[0])
    assert seen.sum() == 63
    np.testing.assert_allclose(proba[:, seen].sum(0), 1, atol=1e-5)


def test_a_saved_member_predicts_the_same_after_a_move_to_another_folder(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    fit_member("net", tiny, catalogue, tmp_path / "a", **OPTIONS)
    scene = catalogue.split("test")[0]
    before = proba_of(tmp_path / "a", scene, [0, 1])
    (tmp_path / "a").rename(tmp_path / "b")
    np.testing.assert_array_equal(proba_of(tmp_path / "b", scene, [0, 1]), before)
    single = [proba_of(tmp_path / "b", scene, [fold]) for fold in (0, 1)]
    np.testing.assert_allclose(before, (single[0] + single[1]) / 2, atol=1e-6)


def test_maps_are_out_of_fold_and_the_mean_of_all_folds_elsewhere(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    directory = tmp_path / "net"
    fit_member("net", tiny, catalogue, directory, **OPTIONS)
    member: Member = load_member(directory, device="cpu")
    write_maps(member, catalogue, open_store(directory, catalogue.classes))
    for scene in catalogue.scenes:
        folder, folds = ("test", [0, 1]) if scene.fold is None else ("oof", [scene.fold])
        stored = read_proba(directory / folder / f"{scene.id}.tif")
        np.testing.assert_allclose(stored, proba_of(directory, scene, folds), atol=1e-5)


def test_the_card_and_the_log_say_what_was_done(
    catalogue: Catalogue,
    tiny: CnnSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    shown: dict[str, tuple[int, int]] = {}

    def track(items, what, total):  # type: ignore[no-untyped-def]
        passed = 0
        for item in items:
            passed += 1
            yield item
        shown[what] = (passed, total)

    with caplog.at_level(logging.INFO):
        fit_member("net", tiny, catalogue, tmp_path / "net", **OPTIONS, folds=[1], track=track)
    assert shown == {"net: scenes": (4, 4), "net: fold 1": (4, 4)}
    assert "on the CPU, 1 threads" in caplog.text
    assert not any(record.name.startswith("lightning") for record in caplog.records)
    assert capsys.readouterr().out == ""
    assert not list((tmp_path / "cwd").iterdir())
    card = json.loads((tmp_path / "net/member.json").read_text())
    assert card["inputs"] == ["red", "nir"]
    assert card["classes"] == ["bright"]
    assert set(card["folds"]["1"]) == {"loss", "normalisation", "epoch", "score"}
    assert card["folds"]["1"]["epoch"] == 2
    with (tmp_path / "net/fold1.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])


def test_scenes_that_do_not_fit_in_memory_give_the_same_network(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    for name, cache in (("held", 4.0), ("read", 0.0)):
        settings = tiny.model_copy(update={"cache_gb": cache})
        fit_member("net", settings, catalogue, tmp_path / name, **OPTIONS, folds=[0])
    assert (tmp_path / "held/fold0.safetensors").read_bytes() == (tmp_path / "read/fold0.safetensors").read_bytes()


@pytest.mark.usefixtures("bfloat16_cpu")
def test_bfloat16_trains_and_predicts_probabilities(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    settings = tiny.model_copy(update={"precision": "bfloat16"})
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS, folds=[0])
    proba = proba_of(tmp_path, catalogue.split("test")[0], [0])
    assert proba.dtype == np.float32
    assert (proba[np.isfinite(proba)] >= 0).all()
    assert (proba[np.isfinite(proba)] <= 1).all()


def test_a_diverging_training_says_so(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    settings = tiny.model_copy(update={"learning_rate": 1e30, "gradient_clip": 0.0})
    with pytest.raises(MemberError, match=r"fold0, epoch .: expected a finite loss"):
        fit_member("net", settings, catalogue, tmp_path, **OPTIONS, folds=[0])
    assert not (tmp_path / "fold0.safetensors").exists()


def test_a_fold_that_holds_all_positives_is_named(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    scenes = []
    for scene in catalogue.split("train"):
        assert scene.label is not None
        blank = dataclasses.replace(scene.label, values=((0, 0), (1, 0)))
        scenes.append(dataclasses.replace(scene, label=blank) if scene.fold == 1 else scene)
    changed = dataclasses.replace(catalogue, scenes=tuple(scenes))
    with pytest.raises(MemberError, match="outside fold 0: expected a labelled pixel"):
        fit_member("net", tiny, changed, tmp_path, **OPTIONS)


def test_ctrl_c_ends_the_training_and_leaves_no_network(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    def track(items, what, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what.endswith("fold 0") and number == 2:
                raise KeyboardInterrupt
            yield item

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit_member("net", tiny, catalogue, tmp_path, **OPTIONS, track=track)
    assert not list(tmp_path.glob("*.safetensors"))
    assert signal.getsignal(signal.SIGINT) is before


def test_an_unknown_input_is_answered_before_any_scene_is_read(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    with pytest.raises(FeatureError, match="NDVIX"):
        fit_member("net", tiny.model_copy(update={"inputs": ["NDVIX"]}), catalogue, tmp_path, **OPTIONS)


def test_a_folder_without_a_member_and_a_missing_fold_are_named(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    with pytest.raises(MemberError, match="expected a trained member"):
        load_member(tmp_path)
    fit_member("net", tiny, catalogue, tmp_path, **OPTIONS, folds=[0])
    with pytest.raises(MemberError, match="--fold 1"):
        proba_of(tmp_path, catalogue.split("test")[0], [1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_asked_for_in_vain_is_an_error(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    with pytest.raises(MemberError, match="device cuda"):
        fit_member("net", tiny, catalogue, tmp_path, seed=0, threads=1, device="cuda")
