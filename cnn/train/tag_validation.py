"""What a network says of the tags of scenes that are held out while it learns."""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cnn.losses.pixel_losses import Loss
from cnn.train.validation import Tiles, Validation, infer
from data.scenes.classes import IGNORE
from data.scenes.tags import read_tags

__all__ = ["tag_counts", "tag_proba", "validate_tags"]


def validate_tags(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor, Tensor]],
    tiles: Tiles,
    n_labels: int,
    loss: Loss,
    *,
    device: torch.device,
    precision: torch.dtype,
    total: Callable[[Tensor], Tensor] = lambda sums: sums,
) -> Validation:
    """Apply a network, as it is when it predicts, to tiles of scenes that have tags.

    A scene's probabilities are the means of those of its tiles in which anything is seen.

    Parameters
    ----------
    network : nn.Module
        On ``device``; it is left in evaluation mode.
    batches : iterable of (inputs, label, scene)
        Of the tiles, labelled by `cnn.crops.tag_crops.mark_seen`.
    tiles : Tiles
    n_labels : int
        Tags.
    loss : callable
        (logits (N, K), tags) → scalar.
    device : torch.device
    precision : torch.dtype
    total : callable
        Adds up sums over all processes that have a part of the batches each.

    Returns
    -------
    found : Validation
        Its losses are means over tiles, its counts (K, 2, 3), those of each tag over the scenes.
    """
    network.eval()
    truth = torch.from_numpy(np.stack([read_tags(scene, n_labels) for scene in tiles.scenes]))
    # Of each scene: tiles, the sum of their losses, the sums of their probabilities.
    sums = torch.zeros(len(truth), 2 + n_labels, dtype=torch.float64)
    pooled = torch.zeros(1, dtype=torch.float64)
    with torch.inference_mode():
        for inputs, label, scenes in batches:
            seen = (label != IGNORE).any(dim=2).any(dim=1)
            if not seen.any():
                continue
            inputs, scenes = inputs[seen].to(device, non_blocking=True), scenes[seen]
            logits, tags = infer(network, inputs, tiles.side, precision), truth[scenes].to(device)
            each = torch.stack([loss(logits[one : one + 1], tags[one : one + 1]) for one in range(len(tags))])
            pooled += loss(logits, tags).item() * len(tags)
            columns = [torch.ones(len(tags), 1), each.cpu()[:, None], logits.sigmoid().cpu()]
            sums.index_add_(0, scenes, torch.cat([column.double() for column in columns], dim=1))
    both = total(torch.cat([pooled, sums.ravel()]).to(device)).cpu()
    pooled, sums = both[:1], both[1:].reshape(sums.shape)
    n_tiles = sums[:, :1]
    means = torch.where(n_tiles > 0, sums[:, 1:] / n_tiles.clamp(min=1), torch.nan).numpy()
    known = n_tiles[:, 0].numpy() > 0
    return Validation(
        (pooled / n_tiles.sum().clamp(min=1)).item(),
        tag_counts(truth.numpy()[known], means[known, 1:] >= 0.5),
        means[:, 0],
    )


def tag_counts(truth: NDArray[np.uint8], told: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count the scenes of each tag by what is true and what is told.

    Parameters
    ----------
    truth : (n, K) uint8
    told : (n, K) bool

    Returns
    -------
    counts : (K, 2, 3) int64
        Those of each tag as `data.metrics.confusion.confusion_counts` gives them.
    """
    counts = np.zeros((truth.shape[1], 2, 3), np.int64)
    tags = np.broadcast_to(np.arange(truth.shape[1]), truth.shape)
    np.add.at(counts, (tags, truth, told.astype(np.int64)), 1)
    return counts


def tag_proba(logits: Tensor, side: int) -> NDArray[np.float32]:
    """Return the probabilities (N, K) of logits (N, K), whatever the side of the scenes."""
    proba: NDArray[np.float32] = logits.sigmoid().cpu().numpy()
    return proba
