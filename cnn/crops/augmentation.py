"""Batches altered as was drawn for each crop, image and label in step, where the network is: on the GPU if on one.

Planes are NaN where there is no data, until the last: what is drawn, moved, smoothed or made brighter stays data or
nodata, and what comes in from outside is nodata and labelled `IGNORE`. Images are interpolated, labels never.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, conv1d, grid_sample

from cnn.crops.augmentation_params import Draws, reach
from cnn.inputs.resize import resize_label, resize_planes
from cnn.inputs.settings import AugmentSettings
from cnn.losses.pixel_losses import label_shares
from data.scenes.classes import IGNORE

__all__ = ["Augmentation", "Batch", "mix_shares"]

Batch = tuple[Tensor, Tensor, Draws]


class Augmentation:
    """What makes of a batch as it was cut one as the network is to see it.

    Parameters
    ----------
    settings : AugmentSettings
    side : int
        Of the squares that the network sees, pixels.
    labels : int
        How many label indices there are.
    """

    def __init__(self, settings: AugmentSettings, side: int, labels: int) -> None:
        self.settings, self.side, self.labels = settings, side, labels
        self.reach = reach(settings, side)

    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Resize and alter a batch.

        Noise is drawn from torch's own generator, all else is drawn already.

        Parameters
        ----------
        batch : (inputs, label, draws)
            Of `cnn.crops.crops.Crops`: (N, C, cut, cut) float32 NaN where there is no data, (N, cut, cut) uint8, and
            what `cnn.crops.augmentation_params` drew, stacked.

        Returns
        -------
        inputs : (N, C, side, side) float32
            0 where there is no data.
        truth : (N, side, side) uint8, or (N, labels, side, side) float32
            Label indices or `IGNORE`; the share of each label, all 0 where it is unknown, if crops are mixed.
        """
        inputs, label, draws = batch
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            inputs, label = resize_planes(inputs, self.reach, self.reach), resize_label(label, self.reach, self.reach)
            if "warp" in draws:
                inputs, label = warp(inputs, label, draws["warp"], self.side)
            if "gain" in draws:
                inputs = inputs * draws["gain"][..., None, None] + draws["bias"][..., None, None]
            if "blur" in draws:
                inputs = blur(inputs, draws["blur"], math.ceil(3 * self.settings.blur))
            if "noise" in draws:
                inputs = inputs + torch.randn_like(inputs) * draws["noise"][:, None, None, None]
            if "lost" in draws:
                inputs = inputs.masked_fill(draws["lost"][..., None, None], torch.nan)
            if "holes" in draws:
                holes = inside(draws["holes"], self.side).any(dim=1, keepdim=True)
                inputs = inputs.masked_fill(holes, torch.nan)
            inputs = inputs.nan_to_num(nan=0.0)
            if not {"mixup", "cutmix"} & set(draws):
                return inputs, label
            return mix(inputs, label_shares(label, self.labels), draws)


def warp(inputs: Tensor, label: Tensor, matrices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Turn and scale squares about their middles, and cut smaller squares out of the middle of them.

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
    """Smooth planes (N, C, H, W) by Gaussians of deviations (N,) in pixels, over what data there is within a radius."""
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
    """Tell which pixels (…, side, side) have their centres in boxes (…, 4): top, left, bottom, right."""
    centres = torch.arange(side, device=boxes.device) + 0.5
    top, left, bottom, right = (edge[..., None] for edge in boxes.unbind(-1))
    rows, cols = (centres >= top) & (centres < bottom), (centres >= left) & (centres < right)
    return rows[..., :, None] & cols[..., None, :]


def mix(inputs: Tensor, truth: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Mix each crop with the next one of the batch; the truth of a mixture is known where that of both is.

    References
    ----------
    Zhang, Cissé, Dauphin and Lopez-Paz 2018, mixup, arXiv:1710.09412.
    Yun et al. 2019, CutMix, doi:10.1109/ICCV.2019.00612.
    """
    share = mix_shares(draws, truth[:, :1])
    mixed = torch.lerp(truth.roll(-1, 0), truth, share)
    known = truth.sum(dim=1, keepdim=True)
    sure = ((known > 0) | (share == 0)) & ((known.roll(-1, 0) > 0) | (share == 1))
    return torch.lerp(inputs.roll(-1, 0), inputs, share), mixed * sure


def mix_shares(draws: Draws, like: Tensor) -> Tensor:
    """Return the share (N, 1, side, side) that each crop keeps of its pixels in a mixture with the next one."""
    share = torch.ones_like(like)
    if "mixup" in draws:
        share = share * draws["mixup"][:, None, None, None]
    if "cutmix" in draws:
        share = share * ~inside(draws["cutmix"], like.shape[-1])[:, None]
    return share
