"""What the ensemble and the submission can be told in the experiment file."""

from typing import Literal

from pydantic import Field

from data.metrics import MetricName
from data.settings import Settings

__all__ = ["EnsembleSettings", "SubmissionSettings"]


class EnsembleSettings(Settings):
    """How the members are blended, and for what."""

    metric: MetricName | None = Field(None, description="what is optimised; default: dice when binary, else macro_iou")
    blend: Literal["greedy", "convex", "equal", "best"] = Field(
        "greedy",
        description="most that may be tried: greedy selection with replacement, a grid of convex weights, equal "
        "weights, the best member alone; each includes those after it",
    )
    thresholds: Literal["per-class", "fixed"] = Field(
        "per-class", description="tuned out of fold, or 0.5 (binary) and the plain argmax (multiclass)"
    )
    sample: int = Field(1_000_000, ge=1000, description="most pixels that weights are searched on; scores use them all")
    resamples: int = Field(1000, ge=10, description="bootstrap resamples of the groups behind each interval")
    interval: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")


class SubmissionSettings(Settings):
    """What is handed in."""

    format: Literal["geotiff", "kelp"] = Field(
        "geotiff", description="geotiff: class maps; kelp: a tar of 0/1 GeoTIFFs"
    )
