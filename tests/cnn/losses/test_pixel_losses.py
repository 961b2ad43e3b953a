from itertools import pairwise
from typing import cast

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from segmentation_models_pytorch.losses._functional import softmax_focal_loss_with_logits
from segmentation_models_pytorch.losses.lovasz import _lovasz_softmax
from torch import Tensor
from torch.nn import functional

from cnn.losses.distances import signed_distances
from cnn.losses.loss_terms import LOSS_NAMES, LossName, parse_loss
from cnn.losses.pixel_losses import LOSSES, LossOptions, WeightedLoss, label_shares
from cnn.settings import CnnSettings
from cnn.train.fold_plan import build_loss
from data.errors import MemberError
from data.scenes.classes import IGNORE, Classes

KELP = Classes("binary", (1,), ("kelp",), ((0, 0, 0),))
COVER = Classes("multiclass", (0, 1, 2), ("water", "forest", "road"), ((0, 0, 0),) * 3)


def batch(classes: int, side: int = 7) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(classes)
    logits = torch.tensor(rng.normal(0, 3, (2, classes, side, side)), dtype=torch.float32, requires_grad=True)
    label = rng.integers(0, max(classes, 2), (2, side, side)).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = IGNORE
    return logits, torch.from_numpy(label)


def build(text: str, classes: int, **options: object) -> WeightedLoss:
    labels = max(classes, 2)
    usual = {"class_weights": (1.0,) * labels, "region_weights": (0.0, 1.0) if classes == 1 else (1.0,) * labels}
    return WeightedLoss(parse_loss(text), LossOptions(**{**usual, **options}))  # type: ignore[arg-type]


def proba_of(logits: Tensor) -> np.ndarray:
    values = logits.detach().double().numpy()
    if values.shape[1] == 1:
        values = np.concatenate([np.zeros_like(values), values], axis=1)
    exponentials = np.exp(values - values.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def slow_losses(logits: Tensor, label: np.ndarray, options: LossOptions) -> dict[LossName, float]:
    """All losses by a loop over pixels, in float64."""
    proba = proba_of(logits)
    labels = proba.shape[1]
    entropy, binary, focal, mass = 0.0, 0.0, 0.0, 0.0
    counts = np.zeros((labels, 4))  # hits, false alarms, misses, the rest
    distances = np.zeros(labels)
    for image, row, col in np.argwhere(label != IGNORE):
        truth = int(label[image, row, col])
        p = proba[image, :, row, col]
        weight = options.class_weights[truth]
        mass += weight
        entropy -= weight * np.log(p[truth])
        focal -= weight * (1 - p[truth]) ** options.gamma * np.log(p[truth])
        for k in range(labels):
            binary -= weight / labels * np.log(p[k] if k == truth else 1 - p[k])
            counts[k] += [p[k], 0, 1 - p[k], 0] if k == truth else [0, p[k], 0, 1 - p[k]]
            distances[k] += p[k] * slow_distance(label[image], k, row, col)
    present = [k for k in range(labels) if (label == k).any()]
    weights = np.array(options.region_weights)

    def mean(each: dict[int, float]) -> float:
        return sum(weights[k] * each[k] for k in each) / sum(weights[k] for k in each)

    def index(alpha: float, beta: float) -> float:
        return mean(
            {k: 1 - counts[k, 0] / (counts[k, 0] + alpha * counts[k, 1] + beta * counts[k, 2]) for k in present}
        )

    def correlation(hits: float, alarms: float, misses: float, rest: float) -> float:
        spread = (hits + alarms) * (hits + misses) * (rest + alarms) * (rest + misses)
        return float((hits * rest - alarms * misses) / np.sqrt(spread))

    return {
        "ce": entropy / mass,
        "bce": binary / mass,
        "focal": focal / mass,
        "dice": index(0.5, 0.5),
        "jaccard": index(1, 1),
        "tversky": index(options.alpha, options.beta),
        "lovasz": mean({k: slow_lovasz(proba[:, k], label, k) for k in present}),
        "mcc": mean({k: 1 - correlation(*counts[k]) for k in present}),
        "boundary": mean({k: distances[k] / (label != IGNORE).sum() for k in present}),
    }


def slow_distance(label: np.ndarray, k: int, row: int, col: int) -> float:
    inside, outside = np.argwhere(label == k), np.argwhere((label != k) & (label != IGNORE))
    if not len(inside) or not len(outside):
        return 0.0
    others = outside if label[row, col] == k else inside
    nearest = float(np.sqrt(((others - [row, col]) ** 2).sum(1)).min())
    return 1 - nearest if label[row, col] == k else nearest


def slow_lovasz(proba: np.ndarray, label: np.ndarray, k: int) -> float:
    """The Choquet integral of 1 - Jaccard: the mean of its value over the sets of pixels with errors above a level."""
    known = label != IGNORE
    truth, errors = (label == k)[known], np.abs((label == k) - proba)[known]
    levels = np.concatenate([[0], np.sort(errors)])
    total = 0.0
    for low, high in pairwise(levels):
        predicted = truth ^ (errors > low)
        total += (high - low) * (1 - (truth & predicted).sum() / (truth | predicted).sum())
    return total


OPTIONS = [
    (1, LossOptions((1.0, 1.0), (0.0, 1.0))),
    (1, LossOptions((0.5, 4.0), (0.3, 0.7), gamma=0.5, alpha=0.9, beta=0.2)),
    (2, LossOptions((1.0, 1.0), (1.0, 1.0))),
    (4, LossOptions((1.0, 2.0, 0.0, 5.0), (1.0, 0.0, 3.0, 0.5), gamma=3.0)),
]


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize(("classes", "options"), OPTIONS)
def test_losses_are_what_a_loop_over_pixels_computes(name: LossName, classes: int, options: LossOptions) -> None:
    logits, label = batch(classes)
    value = WeightedLoss({name: 1.0}, options)(logits, label).item()
    assert value == pytest.approx(slow_losses(logits, label.numpy(), options)[name], rel=1e-5)


def test_every_name_of_a_loss_has_one() -> None:
    assert tuple(LOSSES) == LOSS_NAMES


@pytest.mark.parametrize(("name", "theirs"), [("dice", smp.losses.DiceLoss), ("jaccard", smp.losses.JaccardLoss)])
@pytest.mark.parametrize("classes", [1, 4])
def test_regions_are_those_of_smp(name: str, theirs: type, classes: int) -> None:
    logits, label = batch(classes)
    oracle = theirs("binary" if classes == 1 else "multiclass", ignore_index=IGNORE)
    mode_label = label[:, None].long() if classes == 1 else label.long()
    assert build(name, classes)(logits, label).item() == pytest.approx(oracle(logits, mode_label).item(), abs=1e-5)


def test_tversky_focal_and_lovasz_are_those_of_smp() -> None:
    logits, label = batch(4)
    ours = build("tversky", 4, alpha=0.2, beta=0.9)(logits, label).item()
    theirs = smp.losses.TverskyLoss("multiclass", alpha=0.2, beta=0.9, ignore_index=IGNORE)
    assert ours == pytest.approx(theirs(logits, label.long()).item(), abs=1e-5)
    known = (label != IGNORE).flatten()
    flat, truth = logits.movedim(1, -1).reshape(-1, 4)[known], label.flatten().long()[known]
    assert build("focal", 4)(logits, label).item() == pytest.approx(
        softmax_focal_loss_with_logits(flat, truth).item(), rel=1e-5
    )
    lovasz = _lovasz_softmax(logits.softmax(1), label, classes="present", ignore=IGNORE)
    assert build("lovasz", 4)(logits, label).item() == pytest.approx(lovasz.item(), rel=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_weighted_and_smoothed_cross_entropy_is_that_of_torch(classes: int) -> None:
    logits, label = batch(classes)
    weights = tuple(float(k + 1) for k in range(classes))
    ours = build("ce", classes, class_weights=weights, smoothing=0.2)(logits, label)
    theirs = functional.cross_entropy(
        logits, label.long(), torch.tensor(weights), ignore_index=IGNORE, label_smoothing=0.2
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_a_binary_loss_is_that_of_two_classes(name: LossName) -> None:
    logits, label = batch(1)
    options = LossOptions((1.0, 3.0), (0.2, 0.8))
    loss = WeightedLoss({name: 1.0}, options)
    both = torch.cat([-logits / 2, logits / 2], dim=1)
    torch.testing.assert_close(loss(logits, label), loss(both, label))


def test_a_sum_is_the_sum_of_its_terms() -> None:
    logits, label = batch(3)
    parts = [weight * build(name, 3)(logits, label) for name, weight in (("bce", 0.3), ("jaccard", 0.5), ("focal", 2))]
    torch.testing.assert_close(build("0.3 bce + .5jaccard + 2*focal", 3)(logits, label), torch.stack(parts).sum())


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_have_no_gradient_whatever_the_network_says_there(name: str, classes: int) -> None:
    logits, label = batch(classes)
    with torch.no_grad():
        logits.movedim(1, -1)[label == IGNORE] = torch.nan
    build(name, classes)(logits, label).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    moved = (logits.grad != 0).any(dim=1)
    assert not moved[label == IGNORE].any()
    # Distances of 0 along the rims, and pixels that are as wrong as no set of pixels, have a gradient of 0.
    assert name in ("boundary", "lovasz") or moved[label != IGNORE].all()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_labels_has_loss_zero_and_no_gradient(name: str, classes: int, smoothing: float) -> None:
    logits, label = batch(classes)
    loss = build(name, classes, smoothing=smoothing)(logits, torch.full_like(label, IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSS_NAMES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_losses_and_gradients_are_finite_float32_at_extreme_half_precision_logits(
    name: str, classes: int, gamma: float
) -> None:
    label = torch.zeros(1, 2, 2, dtype=torch.uint8)
    label[0, 0, 0], label[0, 0, 1] = 1, IGNORE
    for sign in (1, -1):
        logits = torch.full((1, classes, 2, 2), sign * 6e4, dtype=torch.float16)
        logits[:, -1] = -sign * 6e4
        logits.requires_grad_()
        value = build(name, classes, gamma=gamma)(logits, label)
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
        value.backward()
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["ce", "bce", "focal"])
def test_a_pixel_that_is_surely_wrong_still_learns(name: str) -> None:
    for classes in (1, 3):
        logits = torch.full((1, classes, 1, 1), -200.0)
        logits[:, 0] = 200.0
        logits.requires_grad_()
        label = torch.full((1, 1, 1), 0 if classes == 1 else 1, dtype=torch.uint8)
        build(name, classes)(logits, label).backward()
        assert logits.grad is not None
        assert logits.grad[0, 0] > 0.3


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name != "boundary"])
@pytest.mark.parametrize("classes", [1, 3])
def test_soft_labels_of_one_class_are_hard_ones(name: str, classes: int) -> None:
    logits, label = batch(classes)
    loss = build(name, classes)
    assert loss(logits, label_shares(label, max(classes, 2))).item() == loss(logits, label).item()


@pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name not in ("boundary", "focal")])
@pytest.mark.parametrize("classes", [1, 3])
def test_no_prediction_is_better_than_the_soft_truth_itself(name: str, classes: int) -> None:
    wrong = torch.randn(2, classes, 5, 5, generator=torch.Generator().manual_seed(1))
    right = torch.randn(2, classes, 5, 5, generator=torch.Generator().manual_seed(2))
    shares = torch.from_numpy(proba_of(right)).float()
    loss = build(name, classes)
    best = loss(right, shares)
    assert all(loss(right.lerp(wrong, step), shares) > best for step in (0.01, 0.1, 1.0, -0.1))


@given(arrays(np.uint8, (2, 5, 6), elements=st.sampled_from([0, 1, 2, IGNORE])))
def test_signed_distances_are_those_of_a_search_over_all_pixels(label: np.ndarray) -> None:
    distances = signed_distances(label, 3)
    assert distances.dtype == np.float32
    for image, k, row, col in np.ndindex(distances.shape):
        slow = 0.0 if label[image, row, col] == IGNORE else slow_distance(label[image], k, row, col)
        assert distances[image, k, row, col] == pytest.approx(slow, abs=1e-5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.3 bce + 0.5 jacard", r"got jacard\. Did you mean jaccard"),
        ("ce + ce", "each loss once"),
        ("0 ce", "weight above 0"),
        ("ce dice", "got 'ce dice'"),
        ("ce +", "got ''"),
        ("-1 ce", "got '-1 ce'"),
        ("", "got ''"),
    ],
)
def test_what_is_no_sum_of_losses_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CnnSettings(loss=text)


def test_balanced_classes_count_the_same() -> None:
    loss = build_loss(CnnSettings(class_weights="balanced"), COVER, np.array([[60, 30, 10]]))
    np.testing.assert_allclose(np.array(loss.options.class_weights) * [60, 30, 10], 100 / 3)


def test_weights_go_by_name_and_unknown_names_are_answered_with_known_ones() -> None:
    settings = CnnSettings(class_weights={"road": 9}, region_weights={"water": 0})
    options = build_loss(settings, COVER, np.array([[1, 1, 1]])).options
    assert options.class_weights == (1, 1, 9)
    assert options.region_weights == (0, 1, 1)
    assert build_loss(CnnSettings(), KELP, np.array([[1, 1]])).options.region_weights == (0, 1)
    with pytest.raises(MemberError, match=r"region_weights: .* got rode\. Nearest: road"):
        build_loss(CnnSettings(region_weights={"rode": 1}), COVER, np.array([[1, 1, 1]]))
    with pytest.raises(MemberError, match="weight above 0"):
        build_loss(CnnSettings(region_weights={"kelp": 0}), KELP, np.array([[1, 1]]))


def test_settings_reach_the_loss() -> None:
    settings = CnnSettings(
        loss="tversky + 0.5 focal", label_smoothing=0.1, focal_gamma=1.5, tversky_alpha=0.4, tversky_beta=0.6
    )
    loss = build_loss(settings, KELP, np.array([[1, 1]]))
    assert loss.terms == {"tversky": 1.0, "focal": 0.5}
    assert loss.options == LossOptions((1.0, 1.0), (0.0, 1.0), 0.1, 1.5, 0.4, 0.6)
    assert not loss.state_dict(), "weights of classes are settings, not what is learned"


def test_region_weights_make_the_jaccard_aware_of_the_background() -> None:
    logits, label = batch(1)
    each = [build("jaccard", 1, region_weights=weights)(logits, label).item() for weights in [(1.0, 0.0), (0.0, 1.0)]]
    both = build("jaccard", 1, region_weights=(0.3, 0.7))(logits, label).item()
    assert both == pytest.approx(0.3 * each[0] + 0.7 * each[1])
    negative = -cast(Tensor, logits)
    swapped = torch.where(label == IGNORE, label, 1 - label)
    assert build("jaccard", 1)(negative, swapped).item() == pytest.approx(each[0])


def test_distances_have_the_same_bits_wherever_the_label_lies_in_memory() -> None:
    label = np.zeros((1, 32, 32), np.uint8)
    label[0, [3, 20, 27], [30, 4, 17]] = 1
    found = set()
    for offset in range(64):
        room = np.zeros(label.size + offset, np.uint8)[offset:].reshape(label.shape)
        room[:] = label
        found.add(signed_distances(room, 2).tobytes())
    assert len(found) == 1
    exact = ndimage.distance_transform_edt(label[0] == 0).astype(np.float32)
    np.testing.assert_array_equal(signed_distances(label, 2)[0, 1], exact)
