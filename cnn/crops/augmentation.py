"""Augment batches by the parameters of each crop, image and label in step, where the network is.

Channels are NaN where there is no data, until the last: what is moved, smoothed or made brighter stays data or
nodata, and what comes in from outside is nodata and labelled `IGNORE`. Images are interpolated, labels never.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv1d, grid_sample

from cnn.crops.augmentation_params import AugmentationParams, reach
from cnn.inputs.resize import resize_channels, resize_label
from cnn.inputs.settings import AugmentSettings
from cnn.losses.pixel_losses import label_shares
from data.scenes.classes import IGNORE

__all__ = ["Augmentation", "Batch"]

Batch = tuple[Tensor, Tensor, AugmentationParams]


class Augmentation:
    """Makes of a batch of crops what the network sees and what is true of it.

    Parameters
    ----------
    settings : AugmentSettings
    side : int
        Of the squares that the network sees, pixels.
    labels : int
        Number of label indices.
    """

    def __init__(self, settings: AugmentSettings, side: int, labels: int) -> None:
        self.settings, self.side, self.labels = settings, side, labels
        self.reach = reach(settings, side)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Resize and alter a batch.

        Noise comes from torch's own generator, all other parameters are sampled already.

        Parameters
        ----------
        batch : (inputs, truth, params)
            Of `cnn.crops.crops.Crops`, stacked: (N, C, h, w) float32, NaN where there is no data; labels (N, h, w)
            uint8, or tags (N, K) uint8; and what `cnn.crops.augmentation_params` sampled.

        Returns
        -------
        inputs : (N, C, side, side) float32
            0 where there is no data.
        truth : (N, side, side) uint8, or (N, labels, side, side) float32; of tags (N, K) uint8 or float32
            Label indices, or `IGNORE`; if crops are mixed the share of each label, all 0 where it is unknown. Tags,
            if crops are mixed their shares by area; `IGNORE` where they are unknown.
        """
        inputs, truth, params = batch
        of_pixels = truth.ndim == 3
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            label = truth if of_pixels else torch.zeros_like(inputs[:, 0], dtype=torch.uint8)
            inputs, label = resize_channels(inputs, self.reach, self.reach), resize_label(label, self.reach, self.reach)
            if "warp" in params:
                inputs, label = warp(inputs, label, params["warp"], self.side)
            if "gain" in params:
                inputs = inputs * params["gain"][..., None, None] + params["bias"][..., None, None]
            if "blur" in params:
                inputs = blur(inputs, params["blur"], math.ceil(3 * self.settings.blur))
            if "noise" in params:
                inputs = inputs + torch.randn_like(inputs) * params["noise"][:, None, None, None]
            if "lost" in params:
                inputs = inputs.masked_fill(params["lost"][..., None, None], torch.nan)
            if "holes" in params:
                holes = inside(params["holes"], self.side).any(dim=1, keepdim=True)
                inputs = inputs.masked_fill(holes, torch.nan)
            inputs = inputs.nan_to_num(nan=0.0)
            if not {"mixup", "cutmix"} & set(params):
                return inputs, label if of_pixels else truth
            return mix(inputs, label_shares(label, self.labels) if of_pixels else truth, params)


def warp(inputs: Tensor, label: Tensor, matrices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Rotate and scale squares about their middles, and return smaller squares from the middle of them.

    Parameters
    ----------
    inputs : (N, C, reach, reach) float32
        NaN where there is no data; a pixel has data if the nearest one of the original has.
    label : (N, reach, reach) uint8
    matrices : (N, 2, 2) float32
        Offsets (rows, columns) from the middle of the result → from the middle of the original.
    side : int

    Returns
    -------
    inputs : (N, C, side, side) float32
    label : (N, side, side) uint8
    """
    # torch counts columns before rows, in halves of a side.
    matrices = matrices.flip(1, 2) * (side / label.shape[-1])
    corners = torch.cat([matrices, torch.zeros_like(matrices[:, :, :1])], dim=2)
    grid = affine_grid(corners, [len(inputs), 1, side, side], align_corners=False)

    def sample(values: Tensor, mode: str) -> Tensor:
        return grid_sample(values, grid, mode, "zeros", align_corners=False)

    known = ~inputs.isnan()
    total, weight = sample(torch.where(known, inputs, 0), "bilinear"), sample(known.float(), "bilinear")
    seen = (sample(known.float(), "nearest") > 0) & (weight > 0)
    # What comes in from outside is 0 to torch, and 0 is a label.
    moved = sample(label[:, None].float() - IGNORE, "nearest")[:, 0] + IGNORE
    return torch.where(seen, total / weight, torch.nan), moved.to(torch.uint8)


def blur(inputs: Tensor, deviations: Tensor, radius: int) -> Tensor:
    """Smooth channels (N, C, H, W) by Gaussians of deviations (N,) in pixels, over the data within a radius."""
    offsets = torch.arange(-radius, radius + 1, device=inputs.device)
    kernels = torch.exp(-((offsets / deviations.clamp(min=1e-2)[:, None]) ** 2) / 2)
    kernels = kernels.repeat_interleave(inputs.shape[1], dim=0)[:, None]

    def smooth(values: Tensor) -> Tensor:
        for _ in range(2):  # Along rows, then along columns.
            lines = conv1d(values.movedim(0, 1), kernels, padding=radius, groups=len(values))
            values = lines.movedim(1, 0).mT
        return values.reshape(inputs.shape)

    known = ~inputs.isnan()
    smoothed = smooth(torch.where(known, inputs, 0).flatten(0, 1)) / smooth(known.float().flatten(0, 1))
    return torch.where(known, smoothed, torch.nan)


def inside(boxes: Tensor, side: int) -> Tensor:
    """Return which pixels (…, side, side) have their centres in boxes (…, 4): top, left, bottom, right."""
    centres = torch.arange(side, device=boxes.device) + 0.5
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(-1))
    rows, cols = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
    return rows[..., :, None] & cols[..., None, :]


def mix(inputs: Tensor, truth: Tensor, params: AugmentationParams) -> tuple[Tensor, Tensor]:
    """Mix each crop with the next one of the batch; the truth of a mixture is known where that of both is.

    Parameters
    ----------
    inputs : (N, C, side, side) float32
    truth : (N, L, side, side) float32, or of tags (N, K) uint8
        See `Augmentation`.
    params : AugmentationParams

    References
    ----------
    Zhang, Cissé, Dauphin and Lopez-Paz 2018, mixup, arXiv:1710.09412.
    Yun et al. 2019, CutMix, doi:10.1109/ICCV.2019.00612.
    """
    share = _kept_shares(params, inputs[:, :1])
    mixed = torch.lerp(inputs.roll(-1, 0), inputs, share)
    known = truth.sum(dim=1, keepdim=True) > 0 if truth.ndim == 4 else truth != IGNORE
    if truth.ndim == 2:
        share = share.mean(dim=(2, 3))
    both = torch.lerp(truth.roll(-1, 0).float(), truth.float(), share)
    sure = (known | (share == 0)) & (known.roll(-1, 0) | (share == 1))
    return mixed, both.masked_fill(~sure, 0 if truth.ndim == 4 else IGNORE)


def _kept_shares(params: AugmentationParams, like: Tensor) -> Tensor:
    """Return the share (N, 1, side, side) that each crop keeps of its pixels in a mixture with the next one."""
    share = torch.ones_like(like)
    if "mixup" in params:
        share = share * params["mixup"][:, None, None, None]
    if "cutmix" in params:
        share = share * ~inside(params["cutmix"], like.shape[-1])[:, None]
    return share
