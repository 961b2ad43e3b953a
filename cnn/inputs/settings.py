"""How a member of the CNN branch sees its scenes: scaled how, and altered how while it learns."""

from typing import Any, Literal

from pydantic import Field, model_validator

from data.settings import Settings

__all__ = ["AugmentSettings", "NormaliseSettings"]


class NormaliseSettings(Settings):
    """How input planes are brought to one scale; `normalise: quantile` alone says by what."""

    by: Literal["zscore", "quantile", "minmax", "fixed"] = Field(
        "zscore",
        description="mean to 0 and deviation to 1; quantiles, or the extremes, to -1 and 1; or division by `scale`",
    )
    low: float = Field(0.02, ge=0, le=1, description="share of the pixels below what quantile brings to -1")
    high: float = Field(0.98, ge=0, le=1, description="share of the pixels below what quantile brings to 1")
    scale: float | dict[str, float] = Field(
        1.0, description="of fixed: what planes are divided by, all or each by name"
    )
    per_scene: bool = Field(False, description="measured in each scene by itself, not in all training scenes together")
    clip: float | None = Field(None, gt=0, description="cut off what is then farther from 0; default: nothing")

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"by": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _is_a_scale(self) -> "NormaliseSettings":
        if self.low >= self.high:
            raise ValueError(f"expected low to be less than high, got {self.low} and {self.high}")
        scales = self.scale.values() if isinstance(self.scale, dict) else [self.scale]
        if not all(scale > 0 for scale in scales):
            raise ValueError(f"expected scales above 0, got {self.scale}")
        if self.by == "fixed" and self.per_scene:
            raise ValueError(
                "expected by: zscore, quantile or minmax with per_scene, got fixed, which measures nothing"
            )
        return self


class AugmentSettings(Settings):
    """How crops are altered at random, the label in step; what is at its default but `turns` is off.

    Units of value are those of the normalised planes: deviations of the training pixels with zscore.
    """

    turns: bool = Field(True, description="mirrored and turned by quarter turns")
    rotate: float = Field(0.0, ge=0, le=180, description="turned by up to so many degrees, either way")
    scale: float = Field(1.0, ge=1, le=2, description="enlarged up to so many times, or shrunk")
    brightness: float = Field(0.0, ge=0, description="each plane made brighter or darker by up to so much")
    contrast: float = Field(0.0, ge=0, lt=1, description="each plane multiplied by 1 ± up to so much")
    noise: float = Field(0.0, ge=0, description="Gaussian noise added, of a deviation of up to so much")
    blur: float = Field(0.0, ge=0, le=16, description="Gaussian blur of a deviation of up to so many pixels")
    band_dropout: float = Field(
        0.0, ge=0, lt=1, description="chance of each plane to be without data; one always stays"
    )
    coarse_dropout: int = Field(0, ge=0, description="up to so many rectangles of the image without data; labels stay")
    hole: float = Field(0.25, gt=0, le=1, description="longest side of such a rectangle, as a share of the crop's")
    mixup: float = Field(0.0, ge=0, description="mix a crop with another; alpha of the Beta distribution of shares")
    cutmix: float = Field(0.0, ge=0, description="paste a rectangle of another crop; alpha of the same for its area")
    mix_share: float = Field(0.5, ge=0, le=1, description="share of the crops that mixup and cutmix alter, half each")
