"""Settings of how input channels are scaled, and of how training crops are augmented."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from data.settings import Settings

__all__ = ["AugmentSettings", "NormaliseSettings"]


class NormaliseSettings(Settings):
    """How input channels are scaled; `normalise: quantile` is short for `normalise: {by: quantile}`."""

    shorthand: ClassVar[str] = "by"

    by: Literal["zscore", "quantile", "minmax", "fixed", "pretrained"] = Field(
        "zscore",
        description="zscore: to mean 0 and standard deviation 1; quantile: quantiles `low` and `high` to -1 and 1; "
        "minmax: extremes to -1 and 1; fixed: divided by `scale`; pretrained: divided by `scale`, then as the "
        "pretrained weights were learned, and zscore for channels that they do not know",
    )
    low: float = Field(0.02, ge=0, le=1, description="quantile that becomes -1, as a share of the pixels")
    high: float = Field(0.98, ge=0, le=1, description="quantile that becomes 1, as a share of the pixels")
    scale: float | dict[str, float] = Field(
        1.0, description="fixed and pretrained: divisor of all channels, or of each by name, 1 if not named"
    )
    per_scene: bool = Field(False, description="measure each scene by itself, not all training scenes together")
    clip: float | None = Field(
        None, gt=0, description="largest distance from 0 after scaling, beyond which values are clipped; default: none"
    )

    @model_validator(mode="after")
    def _is_a_scale(self) -> "NormaliseSettings":
        if self.low >= self.high:
            raise ValueError(f"expected low to be less than high, got {self.low} and {self.high}")
        scales = self.scale.values() if isinstance(self.scale, dict) else [self.scale]
        if not all(scale > 0 for scale in scales):
            raise ValueError(f"expected scales above 0, got {self.scale}")
        if self.by in ("fixed", "pretrained") and self.per_scene:
            raise ValueError(
                f"expected by: zscore, quantile or minmax with per_scene, got {self.by}, which measures nothing"
            )
        return self


class AugmentSettings(Settings):
    """How crops are altered at random, labels in step with images; by default `flips` alone is on.

    Values are in units of the normalised channels: with zscore standard deviations of the training pixels.
    """

    flips: bool = Field(True, description="flip and rotate by quarter turns, all 8 ways equally often")
    rotate: float = Field(0.0, ge=0, le=180, description="rotate by up to N degrees, either way")
    scale: float = Field(1.0, ge=1, le=2, description="enlarge or shrink up to N times")
    brightness: float = Field(0.0, ge=0, description="add up to ± N to each channel")
    contrast: float = Field(0.0, ge=0, lt=1, description="multiply each channel by 1 ± up to N")
    noise: float = Field(0.0, ge=0, description="add Gaussian noise of a standard deviation of up to N")
    blur: float = Field(0.0, ge=0, le=16, description="blur by a Gaussian of a standard deviation of up to N pixels")
    band_dropout: float = Field(
        0.0, ge=0, lt=1, description="probability that a channel becomes nodata; one always stays"
    )
    coarse_dropout: int = Field(0, ge=0, description="up to N rectangles of the image become nodata; labels stay")
    hole: float = Field(0.25, gt=0, le=1, description="longest side of such a rectangle, as a share of the crop's side")
    mixup: float = Field(
        0.0, ge=0, description="mix crops in pairs; alpha of the Beta distribution of the shares; 0: off"
    )
    cutmix: float = Field(
        0.0, ge=0, description="paste a rectangle of another crop; alpha of the Beta distribution of its area; 0: off"
    )
    mix_share: float = Field(
        0.5, ge=0, le=1, description="share of the crops that mixup or cutmix alter; half each if both are on"
    )
