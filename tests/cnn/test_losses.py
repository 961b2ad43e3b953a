import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from cnn.losses import LOSSES, cross_entropy, dice
from data.classes import IGNORE


def batch(classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(classes)
    logits = torch.tensor(rng.normal(0, 3, (2, classes, 5, 7)), dtype=torch.float32, requires_grad=True)
    label = rng.integers(0, max(classes, 2), (2, 5, 7)).astype(np.uint8)
    label[rng.random(label.shape) < 0.3] = IGNORE
    return logits, torch.from_numpy(label)


def slow_losses(logits: np.ndarray, label: np.ndarray) -> dict[str, float]:
    classes = logits.shape[1]
    entropy: list[float] = []
    both, cardinality, labelled = np.zeros(classes), np.zeros(classes), np.zeros(classes)
    for image, row, col in np.argwhere(label != IGNORE):
        value = logits[image, :, row, col].astype(np.float64)
        truth = int(label[image, row, col])
        if classes == 1:
            proba = 1 / (1 + np.exp(-value))
            target = np.array([float(truth == 1)])
            entropy.append(-np.log(proba[0] if truth == 1 else 1 - proba[0]))
        else:
            proba = np.exp(value) / np.exp(value).sum()
            target = np.eye(classes)[truth]
            entropy.append(-np.log(proba[truth]))
        both += proba * target
        cardinality += proba + target
        labelled += target
    each = [1 - 2 * b / c for b, c, n in zip(both, cardinality, labelled, strict=True) if n]
    return {"ce": float(np.mean(entropy)), "dice": float(np.mean(each))}


@pytest.mark.parametrize("classes", [1, 2, 4])
def test_losses_are_what_a_loop_over_pixels_computes(classes: int) -> None:
    logits, label = batch(classes)
    slow = slow_losses(logits.detach().numpy(), label.numpy())
    slow["ce+dice"] = slow["ce"] + slow["dice"]
    for name, loss in LOSSES.items():
        assert loss(logits, label).item() == pytest.approx(slow[name], rel=1e-5), name


@pytest.mark.parametrize("classes", [1, 4])
def test_dice_is_that_of_smp(classes: int) -> None:
    logits, label = batch(classes)
    theirs = smp.losses.DiceLoss("binary" if classes == 1 else "multiclass", ignore_index=IGNORE)
    mode_label = label[:, None].long() if classes == 1 else label.long()
    assert dice(logits, label).item() == pytest.approx(theirs(logits, mode_label).item(), abs=1e-5)


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("classes", [1, 3])
def test_ignored_pixels_have_no_gradient(name: str, classes: int) -> None:
    logits, label = batch(classes)
    LOSSES[name](logits, label).backward()  # type: ignore[index,no-untyped-call]
    assert logits.grad is not None
    moved = (logits.grad != 0).any(dim=1)
    assert not moved[label == IGNORE].any()
    assert moved[label != IGNORE].all()


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("classes", [1, 3])
def test_a_batch_without_labels_has_loss_zero_and_finite_gradient(name: str, classes: int) -> None:
    logits, label = batch(classes)
    loss = LOSSES[name](logits, torch.full_like(label, IGNORE))  # type: ignore[index]
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("classes", [1, 3])
def test_losses_stay_finite_and_float32_at_extreme_half_precision_logits(classes: int) -> None:
    label = torch.zeros(1, 2, 2, dtype=torch.uint8)
    label[0, 0, 0] = 1
    logits = torch.full((1, classes, 2, 2), 6e4, dtype=torch.float16)
    logits[:, -1] = -6e4
    for loss in (cross_entropy, dice):
        value = loss(logits, label)
        assert value.dtype == torch.float32
        assert torch.isfinite(value)
