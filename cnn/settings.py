"""What a member of the CNN branch can be told in the experiment file."""

from typing import Any, Literal

from pydantic import Field, model_validator

from data.settings import Settings

__all__ = ["CnnSettings", "DeviceName", "LossName", "PrecisionName"]

DeviceName = Literal["auto", "cpu", "cuda"]
LossName = Literal["ce", "dice", "ce+dice"]
PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


class CnnSettings(Settings):
    """A member that is a convolutional network: what it is, what it sees, how it is trained and applied."""

    branch: Literal["cnn"] = "cnn"

    architecture: str = Field("unet", description="segmentation-models-pytorch architecture, such as unet or fpn")
    encoder: str = Field("resnet34", description="its encoder: an smp name, or `tu-` and a timm name")
    encoder_depth: int | None = Field(
        None, ge=1, le=5, description="times the encoder halves its input; default: the architecture's own"
    )
    decoder_channels: list[int] | int | None = Field(
        None, description="width of the decoder, for a U-Net from its coarsest to its finest block"
    )
    parameters: dict[str, Any] = Field({}, description="further arguments of the smp architecture, as smp names them")
    weights: str | None = Field(
        None,
        description="what the network starts from: nothing, weights of the hub such as `imagenet`, or a local file "
        "(an earlier run's must not have seen these scenes: their scores would be flattered)",
    )
    inputs: list[str] | None = Field(
        None,
        min_length=1,
        description="bands and features that are its input planes; default: all bands but masks",
    )

    loss: LossName = Field("ce+dice", description="cross entropy, Dice, or their sum")
    crop: int = Field(256, ge=8, description="side of the square crops trained on, in pixels")
    batch_size: int = Field(16, ge=1, description="crops a step")
    epochs: int = Field(50, ge=1)
    steps: int | None = Field(None, ge=1, description="steps an epoch; default: as many as show the scenes' area once")
    learning_rate: float = Field(1e-3, gt=0, description="peak of the one-cycle schedule")
    weight_decay: float = Field(1e-2, ge=0, description="of AdamW; biases and normalisation weights have none")
    gradient_clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0: any")
    flips: bool = Field(True, description="show crops mirrored and turned by quarter turns at random")
    positive_share: float | None = Field(
        None, ge=0, le=1,
        description="share of crops that are placed on a pixel of the positive class (binary) or of a class drawn "
        "evenly from all (multiclass), so that rare ones are seen; default: 0.5 when binary, 0 when multiclass",
    )  # fmt: skip
    cache_gb: float = Field(4, ge=0, description="memory for the training scenes; if they need more they are re-read")

    tile: int = Field(512, ge=32, description="side of the windows that larger scenes are predicted in, in pixels")
    overlap: int = Field(128, ge=0, description="least overlap of neighbouring windows, blended smoothly, in pixels")
    turns: bool = Field(False, description="average predictions over mirror images and quarter turns: 8 times the work")

    device: DeviceName = Field("auto", description="auto takes a GPU when there is one")
    precision: PrecisionName = Field(
        "auto", description="of the network's arithmetic; auto: bfloat16 or float16 on a GPU, float32 on the CPU"
    )

    @model_validator(mode="after")
    def _overlap_leaves_a_middle(self) -> "CnnSettings":
        if 2 * self.overlap > self.tile:
            raise ValueError(f"expected overlap to be at most half of tile, got {self.overlap} of {self.tile}")
        return self
