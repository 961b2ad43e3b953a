"""Of networks that tell the tags of scenes: what they are shown, how they are judged, trained and applied."""

import csv
import dataclasses
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits

from cnn import load_member
from cnn.crops.augmentation import Augmentation
from cnn.crops.crops import SceneStore
from cnn.crops.truth import truth_of
from cnn.export import export_member
from cnn.inputs.channels import read_channels
from cnn.losses.loss_terms import LossName
from cnn.losses.tag_losses import TagLoss
from cnn.member import CnnMember
from cnn.network.encoder_stages import encoder_stages
from cnn.network.model_file import read_tensors
from cnn.network.network import build_network, fitting_side
from cnn.network.weights import load_weights
from cnn.predict.predict_tags import predict_tags
from cnn.settings import CnnSettings
from cnn.train.fold_plan import build_crops, build_loss, count_labels, fit_normalisations, target_labels
from cnn.train.heads import TAGS, check_head, monitor_name
from cnn.train.validation import TagTally, Tiles, validate
from data.errors import MemberError
from data.files import read_json
from data.maps.geotiff import dequantise
from data.maps.member import Member
from data.maps.parquet import read_parts
from data.maps.store import open_store, write_maps
from data.metrics.confusion import confusion_counts
from data.metrics.metric import METRICS
from data.scenes.catalogue import Catalogue
from data.scenes.classes import IGNORE, Classes
from data.scenes.scene import Scene
from data.scenes.tags import read_tags
from features.feature_set import FeatureSet

from .conftest import fit_member

OPTIONS: dict[str, Any] = {"seed": 3, "threads": 1, "device": "cpu"}
BINARY = Classes("binary", (1,), ("kelp",), ((0, 0, 0),))


class KilledError(Exception):
    pass


def tiny(**values: Any) -> CnnSettings:
    """Return what trains in a second."""
    usual = {
        "architecture": "classifier",
        "loss": "bce",
        "encoder": "tu-regnetx_002",
        "encoder_depth": 2,
        "crop": 24,
        "batch_size": 4,
        "epochs": 2,
        "steps": 2,
    }
    return CnnSettings(**{**usual, **values})


def store_of(catalogue: Catalogue) -> SceneStore:
    channels = FeatureSet(catalogue.bands, ["red", "nir"])
    targets = target_labels(catalogue.classes)
    return SceneStore(channels, catalogue.scenes, targets, 1e9, 0, truth=truth_of(catalogue.classes))


def crops_of(catalogue: Catalogue, **values: Any) -> Any:
    settings, store = tiny(**values), store_of(catalogue)
    normal = fit_normalisations(settings, store, catalogue.scenes)
    return build_crops(store, catalogue, catalogue.scenes, normal, settings, settings.crop, 5)


def as_test(scene: Scene, name: str) -> Scene:
    return dataclasses.replace(scene, id=name, split="test", fold=None, tags=None)


def tag_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Count scenes by the truth and prediction of each tag as a binary task."""
    pairs = zip(truth.T, predicted.T.astype(np.uint8), strict=True)
    return np.stack([confusion_counts(tag, prediction, 2) for tag, prediction in pairs])


def slow_loss(
    logits: np.ndarray, truth: np.ndarray, weights: Any, positive: Any, smoothing: float, gamma: float
) -> float:
    total = mass = 0.0
    for row, tags in zip(logits.tolist(), truth.tolist(), strict=True):
        for logit, tag, weight, factor in zip(row, tags, weights, positive, strict=True):
            if tag == IGNORE:
                continue
            p, share = 1 / (1 + math.exp(-logit)), tag * (1 - smoothing) + smoothing / 2
            yes = -((1 - p) ** gamma) * math.log(p) * factor * share
            total, mass = total + weight * (yes - p**gamma * math.log(1 - p) * (1 - share)), mass + weight
    return total / mass


@pytest.mark.parametrize("truth_type", [torch.uint8, torch.float32])
def test_losses_of_tags_are_those_of_a_slow_loop(truth_type: torch.dtype) -> None:
    rng = np.random.default_rng(0)
    logits, truth = torch.from_numpy(rng.normal(0, 3, (6, 3))), torch.from_numpy(rng.integers(2, size=(6, 3)))
    truth[2, 1] = truth[4] = IGNORE
    weights, positive = (1.0, 2.0, 0.5), (1.0, 3.0, 7.0)
    names: tuple[tuple[LossName, float], ...] = (("bce", 0.0), ("focal", 1.5))
    for name, gamma in names:
        loss = TagLoss({name: 1.0}, weights, positive, 0.2, 1.5)(logits, truth.to(truth_type))
        assert loss.item() == pytest.approx(slow_loss(logits.numpy(), truth.numpy(), weights, positive, 0.2, gamma))
    both = TagLoss({"bce": 0.3, "focal": 2.0}, weights, positive, 0.2, 1.5)(logits, truth.to(truth_type)).item()
    parts = [slow_loss(logits.numpy(), truth.numpy(), weights, positive, 0.2, gamma) for gamma in (0.0, 1.5)]
    assert both == pytest.approx(0.3 * parts[0] + 2.0 * parts[1])


def test_bce_of_tags_is_that_of_torch_and_keeps_its_gradient_where_it_is_sure() -> None:
    logits = torch.tensor([[80.0, -80.0, 0.3], [-200.0, 200.0, 0.0]], requires_grad=True)
    truth, positive = torch.tensor([[0, 1, 1], [0, 1, 0]], dtype=torch.uint8), [1.0, 2.0, 3.0]
    loss = TagLoss({"bce": 1.0}, [1.0, 1.0, 1.0], positive)(logits, truth)
    wanted = binary_cross_entropy_with_logits(logits, truth.float(), pos_weight=torch.tensor(positive))
    assert loss.item() == pytest.approx(wanted.item())
    found, right = (torch.autograd.grad(one, logits)[0] for one in (loss, wanted))
    torch.testing.assert_close(found, right)
    sure = TagLoss({"focal": 1.0}, [1.0, 1.0, 1.0], positive, gamma=0.5)(logits, truth)
    assert torch.autograd.grad(sure, logits)[0].isfinite().all()


def test_a_batch_of_which_nothing_is_known_costs_nothing() -> None:
    logits = torch.full((2, 3), torch.nan, requires_grad=True)
    loss = TagLoss({"bce": 1.0}, [1.0] * 3, [1.0] * 3)(logits, torch.full((2, 3), IGNORE, dtype=torch.uint8))
    assert loss.item() == 0
    assert (torch.autograd.grad(loss, logits)[0] == 0).all()


def test_weights_of_tags_are_balanced_or_given_by_name(make_tagged: Any) -> None:
    catalogue = make_tagged()
    scenes = catalogue.scenes
    counts = count_labels(store_of(catalogue), catalogue.classes, scenes)
    having = [sum(tag in scene.tags for scene in scenes) for tag in range(3)]
    np.testing.assert_array_equal(counts, [(24 - count, count) for count in having])
    loss = build_loss(tiny(pos_weight="balanced", class_weights={"rough": 5}), catalogue.classes, counts)
    assert isinstance(loss, TagLoss)
    assert loss.class_weights.tolist() == [1, 5, 1]
    wanted = [(24 - having[0]) / having[0], (24 - having[1]) / having[1], 1]
    np.testing.assert_allclose(loss.pos_weight, wanted, rtol=1e-6)
    balanced = build_loss(tiny(class_weights="balanced"), catalogue.classes, counts)
    np.testing.assert_allclose((balanced.class_weights * torch.tensor(having))[:2], np.mean(having))
    with pytest.raises(MemberError, match=r"pos_weight: .*got hase. Nearest: haze"):
        build_loss(tiny(pos_weight={"hase": 2}), catalogue.classes, counts)
    with pytest.raises(MemberError, match=r"bce, focal .* got dice, lovasz"):
        build_loss(tiny(loss="bce + dice + lovasz"), catalogue.classes, counts)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "unet"}, "expected classifier with the task multilabel.*got unet"),
        ({"stack": ["lightgbm"]}, "stack: expected none with the task multilabel"),
        ({"region_weights": {"haze": 1}}, "region_weights: expected none"),
        ({"crop_weights": {"haze": 1}}, "crop_weights: expected none"),
        ({"positive_share": 0.2}, "positive_share: expected none"),
    ],
)
def test_settings_of_pixels_are_refused_where_scenes_have_tags(
    make_tagged: Any, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MemberError, match=message):
        fit_member("net", tiny(**changes), make_tagged(4), tmp_path, **OPTIONS)


def test_settings_of_tags_are_refused_where_pixels_have_labels() -> None:
    with pytest.raises(MemberError, match="such as unet, got classifier"):
        check_head(tiny(), BINARY)
    with pytest.raises(MemberError, match=r"pos_weight: expected the task multilabel.*class_weights"):
        check_head(CnnSettings(pos_weight="balanced"), BINARY)
    with pytest.raises(MemberError, match=r"expected one of dice, iou.* got macro_f2"):
        monitor_name(tiny(monitor="macro_f2", validation_fraction=0.2), BINARY)


def test_held_out_scenes_are_scored_by_all_tags(make_tagged: Any) -> None:
    classes = make_tagged(2).classes
    assert monitor_name(tiny(), classes) == "macro_dice"
    assert monitor_name(tiny(monitor="macro_f2", validation_fraction=0.2), classes) == "macro_f2"
    with pytest.raises(MemberError, match="such as macro_dice, got dice"):
        monitor_name(tiny(monitor="dice", validation_fraction=0.2), classes)
    with pytest.raises(MemberError, match=r"expected one of macro_dice, macro_f2 and loss .*got kappa"):
        monitor_name(tiny(monitor="kappa", validation_fraction=0.2), classes)


def test_scores_of_tags_are_those_of_each_tag_as_a_binary_task() -> None:
    rng = np.random.default_rng(1)
    truth, predicted = rng.integers(2, size=(40, 3)).astype(np.uint8), rng.random((40, 3)) < 0.5
    truth[:, 2], predicted[:, 2] = 0, False
    counts = tag_counts(truth, predicted)
    f1 = [float(METRICS["dice"].score(tag)) for tag in counts]
    assert float(TAGS.scores["macro_dice"](counts)) == pytest.approx(np.mean(f1[:2])), "the third has no score"
    f2 = []
    for tag in range(2):
        hits, said, there = (truth[:, tag] & predicted[:, tag]).sum(), predicted[:, tag].sum(), truth[:, tag].sum()
        precision, recall = hits / said, hits / there
        f2.append(5 * precision * recall / (4 * precision + recall))
    assert float(TAGS.scores["macro_f2"](counts)) == pytest.approx(np.mean(f2))
    assert np.isnan(TAGS.scores["macro_f2"](counts[2:]))


@pytest.mark.parametrize(("crop", "flips"), [(24, False), (32, True), (8, True)])
def test_crops_have_the_tags_of_their_scenes(make_tagged: Any, crop: int, flips: bool) -> None:
    catalogue = make_tagged(6)
    crops = crops_of(catalogue, crop=crop, augment={"flips": flips}, steps=3)
    by_id = {scene.id: scene for scene in catalogue.scenes}
    for number in range(len(crops)):
        scene, pixels, _, _ = crops.read(number)
        inputs, tags, _ = crops[number]
        assert inputs.shape == (2, crop, crop)
        assert torch.equal(inputs.nan_to_num(-99), pixels.nan_to_num(-99))
        assert tags.tolist() == read_tags(by_id[scene.id], 3).tolist()
        if crop >= 24:
            channels, _ = read_channels(crops.store.channels, scene)
            normal = crops.normalisations[scene.id].rescale(channels)
            assert np.nansum(inputs.numpy()) == pytest.approx(np.nansum(normal), rel=1e-3), "all of the scene is seen"


def test_an_epoch_shows_each_scene_once_and_weighted_ones_more_often(make_tagged: Any) -> None:
    catalogue = make_tagged(32)
    crops = crops_of(catalogue, steps=None, crop=32)
    assert len(crops) == 32
    assert {crops.read(number)[0].id for number in range(32)} == {scene.id for scene in catalogue.scenes}
    weighted = crops_of(catalogue, steps=100, crop=32, scene_weights={"has_haze": 3.0})
    shown = [0 in (weighted.read(number)[0].tags or ()) for number in range(400)]
    with pytest.raises(MemberError, match=r"facts among valid_share, has_haze, has_rough, has_never, got haze_share"):
        crops_of(catalogue, scene_weights={"haze_share": 3.0})
    hazy = sum(0 in scene.tags for scene in catalogue.scenes)
    assert np.mean(shown) == pytest.approx(3 * hazy / (3 * hazy + 32 - hazy), abs=0.01)


def test_the_tags_of_a_crop_without_data_are_unknown(make_tagged: Any) -> None:
    crops = crops_of(make_tagged(4))
    scene = crops.placement.scenes[0]
    crops.store._surveys[scene.id].pixels[1][:] = IGNORE
    found = [crops[number][1].tolist() for number in range(8) if crops.read(number)[0] == scene]
    assert found
    assert all(tags == [IGNORE] * 3 for tags in found)


def test_the_tags_of_a_mixture_have_shares_of_its_area() -> None:
    settings = tiny(augment={"mixup": 0.4, "cutmix": 1.0}).augment
    alter = Augmentation(settings, 8, 3)
    inputs = torch.arange(3.0)[:, None, None, None].expand(3, 1, 8, 8)
    tags = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.uint8)
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 0, 0], [0, 0, 0, 0]])
    mixed, shares = alter((inputs, tags, {"mixup": torch.tensor([1.0, 0.25, 1.0]), "cutmix": boxes}))
    torch.testing.assert_close(shares, torch.tensor([[0.75, 0.25, 0], [0, 0.25, 0.75], [0, 0, 1]]))
    assert mixed.mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.25, 1.75, 2.0])
    tags[1] = IGNORE
    _, shares = alter((inputs, tags, {"mixup": torch.tensor([1.0, 0.25, 1.0]), "cutmix": boxes}))
    assert (shares == IGNORE).all(dim=1).tolist() == [True, True, False], "a part of them is unknown"


@pytest.mark.parametrize(
    "encoder", ["resnet18", "vgg11", "mit_b0", "tu-convnext_atto", "tu-regnetx_002", "tu-vit_tiny_patch16_224"]
)
def test_encoders_of_every_kind_tell_tags(encoder: str) -> None:
    parameters = {"img_size": 64} if "vit" in encoder else {}
    settings = CnnSettings(architecture="classifier", encoder=encoder, crop=64, parameters=parameters)
    network = build_network(settings, 4, 5).eval()
    assert fitting_side(network, settings, 4, 5) == 64
    assert network(torch.rand(2, 4, 64, 64)).shape == (2, 5)
    stages = encoder_stages(network, 4, 64)
    assert stages.keys() == {name for name, _ in network.named_parameters() if name.startswith("encoder.")}
    assert max(stages.values()) >= 3


def test_a_classifier_has_dropout_and_pooling_as_parameters() -> None:
    network: Any = build_network(tiny(parameters={"dropout": 0.7, "pooling": "max"}), 2, 3)
    assert isinstance(network.classification_head[0], torch.nn.AdaptiveMaxPool2d)
    assert network.classification_head[2].p == 0.7
    with pytest.raises(MemberError, match="classifier"):
        build_network(tiny(parameters={"pooling": "sum"}), 2, 3)


def test_a_classifier_starts_from_the_encoder_of_a_segmentation_network(catalogue: Catalogue, tmp_path: Path) -> None:
    plain = CnnSettings(
        encoder="tu-regnetx_002",
        encoder_depth=2,
        decoder_channels=[16, 8],
        crop=32,
        batch_size=4,
        epochs=1,
        steps=1,
        tile=32,
        overlap=8,
    )
    fit_member("unet", plain, catalogue, tmp_path, **OPTIONS, folds=[0])
    source, _ = read_tensors(tmp_path / "fold0.safetensors")
    settings = tiny(pretrained=str(tmp_path / "fold0.safetensors"))
    network = build_network(settings, 2, 3)
    load_weights(network, settings, ["red", "nir"], 3)
    for name, tensor in network.state_dict().items():
        assert not name.startswith("encoder.") or torch.equal(tensor, source[name])


class Brightness(torch.nn.Module):
    """The mean of each channel, times a factor."""

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        means = channels.mean(dim=(2, 3))
        return torch.cat([means, means[:, :1] - means[:, 1:]], dim=1) * 20


@pytest.mark.parametrize("side", [32, 9])
def test_validation_is_that_of_a_slow_loop_over_scenes(make_tagged: Any, side: int) -> None:
    catalogue = make_tagged(5)
    store, scenes = store_of(catalogue), catalogue.scenes
    normal = fit_normalisations(tiny(), store, scenes)
    tiles, loss = Tiles(store, scenes, normal, side), TagLoss({"bce": 1.0}, [1.0] * 3, [1.0] * 3)
    batches = torch.utils.data.DataLoader(tiles, 3)
    found = validate(
        Brightness(), batches, tiles, TagTally(3), loss, device=torch.device("cpu"), precision=torch.float32
    )
    losses, predicted = [], []
    for number, scene in enumerate(scenes):
        logits = torch.stack(
            [
                Brightness()(tiles[k][0].nan_to_num(0)[None])[0]
                for k in range(len(tiles))
                if tiles.places[k][0] == number
            ]
        )
        tags = torch.from_numpy(read_tags(scene, 3))[None]
        losses.append([loss(one[None], tags).item() for one in logits])
        predicted.append(logits.sigmoid().mean(dim=0).numpy() >= 0.5)
    np.testing.assert_allclose(found.scene_losses, [np.mean(of) for of in losses], rtol=1e-5)
    assert found.loss == pytest.approx(np.mean(np.concatenate(losses)), rel=1e-5)
    truth = np.stack([read_tags(scene, 3) for scene in scenes])
    np.testing.assert_array_equal(found.counts, tag_counts(truth, np.stack(predicted)))
    assert found.counts.sum() == 15


def proba_of(member: Member, scenes: Any, folds: list[int]) -> np.ndarray:
    return np.stack([proba[:, 0, 0] for _, _, proba in member.predict(scenes, folds)])


def slow_proba(member: CnnMember, scene: Scene, folds: list[int]) -> np.ndarray:
    """Predict a scene that is no larger than a crop."""
    channels, _ = read_channels(member.channels, scene)
    padded = torch.full((1, len(channels), member.crop, member.crop), torch.nan)
    padded[0, :, : channels.shape[1], : channels.shape[2]] = torch.from_numpy(channels)
    views = [padded]
    if member.settings.tta == "d4":
        views = [torch.rot90(image, k, (2, 3)) for image in (padded, padded.flip(3)) for k in range(4)]
    with torch.inference_mode():
        each = [member.apply_fold(fold).eval()(view.clone()) for fold in folds for view in views]
    return torch.stack(each).mean(dim=0)[0].numpy()


def test_a_classifier_may_be_written_with_a_capital(make_tagged: Any, tmp_path: Path) -> None:
    catalogue = make_tagged(4)
    fit_member("net", tiny(architecture="Classifier", epochs=1), catalogue, tmp_path, **OPTIONS, folds=[0])
    assert proba_of(load_member(tmp_path, device="cpu"), catalogue.scenes, [0]).shape == (4, 3)


@pytest.mark.parametrize("tta", ["none", "d4"])
def test_tags_are_the_mean_over_folds_and_flips(make_tagged: Any, tmp_path: Path, tta: str) -> None:
    catalogue = make_tagged(4)
    settings = tiny(tta=tta, predict_precision="float32")
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    member: Member = load_member(tmp_path, device="cpu")
    assert isinstance(member, CnnMember)
    found = proba_of(member, catalogue.scenes, [0, 1])
    assert found.dtype == np.float32
    for scene, proba in zip(catalogue.scenes, found, strict=True):
        np.testing.assert_allclose(proba, slow_proba(member, scene, [0, 1]), atol=1e-5)
    np.testing.assert_allclose(proba_of(member, catalogue.scenes[::-1], [0, 1])[::-1], found, atol=1e-6)
    assert proba_of(member, catalogue.scenes, [0]) != pytest.approx(found, abs=1e-4)
    assert [*member.predict([], [0])] == []


def test_scenes_larger_than_a_crop_have_the_mean_of_their_squares(
    make_tagged: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = make_tagged(4, shape=(40, 20))
    fit_member("net", tiny(crop=16, predict_precision="float32"), catalogue, tmp_path, **OPTIONS)
    member = load_member(tmp_path, device="cpu")
    whole = proba_of(member, catalogue.scenes, [0])
    applied = member.apply_fold(0).eval()
    store = SceneStore(member.channels, catalogue.scenes, (), 1e9, 0, truth=truth_of(catalogue.classes))
    normal = fit_normalisations(member.settings, store, catalogue.scenes)
    tiles = Tiles(store, catalogue.scenes, normal, 16)
    for number, scene in enumerate(catalogue.scenes):
        windows = [tiles.window(k) for k in range(len(tiles)) if tiles.places[k][0] == number]
        assert len(windows) == 6
        seen = [torch.from_numpy(read_channels(member.channels, scene, window)[0])[None] for window in windows]
        with torch.inference_mode():
            wanted = torch.cat([applied(one) for one in seen]).mean(dim=0)
        np.testing.assert_allclose(whole[number], wanted, atol=1e-6)
    monkeypatch.setattr("cnn.member.predict_tags", partial(predict_tags, batch=5))
    np.testing.assert_allclose(proba_of(member, catalogue.scenes, [0]), whole, atol=1e-6)


def unseen(scene: Scene, folder: Path) -> Scene:
    """Return a scene in which nothing is seen."""
    path = folder / "unseen.tif"
    profile = {"driver": "GTiff", "height": scene.grid.height, "width": scene.grid.width, "dtype": "float32"}
    with rasterio.open(path, "w", **profile, count=3, transform=rasterio.Affine(10, 0, 0, 0, -10, 0)) as raster:
        raster.write(np.full((3, scene.grid.height, scene.grid.width), np.nan, np.float32))
    return dataclasses.replace(scene, images=(dataclasses.replace(scene.images[0], path=str(path)),))


@pytest.mark.parametrize("per_scene", [False, True])
def test_a_scene_without_data_has_no_probabilities(make_tagged: Any, tmp_path: Path, per_scene: bool) -> None:
    catalogue = make_tagged(4)
    fit_member("net", tiny(normalise={"per_scene": per_scene}), catalogue, tmp_path, **OPTIONS)
    member = load_member(tmp_path, device="cpu")
    first, second = catalogue.scenes[:2]
    alone = proba_of(member, [first, second], [0])
    rows = proba_of(member, [first, unseen(first, tmp_path), second], [0])
    assert np.isnan(rows[1]).all()
    np.testing.assert_allclose(rows[[0, 2]], alone, atol=1e-6)


def test_it_learns_a_tag_that_is_told_by_colour(make_tagged: Any, tmp_path: Path) -> None:
    catalogue = make_tagged(32)
    settings = tiny(
        epochs=6,
        steps=8,
        batch_size=8,
        learning_rate=1e-2,
        crop=32,
        validation_fraction=0.25,
        average="ema",
        ema_decay=0.9,
    )
    fit_member("net", settings, catalogue, tmp_path, **OPTIONS)
    tested = tuple(as_test(scene, f"test{k}") for k, scene in enumerate(catalogue.scenes[:3]))
    catalogue = dataclasses.replace(catalogue, scenes=(*catalogue.scenes, *tested))
    member = load_member(tmp_path, device="cpu")
    write_maps(member, catalogue, open_store(tmp_path, catalogue.classes))
    _, found = read_parts(tmp_path / "oof")
    train = catalogue.split("train")
    assert [*found] == [scene.id for scene in train]
    right = [(dequantise(found[scene.id])[0] >= 0.5) == (0 in (scene.tags or ())) for scene in train]
    assert np.mean(right) > 0.95, "haze is brightness"
    for fold in (0, 1):
        own = [scene for scene in train if scene.fold == fold]
        stored = dequantise(np.stack([found[scene.id] for scene in own]))
        np.testing.assert_allclose(stored, proba_of(member, own, [fold]), atol=1e-3)
    stored = dequantise(np.stack([*read_parts(tmp_path / "test")[1].values()]))
    np.testing.assert_allclose(stored, proba_of(member, tested, [0, 1]), atol=1e-3)


def kill_at(batch: int) -> Any:
    def track(items, what, total):  # type: ignore[no-untyped-def]
        for number, item in enumerate(items):
            if what.endswith("fold 0") and number == batch:
                raise KilledError
            yield item

    return track


@pytest.mark.parametrize(
    "plan",
    [
        {"augment": {"noise": 0.5, "mixup": 0.4}},
        {"validation_fraction": 0.5, "schedule": "plateau", "lr_step_epochs": 1, "average": "ema", "min_delta": 0.5},
    ],
    ids=["default", "held out"],
)
def test_a_killed_training_goes_on_to_the_bytes_of_an_undisturbed_one(
    make_tagged: Any, tmp_path: Path, plan: dict[str, Any]
) -> None:
    catalogue, settings = make_tagged(8), tiny(epochs=4, **plan)
    fit_member("net", settings, catalogue, tmp_path / "whole", **OPTIONS, folds=[0])
    with pytest.raises(KilledError):
        fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS, folds=[0], track=kill_at(5))
    assert (tmp_path / "parts/fold0.ckpt").is_file()
    fit_member("net", settings, catalogue, tmp_path / "parts", **OPTIONS, folds=[0])
    one, two = ((tmp_path / name / "fold0.safetensors").read_bytes() for name in ("whole", "parts"))
    assert one == two


def test_an_encoder_is_thawed_stage_after_stage(make_tagged: Any, tmp_path: Path) -> None:
    catalogue = make_tagged(6)
    torch.save(build_network(tiny(), 3, 3).state_dict(), tmp_path / "start.pt")
    settings = tiny(layer_decay=0.7, pretrained=str(tmp_path / "start.pt"), freeze="gradual")
    network = build_network(settings, 3, 3)
    load_weights(network, settings, catalogue.bands, 3)
    start = network.state_dict()
    for epochs in (1, 4):
        own = settings.model_copy(update={"epochs": epochs})
        fit_member("net", own, catalogue, tmp_path / str(epochs), **OPTIONS, folds=[0])
        after, _ = read_tensors(tmp_path / str(epochs) / "fold0.safetensors")
        moved = {name for name in after if after[name].ndim > 1 and not torch.equal(after[name], start[name])}
        assert "classification_head.3.weight" in moved
        assert any(name.startswith("encoder.") for name in moved) == (epochs == 4)


def test_the_log_the_page_and_the_grid_show_tags(make_tagged: Any, tmp_path: Path) -> None:
    fit_member("net", tiny(validation_fraction=0.5, crop=16), make_tagged(12), tmp_path, **OPTIONS, folds=[0])
    with (tmp_path / "fold0.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        scores = [float(row[f"dice_{tag}"]) for tag in ("haze", "rough", "never")]
        assert float(row["score"]) == pytest.approx(np.nanmean(scores), rel=1e-5)
        hits, misses, alarms = (int(row[f"{what}_rough"]) for what in ("hits", "misses", "false_alarms"))
        if hits + misses + alarms:
            assert float(row["f2_rough"]) == pytest.approx(5 * hits / (5 * hits + 4 * misses + alarms), rel=1e-5)
    page = (tmp_path / "fold0.html").read_text("utf-8")
    assert "macro_dice" in page
    assert "F2" in page
    grids = sorted((tmp_path / "fold0-scenes").glob("*.png"))
    assert grids
    with Image.open(grids[-1]) as grid:
        assert np.asarray(grid).std() > 10


def test_an_onnx_file_tells_the_tags_that_the_member_tells(make_tagged: Any, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    catalogue = make_tagged(4, shape=(32, 32))
    fit_member("net", tiny(crop=32, predict_precision="float32"), catalogue, tmp_path / "net", **OPTIONS)
    member = load_member(tmp_path / "net", device="cpu")
    assert export_member(member, tmp_path / "net.onnx") < 1e-5
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    read = [read_channels(member.channels, scene)[0] for scene in catalogue.scenes]
    channels = dict(zip(member.channels.names, np.stack(read, axis=1), strict=True))
    np.testing.assert_allclose(session.run(None, channels)[0], proba_of(member, catalogue.scenes, [0, 1]), atol=1e-5)
    card = read_json(tmp_path / "net.json")
    assert card["output"] == {
        "name": "proba",
        "shape": ["n", 3],
        "type": "float32",
        "classes": ["haze", "rough", "never"],
        "of": "sigmoid",
    }


@pytest.mark.gpu
def test_a_gpu_tells_the_tags_that_a_cpu_tells(make_tagged: Any, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    catalogue = make_tagged(6)
    settings = tiny(predict_precision="float32", tta="d4")
    fit_member("net", settings, catalogue, tmp_path, **{**OPTIONS, "device": "cuda"})
    ours, theirs = (
        proba_of(load_member(tmp_path, device=device), catalogue.scenes, [0, 1]) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
