"""An ensemble's decision as a module of torch: what the networks of its members say becomes a score of each label."""

from collections.abc import Sequence
from functools import reduce

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from data.maps.geotiff import NODATA, TOP
from ensemble.decide.decision.blend import UNIONS, Blend, spread_out
from ensemble.decide.decision.calibration import STORED, Calibration
from ensemble.decide.decision.decision import Decision
from ensemble.decide.decision.thresholds import threshold_bin

__all__ = ["Decided"]


class Table(nn.Module):
    """What each class's stored probability becomes, by looking it up.

    Parameters
    ----------
    rows : (K, 65535) float32
    """

    rows: Tensor
    starts: Tensor

    def __init__(self, rows: NDArray[np.generic]) -> None:
        super().__init__()
        flat = torch.from_numpy(np.array(rows, np.float32, order="C"))
        self.register_buffer("rows", flat.reshape(-1))
        self.register_buffer("starts", torch.arange(len(flat))[None, :, None, None] * NODATA)

    def forward(self, stored: Tensor) -> Tensor:
        """Turn stored probabilities (N, K, H, W) int64 into values (N, K, H, W) float32."""
        values: Tensor = self.rows[stored + self.starts]
        return values


class Decided(nn.Module):
    """Members' networks, and the ensemble's decision on what they say, as arithmetic on the same stored probabilities.

    Parameters
    ----------
    models : sequence of nn.Module
        Of the members that the decision uses: channels (N, C, H, W) to probabilities (N, K, H, W).
    channels : sequence of sequence of int
        Which bands of a layer each model sees.
    decision : Decision
        Of these members alone, in this order; its blend is a `Blend`. Cleaning is none of it.
    nodata : sequence of float
        Values that mean no data.
    scale : float
        What the input is multiplied by to be as measured.
    """

    weights: Tensor
    factors: Tensor

    def __init__(
        self,
        models: Sequence[nn.Module],
        channels: Sequence[Sequence[int]],
        decision: Decision,
        nodata: Sequence[float] = (),
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        assert isinstance(decision.blend, Blend)
        self.models, self.channels = nn.ModuleList(models), [list(places) for places in channels]
        self.space, self.exclusive = decision.blend.space, decision.blend.exclusive
        self.nodata, self.scale, self.least = tuple(nodata), scale, threshold_bin(decision.thresholds[0])
        n_classes = len(decision.thresholds)
        self.register_buffer("weights", torch.tensor(decision.blend.weights)[:, :, None, None])
        self.register_buffer("factors", torch.tensor(decision.thresholds)[:, None, None])
        self.calibrations = nn.ModuleList(
            nn.Identity() if one.method == "none" else Table(_curves(one, n_classes)) for one in decision.calibrations
        )
        known = np.arange(NODATA, dtype=np.uint16)
        spread = known if self.space in UNIONS else spread_out(known, self.space, self.exclusive)
        self.spread = Table(np.broadcast_to(spread, (n_classes, NODATA)))

    def forward(self, layer: Tensor) -> Tensor:
        """Turn the bands of a layer (N, C, H, W) float32 into a score of each label (N, L, H, W); the highest wins."""
        values = layer * self.scale
        for value in self.nodata:
            # What was divided and multiplied again may be off in the last digits.
            values = torch.where((values - value).abs() <= 1e-6 * max(abs(value), 1), torch.nan, values)
        calibrated = []
        for model, places, calibration in zip(self.models, self.channels, self.calibrations, strict=True):
            stored = _store(model(values[:, places]))
            table = calibration(stored)
            # Of exclusive classes tables hold shares.
            calibrated.append(_store(table / table.sum(1, True)) if self._shares(calibration) else table.long())
        blended = calibrated[0] if len(calibrated) == 1 else self._mix(calibrated)
        return self._score(blended.float())

    def _shares(self, calibration: nn.Module) -> bool:
        return self.exclusive and isinstance(calibration, Table)

    def _mix(self, calibrated: Sequence[Tensor]) -> Tensor:
        spread, space = [self.spread(stored) for stored in calibrated], self.space
        if space == "largest":
            mean = reduce(torch.maximum, spread) / TOP
        elif space == "smallest":
            mean = reduce(torch.minimum, spread) / TOP
        elif space == "noisy-or":
            mean = 1 - reduce(torch.mul, (1 - values / TOP for values in spread))
        else:
            total = reduce(torch.add, (self.weights[:, member] * values for member, values in enumerate(spread)))
            mean = total / self.weights.sum(dim=1)
            sums = {"probability": mean / TOP, "logit": mean.softmax(dim=1) if self.exclusive else mean.sigmoid()}
            mean = sums[space]
        if self.exclusive:
            mean = mean / mean.sum(dim=1, keepdim=True).clamp(min=1 / TOP)
        return _store(mean)

    def _score(self, blended: Tensor) -> Tensor:
        if self.exclusive:
            scores = (blended + 0.5) * self.factors
            return scores / scores.sum(dim=1, keepdim=True)
        # Below the threshold less than 0.5, from it on more.
        above = 0.5 + 0.5 * (blended - self.least + 1) / (TOP - self.least + 1)
        score = torch.where(blended >= self.least, above, 0.5 * blended / (self.least + 1))
        return torch.cat([1 - score, score], dim=1)


def _store(proba: Tensor) -> Tensor:
    """Return probabilities as they are stored in maps, int64."""
    return (proba.clamp(0, 1) * TOP).round().long()


def _curves(calibration: Calibration, n_classes: int) -> NDArray[np.float64]:
    """Return what each stored value becomes, (K, 65535): stored values, or shares of exclusive classes."""
    curves = np.stack([calibration.curve(position, STORED) for position in range(n_classes)])
    return curves if calibration.exclusive else np.rint(curves * TOP)
