"""Of a training as a whole: killed and gone on with, watched on groups held out, averaged, frozen, written down."""

import csv
import dataclasses
import functools
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cnn.fit
import cnn.train.loggers
from cnn import load_member
from cnn.machine import Machine
from cnn.network.model_file import read_about, read_tensors
from cnn.settings import CnnSettings
from cnn.train.training import check_devices
from data.errors import MemberError
from data.metrics.confusion import confusion_counts
from data.metrics.metric import CLASS_METRICS
from data.scenes.catalogue import Catalogue
from data.scenes.scene import Scene, read_label, read_scene, valid_mask

from ..conftest import fit_member

OPTIONS: dict[str, Any] = {"seed": 3, "threads": 1, "device": "cpu", "folds": [0]}


class KilledError(Exception):
    pass


def kill_at(batch: int) -> Callable[..., Any]:
    """Let a training die when it begins a batch, counted from its own start."""

    def track(items, what, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what.endswith("fold 0") and number == batch:
                raise KilledError
            yield item

    return track


def with_changes(settings: CnnSettings, **changes: Any) -> CnnSettings:
    return CnnSettings(**{**settings.model_dump(exclude_unset=True), **changes})


def rows_of(directory: Path) -> list[dict[str, str]]:
    with (directory / "fold0.csv").open() as stream:
        return list(csv.DictReader(stream))


def timeless_rows(directory: Path) -> list[dict[str, str]]:
    return [{key: row[key] for key in row if "second" not in key} for row in rows_of(directory)]


def network_of(directory: Path) -> bytes:
    return (directory / "fold0.safetensors").read_bytes()


def distance(one: Path, other: Path) -> float:
    """Return the squared distance of two networks of a fold."""
    ours, theirs = (read_tensors(directory / "fold0.safetensors")[0] for directory in (one, other))
    return sum((tensor.double() - theirs[key]).square().sum().item() for key, tensor in ours.items())


@pytest.fixture
def randomly_deep(tiny: CnnSettings) -> CnnSettings:
    """What leaves layers out and adds noise at random: it shows whether the random generator is where it was."""
    return with_changes(tiny, epochs=5, parameters={"drop_path_rate": 0.5}, augment={"noise": 0.5})


PLANS: dict[str, dict[str, Any]] = {
    "default": {},
    "ema": {"average": "ema", "accumulate": 2, "optimizer": "sgd", "schedule": "cosine"},
    "swa": {"average": "swa", "swa_share": 0.6, "optimizer": "adam", "schedule": "step", "lr_step_epochs": 2},
    "held out": {
        "validation_fraction": 0.5,
        "schedule": "plateau",
        "lr_step_epochs": 1,
        "min_delta": 0.5,
        "learning_rate": 1e-2,
    },
    "stopped": {"validation_fraction": 0.5, "patience": 3, "min_delta": 1.0},
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("batch", [3, 6], ids=["within epoch 2", "before epoch 4"])
def test_a_killed_training_goes_on_to_the_bytes_of_an_undisturbed_one(
    catalogue: Catalogue, randomly_deep: CnnSettings, tmp_path: Path, plan: dict[str, Any], batch: int
) -> None:
    settings = with_changes(randomly_deep, **plan)
    fit_member("net", settings, catalogue, tmp_path / "whole", **OPTIONS)
    with pytest.raises(KilledError):
        fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS, track=kill_at(batch))
    assert (tmp_path / "parts/fold0.ckpt").is_file()
    assert not (tmp_path / "parts/fold0.safetensors").exists()
    assert len(rows_of(tmp_path / "parts")) == batch // 2
    shown: dict[str, int] = {}

    def track(items, what, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items, start=1):
            shown[what] = number
            yield item

    fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS, track=track)
    assert network_of(tmp_path / "whole") == network_of(tmp_path / "parts")
    assert timeless_rows(tmp_path / "whole") == timeless_rows(tmp_path / "parts")
    assert not (tmp_path / "parts/fold0.ckpt").exists()
    assert shown["net: fold 0"] == 2 * len(rows_of(tmp_path / "whole")), "the bar goes on where it was"


@pytest.mark.parametrize("plan", ["default", "ema", "held out", "stopped"])
def test_a_training_killed_when_it_was_over_only_saves_what_it_had(
    catalogue: Catalogue, randomly_deep: CnnSettings, tmp_path: Path, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = with_changes(randomly_deep, **PLANS[plan])
    fit_member("net", settings, catalogue, tmp_path / "whole", **OPTIONS)

    def fail(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(cnn.fit, "write_tensors", fail)
        with pytest.raises(KilledError):
            fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS)
    fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS)
    assert network_of(tmp_path / "whole") == network_of(tmp_path / "parts")
    assert timeless_rows(tmp_path / "whole") == timeless_rows(tmp_path / "parts")


def test_a_checkpoint_left_beside_a_finished_network_is_removed(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    fit_member("net", tiny, catalogue, tmp_path, **OPTIONS)
    (tmp_path / "fold0.ckpt").write_bytes(b"left behind")
    fit_member("net", tiny, catalogue, tmp_path, **OPTIONS)
    assert not (tmp_path / "fold0.ckpt").exists()


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_refused(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        fit_member("net", tiny, catalogue, tmp_path, **OPTIONS, track=kill_at(2))
    with pytest.raises(MemberError, match=r"fold0\.ckpt: expected a training begun with the present settings"):
        fit_member("net", with_changes(tiny, learning_rate=0.1), catalogue, tmp_path, **OPTIONS)
    (tmp_path / "fold0.ckpt").write_bytes(b"no checkpoint at all")
    with pytest.raises(MemberError, match=r"fold0\.ckpt: expected a checkpoint"):
        fit_member("net", tiny, catalogue, tmp_path, **OPTIONS)


def test_a_checkpoint_holds_tensors_and_plain_values_alone(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    with pytest.raises(KilledError):
        fit_member("net", with_changes(tiny, validation_fraction=0.5), catalogue, tmp_path, **OPTIONS, track=kill_at(2))
    state = torch.load(tmp_path / "fold0.ckpt", weights_only=True)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "callbacks", "loops"} <= set(state)


def test_the_scenes_held_out_are_neither_learned_from_nor_those_of_the_fold(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, make_scene: Callable[..., Scene]
) -> None:
    settings = with_changes(tiny, validation_fraction=0.4, monitor="loss")
    fit_member("net", settings, catalogue, tmp_path / "before", **OPTIONS)
    held = read_about(tmp_path / "before/fold0.safetensors")["held_out"]
    assert held
    assert {scene.id for scene in catalogue.in_fold(0)}.isdisjoint(held)

    def refit(name: str, changed: set[str]) -> None:
        scenes = [
            make_scene(scene.id, fold=scene.fold, shift=40.0) if scene.id in changed else scene
            for scene in catalogue.scenes
        ]  # Overwrites the images.
        fit_member("net", settings, dataclasses.replace(catalogue, scenes=tuple(scenes)), tmp_path / name, **OPTIONS)

    refit("own", {scene.id for scene in catalogue.in_fold(0)})
    assert timeless_rows(tmp_path / "own") == timeless_rows(tmp_path / "before")
    refit("watched", set(held))
    ours, theirs = (timeless_rows(tmp_path / name)[0] for name in ("before", "watched"))
    assert ours["loss"] == theirs["loss"]
    assert ours["held_out_loss"] != theirs["held_out_loss"]


def test_without_a_group_to_spare_none_is_held_out_and_that_is_said(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scenes = tuple(dataclasses.replace(scene, group="one") for scene in catalogue.scenes)
    settings = with_changes(tiny, validation_fraction=0.5, patience=1, min_delta=9.0)
    with caplog.at_level(logging.WARNING):
        fit_member("net", settings, dataclasses.replace(catalogue, scenes=scenes), tmp_path, **OPTIONS)
    assert "a single group to learn from" in caplog.text
    assert "score" not in rows_of(tmp_path)[0]
    assert len(rows_of(tmp_path)) == 2, "there is nothing to stop by"


def test_the_epoch_that_scores_best_on_the_scenes_held_out_is_used(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    settings = with_changes(
        tiny,
        validation_fraction=0.4,
        epochs=4,
        steps=4,
        learning_rate=0.03,
        schedule="constant",
        crop=64,
        tile=64,
        overlap=16,
    )
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    rows, about = rows_of(tmp_path), read_about(tmp_path / "fold0.safetensors")
    scores = [float(row["score"]) for row in rows]
    assert about["epoch"] == 1 + int(np.argmax(scores))
    assert about["epoch"] < 4, "else the last would do"
    assert about["score"] == pytest.approx(max(scores))

    # What the saved network says of these scenes, each within one window, is what was counted of that epoch.
    member, counts = load_member(tmp_path, device="cpu"), np.zeros((2, 3), np.int64)
    for scene in catalogue.scenes:
        if scene.id in about["held_out"]:
            proba = np.concatenate([part for _, _, part in member.predict([scene], [0])], axis=1)[0]
            label = np.where(valid_mask(scene, read_scene(scene)), read_label(scene), 255).astype(np.uint8)
            counts += confusion_counts(label, (proba >= 0.5).astype(np.uint8), 2)
    best = rows[about["epoch"] - 1]
    names = catalogue.classes.label_names
    assert [[int(best[f"pixels_{label}_as_{other}"]) for other in names] for label in names] == counts[:, :2].tolist()
    for name, metric in CLASS_METRICS.items():
        np.testing.assert_allclose([float(best[f"{name}_{label}"]) for label in names], metric.score(counts), rtol=1e-5)


def test_training_stops_when_the_score_no_longer_gains_enough(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    settings = with_changes(tiny, epochs=9, validation_fraction=0.5, patience=2, min_delta=1.0)
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    assert len(rows_of(tmp_path)) == 3
    assert read_about(tmp_path / "fold0.safetensors")["epoch"] == 1


def test_plateau_lowers_the_rate_after_each_epoch_without_enough_gain(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    settings = with_changes(
        tiny,
        epochs=4,
        validation_fraction=0.5,
        schedule="plateau",
        warmup=0,
        lr_factor=0.5,
        lr_step_epochs=1,
        min_delta=1.0,
        learning_rate=0.008,
    )
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    assert [float(row["learning_rate"]) for row in rows_of(tmp_path)] == pytest.approx([0.008, 0.008, 0.004, 0.002])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patience": 3}, "patience: expected held-out groups, got none. Write `validation_fraction: 0.15`"),
        ({"pictures": 3}, "pictures: expected held-out groups, got none"),
        ({"batch_size": 9, "devices": 2}, "expected batch_size to be a multiple of devices, got 9 on 2"),
        ({"optimiser": "adam"}, "got optimiser. Did you mean optimizer?"),
        ({"monitor": "miou"}, "monitor"),
        ({"loggers": "comet"}, "loggers"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CnnSettings(**changes)


def test_a_score_of_the_positive_class_is_refused_where_there_is_none(
    multiclass_catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    with pytest.raises(MemberError, match="monitor: expected a score of all classes, such as macro_iou, got dice"):
        fit_member(
            "net",
            with_changes(tiny, validation_fraction=0.5, monitor="dice"),
            multiclass_catalogue,
            tmp_path,
            **OPTIONS,
        )


@pytest.mark.skipif(torch.cuda.device_count() >= 64, reason="there are as many GPUs")
def test_more_devices_than_there_are_is_an_error() -> None:
    with pytest.raises(MemberError, match=r"devices: expected at most the \d+ GPUs of this machine, got 64"):
        check_devices(CnnSettings(batch_size=64, devices=64), torch.device("cuda"))
    check_devices(CnnSettings(batch_size=64, devices=64), torch.device("cpu"))


def test_two_batches_that_make_a_step_together_are_one_batch_of_twice_the_size(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    # Batch normalisation and losses of regions see a batch at a time.
    settings = with_changes(
        tiny, loss="ce", optimizer="sgd", parameters={"decoder_use_norm": False, "norm_layer": "layernorm2d"}
    )
    plans = {"whole": (4, 1, 3), "parts": (2, 2, 6), "small": (2, 1, 3)}
    for name, (size, together, steps) in plans.items():
        changes = {"batch_size": size, "accumulate": together, "steps": steps, "gradient_clip": 0.1}
        fit_member("net", with_changes(settings, **changes), catalogue, tmp_path / name, **OPTIONS)
    # Not the same: the loss is a mean over the pixels of a batch that have a label, of which there are more or less.
    assert distance(tmp_path / "parts", tmp_path / "whole") < 0.1 * distance(tmp_path / "small", tmp_path / "whole")


def test_the_number_of_workers_changes_nothing_even_after_a_kill(
    catalogue: Catalogue, randomly_deep: CnnSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_member("net", randomly_deep, catalogue, tmp_path / "whole", **OPTIONS)
    monkeypatch.setattr(Machine, "of", lambda device, threads: Machine(device, workers=1))
    with pytest.raises(KilledError):
        fit_member("net", randomly_deep, catalogue, tmp_path / "parts", **OPTIONS, track=kill_at(5))
    fit_member("net", randomly_deep, catalogue, tmp_path / "parts", **OPTIONS)
    assert network_of(tmp_path / "whole") == network_of(tmp_path / "parts")


def test_a_page_and_grids_of_the_scenes_held_out_are_rendered(
    multiclass_catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path
) -> None:
    settings = with_changes(tiny, validation_fraction=0.5, epochs=3, pictures=2)
    fit_member("<net>", settings, multiclass_catalogue, tmp_path, **OPTIONS)
    page = (tmp_path / "fold0.html").read_text("utf-8")
    assert "&lt;net&gt;: fold 0" in page
    assert "3 of 3 epochs" in page
    assert page.count("<svg") == 7
    assert 'src="fold0-scenes/epoch3.png"' in page
    assert {path.name for path in (tmp_path / "fold0-scenes").iterdir()} == {"epoch2.png", "epoch3.png"}
    with Image.open(tmp_path / "fold0-scenes/epoch3.png") as grid:
        colors = {color for _, color in grid.convert("RGB").getcolors(2**24)}
    assert {(9, 9, 9), (5, 5, 5)} <= colors, "labels are drawn in the colours of their classes"


def test_services_are_told_of_each_epoch(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int | None, dict[str, float]]] = []

    class Notebook:
        def __init__(self, folder: Path, name: str) -> None:
            assert (folder, name) == (tmp_path, "fold0")

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            told.append((step, metrics))

        def finalize(self, status: str) -> None:
            told.append((None, {}))

    monkeypatch.setitem(cnn.train.loggers.LOGGERS, "wandb", cnn.train.loggers.Service("json", Notebook))  # type: ignore[arg-type]
    fit_member("net", with_changes(tiny, loggers="wandb"), catalogue, tmp_path, **OPTIONS)
    assert [step for step, _ in told] == [1, 2, None]
    assert told[1][1]["loss"] == pytest.approx(float(rows_of(tmp_path)[1]["loss"]), rel=1e-5)


@pytest.mark.parametrize("name", cnn.train.loggers.LOGGERS)
def test_a_service_whose_library_is_not_installed_is_named(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cnn.train.loggers, "find_spec", lambda library: None)
    with pytest.raises(MemberError, match=rf"loggers {name}: .* Install `terrablend\[{name}\]`"):
        fit_member("net", with_changes(tiny, loggers=[name]), catalogue, tmp_path, **OPTIONS)


@pytest.fixture
def quiet_processes() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet_processes")
def test_two_devices_share_the_work_of_one(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    settings = with_changes(
        tiny,
        loss="ce",
        optimizer="sgd",
        learning_rate=0.01,
        validation_fraction=0.5,
        average="ema",
        epochs=2,
        parameters={"decoder_use_norm": False, "norm_layer": "layernorm2d"},
    )
    plans = {"one": {"devices": 1}, "two": {"devices": 2}, "small": {"batch_size": 2, "steps": 2}}
    for name, plan in plans.items():
        fit_member("net", with_changes(settings, **plan), catalogue, tmp_path / name, **OPTIONS)
    assert distance(tmp_path / "two", tmp_path / "one") < 0.1 * distance(tmp_path / "small", tmp_path / "one")
    for ours, theirs in zip(rows_of(tmp_path / "one"), rows_of(tmp_path / "two"), strict=True):
        assert float(ours["held_out_loss"]) == pytest.approx(float(theirs["held_out_loss"]), rel=1e-3)
        assert ours["pixels_bright_as_bright"] == theirs["pixels_bright_as_bright"]


def test_a_compiled_training_gives_the_same_plain_network(
    catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The compiler that writes C++ or CUDA takes half a minute; the graph is the same.
    compiled = functools.partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", compiled)
    for name in ("plain", "compiled"):
        fit_member("net", with_changes(tiny, compile=name == "compiled"), catalogue, tmp_path / name, **OPTIONS)
    plain, other = (read_tensors(tmp_path / name / "fold0.safetensors")[0] for name in ("plain", "compiled"))
    assert plain.keys() == other.keys()
    assert distance(tmp_path / "plain", tmp_path / "compiled") < 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_training_on_a_gpu_goes_on_after_a_kill(catalogue: Catalogue, tiny: CnnSettings, tmp_path: Path) -> None:
    options = {**OPTIONS, "device": "cuda"}
    settings = with_changes(tiny, epochs=4, validation_fraction=0.5, average="ema")
    with pytest.raises(KilledError):
        fit_member("net", settings, catalogue, tmp_path, **options, track=kill_at(4))
    fit_member("net", settings, catalogue, tmp_path, **options)
    assert len(rows_of(tmp_path)) == 4
    assert float(rows_of(tmp_path)[3]["loss"]) < float(rows_of(tmp_path)[0]["loss"])
